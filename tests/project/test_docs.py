"""Consistency of documentation and code."""

import json
import re
import runpy
from pathlib import Path

import pytest

from sen_edge.exporting.verify.result import TOLERANCES

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")]


def test_reference_pages_are_generated_from_the_code() -> None:
    for name, content in runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]().items():
        assert (ROOT / "docs/reference" / name).read_text(encoding="utf-8") == content, "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            linked = page.parent / target if target else page
            assert linked.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in _anchors(linked), f"{page.name} links to {target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    listed = {
        folder / target for folder in (ROOT / "docs", ROOT / "docs/adr") for target in _targets(folder / "README.md")
    }
    assert {*ROOT.glob("docs/**/*.md")} - listed == {ROOT / "docs/README.md"}


def _targets(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))


def test_tolerances_on_the_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs/reference/verification.md").read_text(encoding="utf-8")
    lines = [line.split("|")[1:-1] for line in page.splitlines() if line.count("|") == len(TOLERANCES) + 2]
    heading, _, *rows = [[cell.strip() for cell in line] for line in lines]
    assert heading[1:] == [", ".join(key) for key in TOLERANCES]
    cells = {name: [cell.removesuffix(" %") for cell in values] for name, *values in rows}
    for index, ((architecture, _), tolerance) in enumerate(TOLERANCES.items()):
        expected = {
            "error of an output / standard deviation": tolerance.output,
            "min share of inputs within it": 100 * tolerance.readout,
            "min equal decisions": 100 * tolerance.decisions,
            "min share of equal spike counts": 100 * tolerance.spikes if architecture == "snn" else None,
            "score on `--data`, points or % of the variance": tolerance.score,
            "min share of inputs within that": 100 * tolerance.rounding_share if tolerance.rounding else None,
        }
        for name, value in expected.items():
            assert (float(cells[name][index]) if cells[name][index] else None) == value
        unit = "steps" if tolerance.rounding_unit == "step" else "std"
        rounding = f"{tolerance.rounding:g} {unit}" if tolerance.rounding else ""
        assert cells["error against the exported network"][index] == rounding


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_versions_of_the_site_are_listed_newest_first(tmp_path: Path) -> None:
    main = runpy.run_path(str(ROOT / "docs/versions.py"))["main"]
    with pytest.raises(SystemExit):
        main(tmp_path)
    for name in ("0.9.0", "0.10.1", "dev", "other"):
        (tmp_path / name).mkdir()
    assert main(tmp_path) == 0
    entries = json.loads((tmp_path / "versions.json").read_text(encoding="utf-8"))
    assert [entry["version"] for entry in entries] == ["0.10.1", "0.9.0", "dev"]
    assert "url=0.10.1/" in (tmp_path / "index.html").read_text(encoding="utf-8")
