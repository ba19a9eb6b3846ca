"""Workflows, templates and citation agree with the code."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import sen_edge

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
#: A workflow of this repository, or an action by the hash of its commit.
ACTION = re.compile(r"\./\.github/workflows/\w+\.yml|[\w-]+/[\w-]+@[0-9a-f]{40}")


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in _read(path)["jobs"].values() for step in (job, *job.get("steps", ()))]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_hash_and_rights_are_stated(path: Path) -> None:
    found = _read(path)
    assert found["permissions"] == {}
    for job in found["jobs"].values():
        assert "permissions" in job
    for step in _steps(path):
        assert "uses" not in step or ACTION.fullmatch(step["uses"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_existing_targets(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lines = "\n".join(step.get("run", "") for step in _steps(path))
    for targets in re.findall(r"^make (.+)$", lines, re.MULTILINE):
        for target in targets.split():
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_only_the_job_that_publishes_may_authenticate_at_pypi() -> None:
    jobs = _read(ROOT / ".github/workflows/release.yml")["jobs"]
    trusted = {name for name, job in jobs.items() if job["permissions"].get("id-token") == "write"}
    assert trusted == {"publish"} and jobs["publish"]["environment"]["name"] == "pypi"
    assert all("run" not in step for step in jobs["publish"]["steps"])


def test_the_citation_is_of_this_version() -> None:
    found = _read(ROOT / "CITATION.cff")
    assert found["version"] == sen_edge.__version__ and found["license"] == "Apache-2.0"
    paper, readme = found["preferred-citation"], (ROOT / "README.md").read_text(encoding="utf-8")
    assert paper["title"] in readme and all(author["family-names"] in readme for author in paper["authors"])


def test_issue_templates_have_the_keys_of_forms() -> None:
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        found = _read(path)
        if path.stem != "config":
            assert {"name", "description", "body"} <= set(found)
            inputs = [part for part in found["body"] if part["type"] != "markdown"]
            assert len({part["id"] for part in inputs}) == len(inputs) > 0
