"""A small runner of MLPerf Tiny: commands that end with `%`, and lines of an answer up to `m-ready`."""

from __future__ import annotations

import os
import re
import select
import time

BYTES_PER_COMMAND, SECONDS = 31, 30


class Runner:
    """A device that reads commands from one file descriptor and answers on another."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing, self._received = reading, writing, b""
        self.greeting = self._answer()

    def command(self, text: str) -> list[str]:
        """Lines of the answer, without the last."""
        os.write(self._writing, f"{text}%".encode())
        return self._answer()

    def load(self, data: bytes) -> list[str]:
        """Answer to the last command of an input."""
        self.command(f"db load {len(data)}")
        parts = [data[start : start + BYTES_PER_COMMAND] for start in range(0, len(data), BYTES_PER_COMMAND)]
        return [self.command(f"db {part.hex()}") for part in parts][-1]

    def infer(self, count: int, warm_ups: int) -> tuple[list[float], int]:
        """Outputs, and microseconds between the timestamps."""
        lines = self.command(f"infer {count} {warm_ups}")
        start, end = (int(line.removeprefix("m-lap-us-")) for line in lines if line.startswith("m-lap-us-"))
        (results,) = (found[1] for line in lines if (found := re.fullmatch(r"m-results-\[(.+)\]", line)))
        return [float(each) for each in results.split(",")], end - start

    def _answer(self) -> list[str]:
        deadline = time.monotonic() + SECONDS
        while b"m-ready\r\n" not in self._received:
            ready, _, _ = select.select([self._reading], [], [], max(0, deadline - time.monotonic()))
            part = os.read(self._reading, 4096) if ready else b""
            if not part:
                raise TimeoutError(f"no m-ready after {self._received!r}")
            self._received += part
        answer, _, self._received = self._received.partition(b"m-ready\r\n")
        return answer.decode().splitlines()
