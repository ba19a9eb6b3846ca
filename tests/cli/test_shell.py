"""Habits of shells: completion, --quiet, colors, width of help."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer.main

from sen_edge.cli.main import app
from tests.conftest import Outcome

Run = Callable[..., Outcome]
COMMANDS = ("train", "sweep", "inspect", "plot", "compress", "export", "verify", "bench", "report", "demo", "doctor")
SCRIPTS = Path(sys.executable).parent
#: A command line to complete -> values that are offered, and one that is not.
COMPLETED = {
    "sen-edge export --max-f": ("--max-flash", "--max-ram"),
    "sen-edge export --dtype int8": ("int8-dynamic", "float32"),
    "sen-edge export --to onnx,t": ("onnx,tflite", "onnx,c"),
    "sen-edge export --kernels ": ("shared", "none"),
    "sen-edge bench --engine lit": ("litert", "native"),
}
BASH = (
    'eval "$(_SEN_EDGE_COMPLETE=source_bash sen-edge)"; COMP_WORDS=($LINE); [[ $LINE == *" " ]] && COMP_WORDS+=("")\n'
)
BASH += 'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _sen_edge_completion sen-edge; printf "%s\\n" "${COMPREPLY[@]}"'
#: zsh calls `_arguments` with the values.
ZSH = '_arguments() { print -r -- "$*" }; compdef() {}; eval "$(_SEN_EDGE_COMPLETE=source_zsh sen-edge)"\n'
ZSH += "words=(${=LINE}); CURRENT=${#words}; _sen_edge_completion"


def _shell(*words: str, **variables: str) -> str:
    environment = {**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}", **variables}
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, check=True).stdout


@pytest.mark.parametrize("line", COMPLETED)
def test_bash_completes(line: str) -> None:
    offered = _shell("bash", "-c", BASH, LINE=line).split("\n")
    expected, other = COMPLETED[line]
    assert expected in offered and other not in offered


@pytest.mark.needs("zsh")
def test_zsh_completes() -> None:
    offered = _shell("zsh", "-f", "-c", ZSH, LINE="sen-edge export --dtype int8")
    assert '"int8-dynamic"' in offered and '"float32"' not in offered


def test_completion_is_installed_for_the_shell(tmp_path: Path) -> None:
    _shell("bash", "-c", "sen-edge --install-completion; true", HOME=str(tmp_path))
    assert "_SEN_EDGE_COMPLETE" in (tmp_path / ".bash_completions/sen-edge.sh").read_text()
    assert ".bash_completions/sen-edge.sh" in (tmp_path / ".bashrc").read_text()


def test_quiet_leaves_results(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    loud = sen_edge("export", mlp_path, "--to", "sen", "-o", tmp_path / "loud")
    quiet = sen_edge("export", mlp_path, "--to", "sen", "-o", tmp_path / "quiet", "--quiet")
    assert loud.code == quiet.code == 0 and loud.err and not quiet.err
    assert quiet.out == loud.out.replace("/loud/", "/quiet/")
    loud, quiet = (sen_edge("bench", tmp_path / "quiet/mlp.sen", "--seconds", "0.1", *also) for also in ((), ("-q",)))
    assert loud.code == quiet.code == 0 and loud.err and not quiet.err
    assert "mlp.sen" in quiet.out
    assert sen_edge(
        "verify", tmp_path / "quiet/mlp.sen", "--against", mlp_path
    ).err  # and the next command is not quiet


def test_quiet_leaves_errors_and_warnings(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    missing = sen_edge("export", tmp_path / "none.pt", "--quiet")
    assert missing.code == 1 and missing.err.startswith("error: ") and "none.pt" in missing.err
    usage = sen_edge("bench", tmp_path / "none.sen", "--seconds", "-1", "--quiet")
    assert usage.code != 0 and "error: " in usage.err
    x = np.zeros((4, 64), np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(4) % 10)
    sen_edge("export", mlp_path, "--to", "sen", "-o", tmp_path, "--quiet")
    bad = sen_edge("verify", tmp_path / "mlp.sen", "--against", mlp_path, "--tolerance", "output=1e-12", "--quiet")
    assert bad.code in (0, 3) and bad.out


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(sen_edge: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = sen_edge(*command.split(), "--help").out.splitlines()
    assert lines and max(map(len, lines)) <= 80 and not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)


def test_every_command_with_progress_has_quiet() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) == set(COMMANDS)
    quiet = {name for name, command in commands.items() if any("--quiet" in each.opts for each in command.params)}
    assert quiet == set(COMMANDS) - {"inspect", "doctor"}  # whose tables are results


@pytest.mark.parametrize(
    ("variables", "has_color"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colors_follow_the_environment(variables: dict[str, str], has_color: bool) -> None:
    colored = ("\x1b[3", "\x1b[1;3")
    settings = {"NO_COLOR": "", "FORCE_COLOR": "", **variables}
    out = _shell("sen-edge", "--help", **settings)
    assert any(code in out for code in colored) == has_color


@pytest.mark.parametrize(("term", "has_cursor"), [("dumb", False), ("xterm", True)])
def test_progress_moves_the_cursor_on_terminals_that_have_one(
    mlp_path: Path, tmp_path: Path, term: str, has_cursor: bool
) -> None:
    main, terminal = pty.openpty()
    words = [SCRIPTS / "sen-edge", "export", mlp_path, "--to", "sen", "-o", tmp_path / "out"]
    environment = {**os.environ, "TERM": term}
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=terminal, env=environment) as run:
        os.close(terminal)
        shown = b""
        while chunk := _read(main):
            shown += chunk
    os.close(main)
    assert run.returncode == 0 and b"verify" in shown
    assert (b"\x1b[" in shown) == has_cursor


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other end is closed
        return b""


def test_progress_in_a_pipe_is_plain_with_forced_colors(mlp_path: Path, tmp_path: Path) -> None:
    words = [SCRIPTS / "sen-edge", "export", mlp_path, "--to", "sen", "-o", tmp_path / "out"]
    run = subprocess.run(words, capture_output=True, env={**os.environ, "FORCE_COLOR": "1"}, check=True)
    assert b"verify\n" in run.stderr and b"\x1b[?25l" not in run.stderr and b"\r" not in run.stderr
