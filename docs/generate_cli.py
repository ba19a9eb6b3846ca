"""Writes docs/reference/cli.md from the commands themselves; `make docs`. A test keeps the page up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer.main

from sen_edge.cli.main import app

PAGE = Path(__file__).parent / "reference" / "cli.md"

HEADER = """# Commands

Generated from the code by `make docs`; do not edit.

Results go to stdout, progress and errors to stderr. `--json` prints a result for programs.

| exit code | meaning |
| --- | --- |
| 0 | ok |
| 1 | failed: the input, the disk, or stdout that takes no output (`>/dev/full`) |
| 2 | usage: an option is unknown, or contradicts the model |
| 3 | verification failed: the artifact disagrees with its checkpoint, or is beyond a budget |
| 4 | a needed extra is missing; the message holds the pip line |
| 130 | interrupted by Ctrl-C, SIGTERM or SIGHUP; nothing is half-written, no temporary folder remains |

Output files do not depend on stdout, and neither files nor exit code depend on stderr. A closed stdout and a pipe whose
reader ended (`| head -1`) leave the exit code as it is. Characters that the encoding of a stream lacks are written as
escapes (`\\u2265`).

`sen-edge --debug COMMAND` shows the traceback of an error.
"""


def page() -> str:
    """The whole page."""
    root = typer.main.get_command(app)
    commands = getattr(root, "commands", {})
    return HEADER + "".join(_section(name, command) for name, command in commands.items())


def _section(name: str, command: Any) -> str:
    params = command.get_params(command.make_context(name, [], resilient_parsing=True))
    arguments = [p for p in params if p.param_type_name == "argument"]
    options = [p for p in params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join(["sen-edge", name, *(_argument(p) for p in arguments), "[OPTIONS]"])
    lines = [f"\n## {name}\n", f"    {usage}\n", (command.help or "").strip() + "\n", "| option | meaning | default |"]
    lines.append("| --- | --- | --- |")
    lines += [_row(option) for option in options]
    return "\n".join(lines) + "\n"


def _argument(argument: Any) -> str:
    return str(argument.human_readable_name if argument.metavar is None else argument.metavar)


def _row(option: Any) -> str:
    flags = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
    text = str(getattr(option, "help", "") or "").replace("|", "\\|")
    if option.required:
        default = "required"
    elif option.default is None or option.default is False or callable(option.default):
        default = ""
    else:
        default = f"`{option.default}`"
    return f"| {flags} | {text} | {default} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
