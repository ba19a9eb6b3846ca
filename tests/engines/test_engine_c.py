"""Engine `c`: selection of the compiler, and errors."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from sen_runtime.engines import c as engine
from sen_runtime.errors import EngineError, MissingExtraError
from tests.support.c_exports import export, small

#: What it builds is not for this machine.
IMPOSTOR = 'for last; do :; done; case "$last" in *.so) echo "no library" > "$last";; esac'


def false_compiler(folder: Path, script: str) -> Path:
    """A command that takes a compiler's arguments."""
    path = folder / "some-cc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_compiler_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a shell that says nothing of compilers."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("SEN_EDGE_CC", raising=False)


pytestmark = pytest.mark.usefixtures("no_compiler_named")


# --- callers


def test_a_step_takes_one_input_of_the_right_shape(tmp_path: Path) -> None:
    session = engine.load(export(small(spiking=True)).write(tmp_path))
    for shape in ((8,), (1, 9), (6, 9), ()):
        expected = re.escape(str(list(shape))) + r".*\[9\]"
        with pytest.raises(EngineError, match=expected):
            session.step(np.zeros(shape, np.float32))
    trained = engine.load(export(small(spiking=True, input_coding="spikes")).write(tmp_path / "train"))
    assert trained.step(np.zeros(9, np.float32)).shape == (4,)


def test_a_perceptron_has_no_steps(tmp_path: Path) -> None:
    session = engine.load(export(small()).write(tmp_path))
    with pytest.raises(EngineError, match="step"):
        session.step(np.zeros(9, np.float32))
    with pytest.raises(EngineError, match="step"):
        session.reset()


# --- compilers


@pytest.mark.needs("gcc")
def test_the_order_of_compilers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert engine.version().startswith("cc ")
    monkeypatch.setenv("CC", "gcc -m64 -g0" if sys.maxsize > 2**32 else "gcc")
    assert re.fullmatch(r"gcc \d+(\.\d+)+", engine.version())
    monkeypatch.setenv("SEN_EDGE_CC", str(false_compiler(tmp_path, "echo some-cc 7.5")))
    assert engine.version() == "some-cc 7.5"


@pytest.mark.parametrize("command", ['gcc "x', "no-such-compiler", "IMPOSTOR", "ABORTS", " "])
def test_what_cc_names_is_left_where_it_does_not_serve(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It builds for another machine, or what it builds ends the process that loads it, or it is no compiler."""
    if command == "IMPOSTOR":
        command = str(false_compiler(tmp_path, IMPOSTOR))
    if command == "ABORTS":
        source = tmp_path / "abort.c"
        source.write_text("#include <stdlib.h>\n__attribute__((constructor)) static void end(void) { abort(); }\n")
        command = f"cc {source}"
    monkeypatch.setenv("CC", command)
    session = engine.load(export(small()).write(tmp_path))
    assert session.run(np.zeros((1, 9), np.float32)).shape == (1, 4)
    assert engine.version().startswith("cc ")


def test_an_absent_compiler_is_a_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = export(small()).write(tmp_path)
    monkeypatch.setenv("SEN_EDGE_CC", "no-such-compiler --fast")
    for action in (engine.version, lambda: engine.load(path)):
        with pytest.raises(MissingExtraError, match="no-such-compiler") as raised:
            action()
        assert "SEN_EDGE_CC" in raised.value.hint and raised.value.exit_code == 4


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (IMPOSTOR, "{}"),
        ("exit 1", "{}"),
        ("printf 'err\\377: \\377\\n' >&2; exit 1", "err"),
        (None, "{}"),
    ],
)
def test_named_compiler_that_fails(
    script: str | None, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = false_compiler(tmp_path, script or "")
    if script is None:
        path.write_bytes(b"\x7fELF")
    monkeypatch.setenv("SEN_EDGE_CC", str(path))
    with pytest.raises(EngineError, match=re.escape(message.format(path))) as raised:
        engine.load(export(small()).write(tmp_path))
    assert "SEN_EDGE_CC" in raised.value.hint


def test_named_compiler_that_is_not_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN_EDGE_CC", 'gcc "x')
    with pytest.raises(EngineError, match=r"""SEN_EDGE_CC.*'gcc "x'"""):
        engine.version()


def test_a_folder_from_which_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where TMPDIR is mounted noexec."""

    def refused(path: str) -> None:
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr("ctypes.CDLL", refused)
    with pytest.raises(EngineError, match="failed to map segment") as raised:
        engine.load(export(small()).write(tmp_path))
    assert "SEN_EDGE_CC" in raised.value.hint and "TMPDIR" in raised.value.hint


def test_assembly_that_does_not_assemble(tmp_path: Path) -> None:
    """As on systems that have no ELF."""
    path = export(small(), weights="incbin").write(tmp_path)
    assembly = path.with_name("net_weights.S")
    assembly.write_text(assembly.read_text().replace(".hidden", ".no_such_word"))
    with pytest.raises(EngineError, match="no_such_word") as raised:
        engine.load(path)
    assert "-O c.weights=array" in raised.value.hint and "SEN_EDGE_CC" in raised.value.hint
    path.write_text("int x = ;\n")
    assembly.write_text("")
    with pytest.raises(EngineError, match=r"net\.c:1") as raised:
        engine.load(path)
    assert "--c-weights" not in raised.value.hint
