"""Bad files for every command: one error line, a documented exit code, and nothing written.

Files of one format are made once. What is in them is no business of a command: they pass `sen_runtime.untrusted`.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sen_edge.compression.evaluator import SearchState
from sen_edge.model import checkpoint as checkpoints
from sen_edge.passes.materialize import materialize
from sen_edge.sweep.journal import read_journal
from sen_edge.training import loop
from sen_exporters.base import Artifact, exporter
from sen_runtime import cli, memory_limits
from sen_runtime import format as image
from sen_runtime.bench import energy, record
from sen_runtime.engines import engine
from sen_runtime.errors import SenError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Sparse
from sen_runtime.memory_limits import MemoryLimitError
from sen_runtime.untrusted import printable
from tests.conftest import MLP, Outcome, make_checkpoint, make_network
from tests.support import records

Run = Callable[..., Outcome]

ESCAPES = "\x1b]0;title\x07\x1b[31mred\x9b31m\u202e\u2066"
DEEP = 100_000
#: No file of any format, whatever its suffix.
ANY_FORMAT = {
    "empty": b"",
    "text": b"hello",
    "not UTF-8": b"\xff\xfe\x00\x80" * 9,
    "zeros": bytes(4096),
    "escapes": ESCAPES.encode() * 1000,
}
JSON = {
    "deep lists": b"[" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "digits": b'{"schema": ' + b"9" * 100_000 + b"}",
    "beyond float": b'{"schema": 1e999}',
    "surrogate": rb'{"schema": "\ud800"}',
    "key twice": b'{"schema": 1, "schema": 2}',
    "list": b"[]",
    "number": b"1",
    "escapes in a value": json.dumps({"schema": ESCAPES * 1000}).encode(),
    "escapes in a key": json.dumps({"schema": record.SCHEMA, ESCAPES * 1000: 1}).encode(),
    "long value": json.dumps({"schema": "a" * 10_000_000}).encode(),
}
TOML = {
    "deep lists": b"a = " + b"[" * 30_000,
    "deep tables": b"a = " + b"{a = " * 9_000,
    "dotted key": b".".join([b"a"] * 20_000) + b" = 1",
    "digits": b"a = " + b"9" * 50_000,
    "hexadecimal": b"a = 0x" + b"f" * 50_000,
    "beyond float": b"a = 1e999",
    "surrogate": rb'a = "\ud800"',
    "too large": b"#" * 1_000_000,
    "escapes in a key": b'"' + rb"\u001b[31m" * 500 + b'" = 1',
    "escapes in a value": b'data = "' + rb"\u001b[31m\u202e" * 500 + b'"\nseeds = "a"\n[grid]\n',
}
TABLES = {
    "one line": b"1," * 10_000_000,
    "many columns": b"a," * 100_000 + b"y\n",
    "a line of other length": b"a,y\n1,0,1\n",
    "NUL": b"a,y\n1,0\n\0,1\n",
    "escapes in a header": f"{ESCAPES * 1000},b\n1,0\n2,1\n".encode(),
    "escapes in a cell": f"a,y\n1,0\n{ESCAPES * 1000},1\n".encode(),
    "digits": b"a,y\n1,0\n" + b"9" * 100_000 + b",1\n",
    "quote": b'a,y\n1,0\n"' + b"1,1\n" * 100_000,
    "magic": b"PAR1" + bytes(100) + b"PAR1",
}
SPECIAL = ("absent", "folder", "fifo", "/dev/zero")


def put(path: Path, kind: str, contents: dict[str, bytes]) -> Path:
    """The bad file `kind` at `path`, in the place of what is there."""
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "/dev/zero":
        path.symlink_to(kind)
    elif kind != "absent":
        path.write_bytes({**ANY_FORMAT, **contents}[kind])
    return path


def shared_list(levels: int) -> list:
    value: list = [1]
    for _ in range(levels):
        value = [value, value]
    return value


def torch_bytes(path: Path, content: object) -> bytes:
    torch.save(content, path)
    data = path.read_bytes()
    path.unlink()
    return data


def checkpoint_content(**changes: object) -> dict:
    made = make_checkpoint(MLP)
    tensors = {name: torch.from_numpy(tensor.copy()) for name, tensor in made.tensors.items()}
    content = {"format": checkpoints.FORMAT, "version": 1, "config": MLP.to_dict(), "tensors": tensors, "metadata": {}}
    return {**content, **changes}


def config(**changes: object) -> dict:
    return {"config": {**MLP.to_dict(), **changes}}


#: What a checkpoint can say that is wrong.
CHECKPOINTS: dict[str, Callable[[], object]] = {
    "list": lambda: [1, 2],
    "shared list": lambda: checkpoint_content(**config(layer_sizes=shared_list(25))),
    "shared list as config": lambda: checkpoint_content(config=shared_list(25)),
    "shared list as version": lambda: checkpoint_content(version=shared_list(25)),
    "shared list in spiking": lambda: checkpoint_content(**config(spiking=shared_list(25))),
    "shared list as a choice": lambda: checkpoint_content(**config(layer_axis=shared_list(25))),
    "beyond float": lambda: checkpoint_content(**config(steepness=10**400)),
    "digits": lambda: checkpoint_content(**config(dimensions=10**100_000)),
    "negative digits": lambda: checkpoint_content(**config(min_distance=-(10**100_000))),
    "escapes in a key": lambda: checkpoint_content(**{ESCAPES: 1}),
    "escapes in a tensor": lambda: checkpoint_content(tensors={ESCAPES * 1000: torch.zeros(1)}),
    "escapes in a config": lambda: checkpoint_content(**config(**{ESCAPES * 1000: 1})),
    "many keys": lambda: {f"k{i}": 1 for i in range(10_000)},
    "claims": lambda: checkpoint_content(**config(layer_sizes=[10**6, 10**6]), tensors={}),
    "meta": lambda: checkpoint_content(
        **config(layer_sizes=[10**6, 10**6]),
        tensors={"positions.0": torch.zeros(10**6, 2, device="meta")},
    ),
    "surrogate": lambda: checkpoint_content(metadata={"a": "\ud800"}),
    "metadata": lambda: checkpoint_content(metadata={"a": shared_list(25)}),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Bad checkpoints by what is wrong."""
    path = tmp_path_factory.mktemp("models") / "model.pt"
    return {name: torch_bytes(path, make()) for name, make in CHECKPOINTS.items()}


