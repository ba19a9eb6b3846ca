"""Write docs/reference/cli.md, api.md and schemas from the code: `make docs`. A test checks that they are current."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import typer.main

import sen_edge
import sen_runtime
from sen_edge.cli.main import app
from sen_edge.cli.options import options_of
from sen_edge.exporting import manifest_schema
from sen_runtime.bench import record

REFERENCE = Path(__file__).parent / "reference"
#: Schemas of the runtime.
RECORDS = ("record", "history")

CLI_HEADER = """# Commands

Generated from the code by `make docs`; do not edit.

Results go to stdout, progress and errors to stderr. `--json` prints a result for programs.

| exit code | meaning |
| --- | --- |
| 0 | ok |
| 1 | error of an input, the disk or stdout |
| 2 | usage: an unknown option, or one that contradicts the model |
| 3 | verification failed: an artifact disagrees with its model or exceeds a budget |
| 4 | a required extra is missing; the message contains the pip command |
| 130 | interrupted by Ctrl-C, SIGTERM or SIGHUP; no partial files remain |

Output files do not depend on stdout; files and exit code do not depend on stderr. A closed stdout or pipe (`| head -1`)
does not change the exit code. Characters outside the encoding of a stream are written as escapes (`\\u2265`).

`sen-edge --debug COMMAND` shows the traceback of an error. `--quiet` leaves warnings and errors on stderr, and
results on stdout.

`sen-edge --install-completion` installs completion of commands, options and their values for the current shell (bash,
zsh, fish, PowerShell); `--show-completion` prints the script.

| variable | effect |
| --- | --- |
| `NO_COLOR` | no colors |
| `FORCE_COLOR` | colors in pipes and files too; progress there remains one line per stage |
| `TERM=dumb` | no colors, and progress as one line per stage |
| `COLUMNS` | width of help and tables on a terminal; help fits 80 columns |
| `SEN_EDGE_DEBUG` | set: as `--debug` |
"""


API_HEADER = """# Python API

Generated from the code by `make docs`; do not edit.

The public API is what `sen_edge` and `sen_runtime` export, listed here with the results it returns. It follows
semantic versioning: before 1.0 minor versions may change it, as documented in the changelog; patch versions do not. All
other modules and names are private.

Models are paths or loaded models; data are names of data sets (`mnist`, `digits`), or paths of `.npz` and IDX files.
Results are frozen dataclasses with a short `repr`, an HTML table for notebooks, and `to_dict()`, plain values for JSON.
Messages name options as the command line spells them: `--max-drop` is the argument `max_drop`.
Functions print nothing: warnings go to the logger `sen_edge`, progress to the callback `progress(stage, fraction)`.
Errors are subclasses of `sen_runtime.errors.SenError`, with `message`, `hint` and `exit_code`.
"""


def pages() -> dict[str, str]:
    """Return the content of each page by name."""
    schemas = {"manifest": manifest_schema.schema_text(), **{name: record.schema_text(name) for name in RECORDS}}
    return {"cli.md": _cli(), "api.md": _api(), **{f"schemas/{name}.json": text for name, text in schemas.items()}}


def _api() -> str:
    parts = [API_HEADER]
    public = {name: getattr(sen_edge, name) for name in sen_edge.__all__ if not name.startswith("_")}
    parts += [_function("sen_edge", name, value) for name, value in public.items() if inspect.isfunction(value)]
    parts.append(_function("sen_runtime", "load", sen_runtime.load))
    parts += [_class(name, value) for name, value in public.items() if inspect.isclass(value)]
    return "\n".join(parts)


def _function(module: str, name: str, function: Any) -> str:
    schema = getattr(function, "schema", None)
    parameters = inspect.signature(function).parameters.values()
    options = set() if schema is None else {each.name for each in dataclasses.fields(schema)}
    own, is_keyword = [], False
    for each in parameters:
        if each.name in options and each.name != "to":
            continue
        if each.kind is each.KEYWORD_ONLY and not is_keyword:
            own.append("*")
            is_keyword = True
        shown = f"**{each.name}" if each.kind is each.VAR_KEYWORD else each.name
        own.append(shown if each.default is each.empty else f"{shown}={_default(each)}")
    lines = [f"## {module}.{name}\n", _signature(f"{module}.{name}", own + ["**options"] * bool(options))]
    lines.append(_text(function))
    if schema is not None:
        helps = _attributes(schema) | {name: option.help for name, option in options_of(schema).items()}
        lines += ["| option | default | meaning |", "| --- | --- | --- |"]
        lines += [
            f"| `{each.name}` | `{_default(each)}` | {helps[each.name]} |"
            for each in parameters
            if each.name in options
        ]
    return "\n".join(lines) + "\n"


def _attributes(cls: type) -> dict[str, str]:
    """Return the meaning of the attributes in the docstring of a class, each in one line."""
    _, _, body = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    entries = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", body, flags=re.MULTILINE)
    texts = {name: re.sub(r"\s+", " ", text).replace("|", "\\|") for name, text in entries}
    return {name: text[:1].upper() + text[1:] for name, text in texts.items()}


def _signature(name: str, parameters: list[str]) -> str:
    """Format a call, one parameter per line where the line would be long."""
    call = f"{name}({', '.join(parameters)})"
    if len(call) > 80:
        call = "\n".join([f"{name}(", *(f"    {parameter}," for parameter in parameters), ")"])
    return f"```python\n{call}\n```\n"


def _class(name: str, cls: type) -> str:
    """Format the docstrings of a class and of its methods, without those common to all results."""
    parts = [f"## sen_edge.{name}\n", _text(cls)]
    for method, value in ((name, getattr(each, "__func__", each)) for name, each in vars(cls).items()):
        is_own = method not in ("summary", "to_dict") and not method.startswith("_")
        if is_own and inspect.isfunction(value):
            parts += [f"### {name}.{method}\n", _text(value)]
    return "\n".join(parts)


def _text(documented: Any) -> str:
    """Format a docstring: entries of its sections as lists, of names with their meaning."""
    blocks = (inspect.getdoc(documented) or "").split("\n\n")
    return "\n\n".join(_section_of(block) for block in blocks) + "\n"


def _section_of(block: str) -> str:
    title, _, body = block.partition("\n")
    if title not in ("Args:", "Attributes:", "Raises:", "Returns:"):
        return block
    body = inspect.cleandoc(body)
    if title == "Returns:":
        return f"**Returns** {body}"
    entries = re.sub(r"^(\w[\w, ]*):", lambda names: f"- {_quote(names[1])}:", body, flags=re.MULTILINE)
    return f"**{title.removesuffix(':')}**\n\n" + re.sub(r"^ +", "  ", entries, flags=re.MULTILINE)


def _quote(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


def _default(parameter: inspect.Parameter) -> str:
    return "silent" if callable(parameter.default) else repr(parameter.default)


def _cli() -> str:
    root = typer.main.get_command(app)
    commands = getattr(root, "commands", {})
    return CLI_HEADER + "".join(_section(name, command) for name, command in commands.items())


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
    for name, content in pages().items():
        (REFERENCE / name).write_text(content, encoding="utf-8")
