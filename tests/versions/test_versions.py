"""The page and the lower bounds are those of the pinned environments."""

import pytest

from tests.versions.environments import PAGE, ROOT, environments, lower_bounds, page

OLDEST = [each for each in environments() if each.is_oldest]
#: Extras and Pythons that no environment has.
UNTESTED = {"torch", "tomli"}


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.versions --write`"


@pytest.mark.parametrize("environment", OLDEST, ids=lambda each: each.name)
def test_lower_bounds_are_those_of_the_oldest_environment(environment) -> None:
    bounds = lower_bounds(ROOT / "runtime/pyproject.toml")
    if not environment.is_runtime:
        bounds |= lower_bounds(ROOT / "pyproject.toml")
    pins = {name.lower(): version for name, version in environment.packages.items()}
    for name in set(bounds) - UNTESTED:
        if name in pins or not environment.is_runtime:  # whose extra tflite needs Python 3.10
            bound = bounds[name].split(".")
            assert pins[name].split(".")[: len(bound)] == bound, name


def test_numpy_1_and_2_and_every_python_are_there() -> None:
    assert {each.packages["numpy"][0] for each in environments() if each.has_torch} == {"1", "2"}
    assert {each.python for each in environments()} >= {"3.9", "3.10", "3.11", "3.12", "3.13"}
