"""`make consumers`: run all files in all tools, and write record.json and docs/reference/consumers.md."""

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.consumers import table
from tests.consumers.matrix import run_all

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        results = run_all(Path(folder))
    table.save(table.record(results))
    for tool, cells in results.items():
        counts = Counter(cell.status for cell in cells.values())
        summary = ", ".join(f"{counts[each]} {each}" for each in table.STATUSES if counts[each])
        sys.stderr.write(f"{tool.target:6} {tool.name:20} {summary}\n")
