"""Discovery of engines, and the interface of their sessions."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from sen_runtime import engines
from sen_runtime.errors import EngineError

BUILT_IN = {
    "c": ".c",
    "litert": ".tflite",
    "native": ".sen",
    "onnxruntime": ".onnx",
    "reference": ".sen",
    "tflite-runtime": ".tflite",
}
MINE = engines.Engine(
    "mine", (".mine", ".own"), load=lambda model, threads=1: None, version=lambda: "1", package="my-engine"
)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One engine of a third party that works, two that do not, and one that is built in."""
    points = [
        EntryPoint("broken", "nowhere.at_all:engine", engines.ENTRY_POINT_GROUP),
        EntryPoint("mine", "tests.engines.test_engines:MINE", engines.ENTRY_POINT_GROUP),
        EntryPoint("odd", "tests.engines.test_engines:BUILT_IN", engines.ENTRY_POINT_GROUP),
        EntryPoint("other", "tests.engines.test_engines:MINE", engines.ENTRY_POINT_GROUP),
        EntryPoint("reference", "sen_runtime.engines.reference:ENGINE", engines.ENTRY_POINT_GROUP),
    ]
    monkeypatch.setattr(engines, "entry_points", lambda group: points)
    engines._entry_points.cache_clear()
    yield
    engines._entry_points.cache_clear()


def test_the_built_in_engines_are_entry_points() -> None:
    found = engines.usable()
    assert BUILT_IN.items() <= {name: each.suffixes[0] for name, each in found.items()}.items()


@pytest.mark.usefixtures("registered")
def test_an_engine_that_does_not_load_is_named_and_disturbs_no_other() -> None:
    assert engines.names() == ("broken", "mine", "odd", "other", "reference")
    assert list(engines.usable()) == ["mine", "reference"]
    assert engines.engine("mine") is MINE and engines.names_for(".own") == ["mine"]
    for name in ("broken", "odd", "other", "absent"):
        with pytest.raises(EngineError, match=f"'{name}'"):
            engines.engine(name)
    with pytest.raises(EngineError, match=r"\.mine, \.own, \.sen; .*'broken'.*'odd'"):
        engines.names_for(".other")


def test_no_engine_at_all_means_that_the_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "entry_points", lambda group: [])
    engines._entry_points.cache_clear()
    with pytest.raises(EngineError) as raised:
        engines.names()
    assert raised.value.hint
    engines._entry_points.cache_clear()
