"""The documentation says what the code does."""

import re
import runpy
from pathlib import Path

import pytest

from sen_edge.verify import TOLERANCES

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]


def test_command_reference_is_generated_from_the_code() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "generate_cli.py"))["page"]()
    assert (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8") == page, "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_tolerances_on_the_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs/reference/verification.md").read_text(encoding="utf-8")
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:6]]
        for line in page.splitlines()
        if line.count("|") == 6
    }
    order = [("mlp", "float32"), ("mlp", "float16"), ("snn", "float32"), ("snn", "float16")]
    for index, key in enumerate(order):
        tolerance = TOLERANCES[key]
        assert float(rows["error of an output / standard deviation"][index]) == tolerance.output
        assert float(rows["least share of inputs within it"][index].rstrip(" %")) == 100 * tolerance.readout
        assert float(rows["least argmax agreement"][index].rstrip(" %")) == 100 * tolerance.argmax
        assert float(rows["accuracy on `--data`, points"][index]) == tolerance.accuracy
        if key[0] == "snn":
            assert float(rows["least share of equal spike counts"][index].rstrip(" %")) == 100 * tolerance.spikes


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
