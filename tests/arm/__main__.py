"""`python -m tests.arm [BOARD]`: prepare the device, run everything on it and here, print the table.

Exit codes: 0 all agree; 1 the device cannot be prepared; 2 usage; 3 something disagrees or did not run; 4 packages of
this machine are missing.
"""

from __future__ import annotations

import sys
import time

from tests.arm.boards import BOARDS
from tests.arm.compare import compare, table
from tests.arm.host import TESTS, export, fresh_folder, run_here, run_tests, run_there
from tests.arm.root import MissingToolsError, NotReadyError, prepare, progress


def main(arguments: list[str]) -> int:
    """The exit code."""
    start = time.monotonic()
    name = arguments[0] if arguments else "pi4"
    if len(arguments) > 1 or name not in BOARDS:
        progress(f"expected one of {', '.join(BOARDS)}")
        return 2
    try:
        device = prepare(BOARDS[name])
        folder = fresh_folder()
        artifacts = export(folder)
    except NotReadyError as error:
        progress(f"error: {error}")
        return 4 if isinstance(error, MissingToolsError) else 1
    here, there = run_here(artifacts, folder), run_there(device, artifacts, folder)
    rows = compare(device.board, artifacts, here, there)
    passed, said = run_tests(device)
    sys.stdout.write(f"{table(rows)}\n\n{' '.join(TESTS)} on the device: {said}\n")
    failed = sum(bool(row.problem) for row in rows)
    verdict = f"{failed} of {len(rows)} rows failed" if failed else f"all {len(rows)} rows agree"
    tests = "its tests pass" if passed else "its tests FAIL"
    progress(f"{device.board.title}: {verdict}, {tests}, {time.monotonic() - start:.0f} s")
    return 0 if rows and passed and not failed else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