@pytest.fixture
def sen_runtime(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `sen-runtime` with these arguments in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = cli.main([*map(str, arguments)])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def check(outcome: Outcome) -> None:
    """One error line, short, clean, expected; the exit code of a user's mistake."""
    lines = outcome.err.splitlines()
    assert outcome.code in (1, 2), outcome.err[:500]
    assert sum(line.startswith("error: ") for line in lines) == 1, outcome.err[:500]
    assert all(line.isprintable() for line in lines)
    assert outcome.out.replace("\n", "").isprintable()
    assert len(outcome.err) < 5000
    assert "unexpectedly" not in outcome.err and "Traceback" not in outcome.err


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a command in the temporary folder: it fails as it should, and leaves no file."""
    monkeypatch.chdir(tmp_path)

    def run(command: Run, *arguments: object) -> None:
        before = files(tmp_path)
        check(command(*arguments))
        assert files(tmp_path) == before

    return run


MODEL_COMMANDS = {
    "inspect": ("inspect", "{}"),
    "export": ("export", "{}", "-o", "out"),
    "compress": ("compress", "{}", "--sparsity", "0.5", "-o", "out.sen"),
    "plot": ("plot", "{}", "-o", "out.html"),
    "verify": ("verify", "mlp.onnx", "--against", "{}"),
}


@pytest.mark.parametrize("command", MODEL_COMMANDS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".sen"])
def test_files_that_are_no_models(
    suffix: str,
    command: str,
    sen_edge: Run,
    refused: Callable[..., None],
    tmp_path: Path,
    subtests: pytest.Subtests,
) -> None:
    (tmp_path / "mlp.onnx").write_bytes(b"")
    for kind in (*SPECIAL, *ANY_FORMAT):
        put(tmp_path / f"model{suffix}", kind, {})
        with subtests.test(kind):
            refused(sen_edge, *(word.format(f"model{suffix}") for word in MODEL_COMMANDS[command]))


@pytest.mark.parametrize("command", MODEL_COMMANDS)
def test_checkpoints(
    command: str,
    models: dict[str, bytes],
    sen_edge: Run,
    refused: Callable[..., None],
    tmp_path: Path,
    subtests: pytest.Subtests,
) -> None:
    (tmp_path / "mlp.onnx").write_bytes(b"")
    for kind in CHECKPOINTS:
        put(tmp_path / "model.pt", kind, models)
        with subtests.test(kind):
            refused(sen_edge, *(word.format("model.pt") for word in MODEL_COMMANDS[command]))


def mlp_onnx() -> Artifact:
    return exporter("onnx").export(materialize(make_network(MLP)), exporter("onnx").Options(name="mlp"))


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".sen", ".wasm"])
@pytest.mark.parametrize("kind", [*SPECIAL, *ANY_FORMAT, "metadata"])
def test_artifacts(
    kind: str,
    suffix: str,
    sen_edge: Run,
    sen_runtime: Run,
    refused: Callable[..., None],
    mlp_path: Path,
    tmp_path: Path,
) -> None:
    not_utf8 = mlp_onnx().main + b"\x72\x07\x0a\x02\xff\xfe\x12\x01b"  # metadata_props with the key "\xff\xfe"
    put(tmp_path / f"net{suffix}", kind, {"metadata": not_utf8})
    refused(sen_edge, "verify", f"net{suffix}", "--against", mlp_path)
    refused(sen_runtime, "bench", f"net{suffix}", "--seconds", "0.01")


@pytest.mark.parametrize("kind", [*SPECIAL, *ANY_FORMAT, *JSON])
def test_records_and_histories(
    kind: str, sen_runtime: Run, sen_edge: Run, refused: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "good.json").write_text(record.dumps(records.record()))
    put(tmp_path / "bad.json", kind, JSON)
    refused(sen_runtime, "compare", "bad.json", "good.json")
    refused(sen_runtime, "compare", "good.json", "bad.json")
    refused(sen_edge, "report", "bad.json")
    refused(sen_runtime, "record", "bad.json")
    if kind not in ("absent", "empty", "zeros"):  # a history may start so
        refused(sen_runtime, "bench", "net.sen", "--history", "bad.json")


@pytest.mark.parametrize("name", ["data.csv", "data.parquet", "folder/train.csv", "folder/x.npy"])
def test_data(
    name: str,
    sen_edge: Run,
    sen_runtime: Run,
    refused: Callable[..., None],
    mlp_path: Path,
    tmp_path: Path,
    subtests: pytest.Subtests,
) -> None:
    mlp_onnx().write(tmp_path)
    (tmp_path / "folder").mkdir()
    if name.endswith("train.csv"):
        (tmp_path / "folder" / "test.csv").write_text("a,y\n1,0\n2,1\n")
    data, target = name.split("/")[0], () if name.endswith(".npy") else ("--target", "y")
    for kind in (*SPECIAL, *ANY_FORMAT, *TABLES):
        put(tmp_path / name, kind, TABLES)
        with subtests.test(kind):
            refused(sen_edge, "train", "--data", data, *target, "-o", "out.pt")
            refused(sen_edge, "verify", "mlp.onnx", "--against", mlp_path, "--data", data)
            refused(sen_runtime, "bench", "mlp.onnx", "--data", data, "--seconds", "0.01")


@pytest.mark.parametrize("kind", [*SPECIAL, *ANY_FORMAT, *TOML])
def test_toml(kind: str, sen_edge: Run, refused: Callable[..., None], mlp_path: Path, tmp_path: Path) -> None:
    put(tmp_path / "bad.toml", kind, TOML)
    refused(sen_edge, "sweep", "bad.toml", "-o", "out")
    refused(sen_edge, "inspect", mlp_path, "--map", "bad.toml")
    refused(sen_edge, "bench", "net.onnx", "--inventory", "bad.toml")


@pytest.mark.parametrize("kind", [*SPECIAL[1:], *ANY_FORMAT, *JSON])
def test_states_that_programs_keep(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of state files, next to an output or in its folder, raise `SenError`."""
    path = put(tmp_path / "state.json", kind, JSON)
    readers: list[Callable[[], object]] = [
        lambda: record.read(path),
        lambda: energy.read_meter(path),
        lambda: SearchState.load(path, make_network(MLP), SimpleNamespace(sha256=""), {}),  # type: ignore[arg-type]
        lambda: read_journal(path),
        lambda: loop.restore(None, path, {}),  # type: ignore[arg-type]
    ]
    for read in readers:
        with pytest.raises(SenError) as caught:
            read()
        assert len(printable(caught.value.message)) < 1000


def test_a_report_leaves_damaged_files_out(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    mlp_path.rename(run / "mlp.pt")
    for name, content in {**ANY_FORMAT, **JSON}.items():
        (run / f"{name}.json").write_bytes(content)
        (run / f"{name}.sen").write_bytes(content)
    (run / "<script>.json").write_text(json.dumps({"manifest_version": 3, "artifacts": [{"files": {"<script>": 1}}]}))
    os.mkfifo(run / "fifo.json")
    (run / "zero.json").symlink_to("/dev/zero")
    outcome = sen_edge("report", run, "-o", tmp_path / "page.html")
    assert outcome.code == 0 and outcome.err.replace("\n", "").isprintable()
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page and "\x1b" not in page and "\u202e" not in page


def test_pages_and_tables_show_no_controls(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    made = checkpoints.load(mlp_path)
    text = f"{ESCAPES}[bold]x[/bold]<script>"
    checkpoints.save(replace(made, metadata={text: text}), tmp_path / "model.pt")
    (tmp_path / "run").mkdir()
    (tmp_path / "model.pt").rename(tmp_path / "run" / "model.pt")
    outcome = sen_edge("inspect", tmp_path / "run" / "model.pt")
    assert outcome.code == 0 and outcome.out.replace("\n", "").isprintable() and "[bold]x[/bold]" in outcome.out
    for command in (("plot", tmp_path / "run" / "model.pt"), ("report", tmp_path / "run")):
        assert sen_edge(*command, "-o", tmp_path / "page.html", "--force").code == 0
        page = (tmp_path / "page.html").read_text()
        assert not set(ESCAPES) & set(page) - set("title;[0red31m]")
        assert "x[/bold]<script>" not in page


# --- memory --------------------------------------------------------------------------------------


def image_of(n: int) -> bytes:
    """An image of 392 bytes whose matrix is n x n."""
    starts = np.zeros(2, np.int32)
    w = Sparse(np.zeros((0, n), np.float32), np.zeros(0, np.int32), starts, (n, n), (n, 1))
    return image.dumps(Network((Layer(w, None, Identity()),)))


@pytest.mark.parametrize("n", [30_000, 4_000_000_000])
@pytest.mark.parametrize("command", ["export", "compress", "verify"])
def test_a_small_image_of_a_large_network(
    command: str, n: int, sen_edge: Run, refused: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_limits, "available", lambda: 3_000_000_000)
    (tmp_path / "model.sen").write_bytes(image_of(n))
    mlp_onnx().write(tmp_path)
    refused(sen_edge, *(word.format("model.sen") for word in MODEL_COMMANDS[command]))


@pytest.mark.parametrize("name", ["native", "reference"])
def test_an_engine_asks_before_it_allocates(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limits, "available", lambda: 3_000_000_000)
    with pytest.raises(MemoryLimitError):
        engine(name).load(image_of(4_000_000_000))


@pytest.mark.parametrize("command", ["export", "compress", "verify", "train"])
def test_a_network_that_does_not_fit(
    command: str,
    sen_edge: Run,
    refused: Callable[..., None],
    mlp_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_limits, "available", lambda: 10_000)
    monkeypatch.setattr(memory_limits, "UNCHECKED_BYTES", 0)
    mlp_onnx().write(tmp_path)
    commands = {**MODEL_COMMANDS, "train": ("train", "--data", "digits", "-o", "out.pt")}
    refused(sen_edge, *(word.format(mlp_path.name) for word in commands[command]))
