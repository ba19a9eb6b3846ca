"""Build the documentation site: `make docs`.

The pages keep their places in the repository, so that links lead to the same page here and there: the README is the
start page, and a file that a page links to is copied. Notebooks become pages with the outputs they are stored with.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "site"
INDEX = Path("docs/README.md")
LINK = re.compile(r"\]\(([^)#\s]+)")


def main() -> int:
    """Collect the pages, write the configuration and run the generator; return its exit code."""
    shutil.rmtree(BUILD, ignore_errors=True)
    pages = BUILD / "pages"
    for source in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")]):
        _copy_page(source, pages)
    for notebook in sorted(ROOT.glob("examples/notebooks/*.ipynb")):
        _convert_notebook(notebook, pages)
    shutil.copytree(ROOT / "docs/assets", pages / "assets")
    (BUILD / "mkdocs.yml").write_text(json.dumps(_configuration()), encoding="utf-8")
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=BUILD, check=False).returncode


def _copy_page(source: Path, pages: Path) -> None:
    """Copy a page, and what it links to; links to notebooks become links to their pages."""
    text = source.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        linked = (source.parent / target).resolve()
        if "://" not in target and linked.suffix not in (".md", ".ipynb"):
            _copy(linked, pages)
    copy = pages / source.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(LINK.sub(lambda link: f"]({_page(link[1])}", text), encoding="utf-8")


def _page(target: str) -> str:
    """Return the page of a linked file: notebooks become Markdown."""
    return f"{target.removesuffix('.ipynb')}.md" if target.endswith(".ipynb") else target


def _copy(file: Path, pages: Path) -> None:
    if not file.is_file():
        raise SystemExit(f"error: {file.relative_to(ROOT)} is linked, and no file; the site has no folders")
    copy = pages / file.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, copy)


def _convert_notebook(notebook: Path, pages: Path) -> None:
    """Write a notebook as a page, its pictures next to it, and the notebook itself to download."""
    folder = pages / notebook.parent.relative_to(ROOT)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"output_files_dir": f"{notebook.stem}_files"}
    text, resources = MarkdownExporter().from_notebook_node(nbformat.read(notebook, 4), pictures)
    for name, content in resources["outputs"].items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    heading, _, rest = text.lstrip().partition("\n")
    (folder / f"{notebook.stem}.md").write_text(
        f"{heading}\n\n[Download the notebook]({notebook.name})\n{rest}", encoding="utf-8"
    )
    shutil.copyfile(notebook, folder / notebook.name)


def _configuration() -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((ROOT / "docs/mkdocs.yml").read_text(encoding="utf-8"))
    version = re.search(r'__version__ = "(.+)"', (ROOT / "runtime/sen_runtime/__init__.py").read_text(encoding="utf-8"))
    return {**settings, "site_name": f"{settings['site_name']} {version and version[1]}", "nav": navigation()}


def navigation() -> list[dict[str, Any]]:
    """Return the sections of the index with their pages; that of the decision records has all records."""
    text = (ROOT / INDEX).read_text(encoding="utf-8")
    nav: list[dict[str, Any]] = [{"Start": "README.md"}]
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        links = re.findall(r"- \[(.+?)\]\((.+?)\)", body)
        pages = [{name.replace("`", ""): os.path.normpath(INDEX.parent / _page(target))} for name, target in links]
        nav.append({title: pages})
    for page in sorted(ROOT.glob("docs/adr/0*.md")):
        nav[-1][next(iter(nav[-1]))].append(page.relative_to(ROOT).as_posix())
    project = sorted(page.name for page in ROOT.glob("*.md") if page.name != "README.md")
    return [*nav, {"Project": [str(INDEX), *project]}]


if __name__ == "__main__":
    sys.exit(main())
