"""Bad checkpoints: one line from every command, and no files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome
from tests.support.checkpoints import (
    write_chain,
    write_code,
    write_coincident,
    write_coincident_pattern,
    write_nan,
    write_truncated,
)

Run = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("not a checkpoint"), "torch"),
        (write_code, "code"),
        (write_truncated, "truncated"),
        (write_chain, "positions.1"),
        (write_nan, "inhibition.1"),
        (write_coincident, "layer 1"),
        (lambda path: None, "bad.pt"),
    ],
    ids=["text", "code", "truncated", "chain", "nan", "coincident", "absent"],
)
@pytest.mark.parametrize("command", ["export", "inspect", "verify"])
def test_a_bad_checkpoint(
    command: str, write: Callable[[Path], Any], message: str, sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "bad.pt", tmp_path / "out"
    write(path)
    arguments: list[object] = [command, path, "-o", out]
    if command == "inspect":
        arguments = [command, path]
    elif command == "verify":
        sen_edge("export", mlp_path, "-o", tmp_path)
        arguments = [command, tmp_path / "mlp.onnx", "--against", path]
    outcome = sen_edge(*arguments)
    if write is write_coincident and command == "inspect":  # inspect describes what export refuses
        assert outcome.code == 0 and "source neuron 4" in outcome.out
    elif command == "verify" and write is write_coincident:
        assert outcome.code == 3
    else:
        assert outcome.code == 1 and message in outcome.err
    assert not out.exists() and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("command", ["export", "inspect", "verify"])
def test_a_pattern_over_coincident_neurons(command: str, sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "bad.pt", tmp_path / "out"
    write_coincident_pattern(path)
    sen_edge("export", mlp_path, "-o", tmp_path)
    arguments = {"export": (path, "-o", out), "inspect": (path,), "verify": (tmp_path / "mlp.onnx", "--against", path)}
    outcome = sen_edge(command, *arguments[command])
    message = f"error: {path}: layer 1: "
    assert outcome.code == 1 and message in outcome.err and not out.exists()
