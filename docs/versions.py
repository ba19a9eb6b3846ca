"""Index a folder of sites, one for each version: `python docs/versions.py FOLDER`.

FOLDER has a folder for each release, named by its version, and `dev`. Writes `versions.json`, which the selector
of the theme reads, and `index.html`, which leads to the newest release.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

RELEASE = re.compile(r"\d+\.\d+\.\d+")
DEVELOPMENT = "dev"


def main(folder: Path) -> int:
    """Write the index."""
    names = [path.name for path in folder.iterdir() if path.is_dir()]
    releases = sorted(filter(RELEASE.fullmatch, names), key=lambda name: [*map(int, name.split("."))], reverse=True)
    versions = [*releases, *({DEVELOPMENT} & set(names))]
    if not versions:
        raise SystemExit(f"error: {folder} has no folder of a version, such as 1.2.3 or {DEVELOPMENT}")
    entries = [{"version": name, "title": name, "aliases": []} for name in versions]
    (folder / "versions.json").write_text(json.dumps(entries), encoding="utf-8")
    redirect = f'<!doctype html><title>sen-edge</title><meta http-equiv="refresh" content="0; url={versions[0]}/">'
    (folder / "index.html").write_text(redirect, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
