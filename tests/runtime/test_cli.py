"""Command `sen-runtime`: output, errors, exit codes."""

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_runtime import cli
from sen_runtime.bench import measure, memory, record, rounds, throttle
from tests.conftest import Outcome
from tests.support import records
from tests.support.bench import small_network, write

Run = Callable[..., Outcome]


@pytest.fixture
def sen_runtime(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `sen-runtime` with these arguments in this process."""
    monkeypatch.setattr("sen_runtime.bench.measure.CALL_SECONDS", 0.01)
    monkeypatch.setattr(memory, "MIN_BYTES", 1 << 20)
    monkeypatch.setattr(throttle, "changes", lambda *states: [])  # what this machine's clock does meanwhile

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            code = cli.main([*map(str, arguments)])
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("artifacts")
    for name in ("net.sen", "net.onnx"):
        write(made, name, small_network())
    write(made, "other.sen", small_network(n_in=7))
    return made


SHORT = ("--seconds", "0.05")


def test_everything_is_written(sen_runtime: Run, folder: Path, tmp_path: Path) -> None:
    names = {"json": "a.json", "history": "a.jsonl"}
    outputs = [word for name, file in names.items() for word in (f"--{name}", tmp_path / file)]
    ended = sen_runtime("bench", folder / "net.sen", folder / "net.onnx", *SHORT, *outputs)
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == sorted(names.values())
    found = record.read(tmp_path / "a.json")
    assert [row["name"] for row in found["rows"]] == ["net.sen native 1", "net.onnx onnxruntime 1"]
    assert found["command"][:2] == ["sen-runtime", "bench"] and found["device"]["model"]
    assert "net.onnx onnxruntime 1" in ended.out
    assert f"wrote {tmp_path / 'a.json'}" in ended.err and "sen-runtime compare" in ended.err
    assert "net.onnx" in (tmp_path / "a.jsonl").read_text(encoding="utf-8")


def test_a_terminal_shows_progress_in_one_line_and_clears_it(
    sen_runtime: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "WATCH_S", 0.0)
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", shown)
    assert sen_runtime("bench", folder / "net.sen", *SHORT).code == 0
    assert re.search(r"\r\x1b\[Kmeasuring, [0-9]+ of 0\.05 s\r\x1b\[Kloading|\r\x1b\[K$", shown.getvalue())


def test_a_record_goes_to_stdout(sen_runtime: Run, folder: Path) -> None:
    ended = sen_runtime("bench", folder / "net.sen", *SHORT, "--json", "-", "--seed", "3")
    found = record.loads(ended.out)
    assert ended.code == 0 and found["settings"]["seed"] == 3


def test_a_duration_is_noted_second_by_second(sen_runtime: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "WATCH_S", 0.0)
    found = record.loads(sen_runtime("bench", folder / "net.sen", "--duration", "0.2s", "--json", "-").out)
    assert found["settings"]["seconds"] == 0.2 and len(found["sustained"]) >= 1


def test_energy_of_a_meter(sen_runtime: Run, folder: Path, tmp_path: Path) -> None:
    now = time.time()
    lines = [f"{now + i / 100:.3f},2.5" for i in range(-500, 12_000)]
    (tmp_path / "meter.csv").write_text("\n".join(["timestamp,watts", *lines]) + "\n")
    ended = sen_runtime(
        "bench", folder / "net.sen", "--seconds", "0.5", "--energy", tmp_path / "meter.csv", "--json", "-"
    )
    row = record.loads(ended.out)["rows"][0]
    assert ended.code == 0, ended.err
    assert row["energy_uj"] > 0


def test_invalid_meter_log_keeps_the_measurement(sen_runtime: Run, folder: Path, tmp_path: Path) -> None:
    meter, target = tmp_path / "meter.csv", tmp_path / "a.json"
    meter.write_text("time,power\n")
    ended = sen_runtime("bench", folder / "net.sen", *SHORT, "--energy", meter, "--json", target)
    assert ended.code == 1 and "meter.csv" in ended.err and "warming" not in ended.err and not target.exists()
    meter.write_text("timestamp,watts\n")  # which writes nothing more
    ended = sen_runtime("bench", folder / "net.sen", *SHORT, "--energy", meter, "--json", target)
    assert ended.code == 1 and "meter.csv" in ended.err
    assert record.read(target)["rows"][0]["energy_uj"] is None


def broken(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """An engine whose outputs are wrong."""
    true_load = measure.load_session

    class Wrong:
        batch_size, input_shape = None, (12,)

        def __init__(self, session: Any) -> None:
            self.session = session

        def run(self, x: np.ndarray) -> np.ndarray:
            return np.full_like(self.session.run(x), np.nan)

    def load(row: Any) -> Any:
        return Wrong(true_load(row)) if row.engine == which else true_load(row)

    monkeypatch.setattr(measure.run, "__kwdefaults__", {**measure.run.__kwdefaults__, "load": load})


def test_wrong_outputs_end_with_3(
    sen_runtime: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, "onnxruntime")
    target = tmp_path / "a.json"
    for more in ((), ("--allow-throttled", "--force")):
        ended = sen_runtime("bench", folder / "net.sen", folder / "net.onnx", *SHORT, "--json", target, *more)
        assert ended.code == 3 and "net.onnx onnxruntime 1: " in ended.err
    assert record.read(target)["valid"] is False


def test_throttling_ends_with_3_unless_allowed(sen_runtime: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "changes", lambda *states: ["clock"])
    ended = sen_runtime("bench", folder / "net.sen", *SHORT)
    assert ended.code == 3 and "clock" in ended.err
    ended = sen_runtime("bench", folder / "net.sen", *SHORT, "--allow-throttled", "--json", "-")
    assert ended.code == 0 and record.loads(ended.out)["valid"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param([], 2, "COMMAND", id="no command"),
        pytest.param(["bench"], 2, "ARTIFACT", id="no artifact"),
        pytest.param(["bench", "net.sen", "--seconds", "0"], 2, "--seconds", id="zero runs"),
        pytest.param(["bench", "net.sen", "--seconds", "x"], 2, "--seconds", id="seconds"),
        pytest.param(["bench", "net.sen", "--threads", "two"], 2, "'two'", id="threads"),
        pytest.param(["bench", "net.sen", "--threads", "0"], 2, "--threads is 0", id="no threads"),
        pytest.param(["bench", "net.sen", "--threads", "9999"], 2, f"{os.cpu_count()} cores", id="many threads"),
        pytest.param(["bench", "net.sen", "--cpu", "0-3"], 2, "big", id="range of cores"),
        pytest.param(["bench", "net.sen", "--batch", "0"], 2, "--batch is 0", id="no inputs"),
        pytest.param(["bench", "net.sen", "--batch", "1,-8"], 2, "'1,-8'", id="batch"),
        pytest.param(
            ["bench", "net.sen", "--batch", "999999999999"], 1, "999,999,999,999 inputs", id="memory of a batch"
        ),
        pytest.param(["bench", "net.sen", "--rate", "0"], 2, "--rate is 0", id="rate"),
        pytest.param(["bench", "net.sen", "--rate=-5/s"], 2, "'-5/s'", id="negative rate"),
        pytest.param(["bench", "net.sen", "--rate", "inf"], 2, "'inf'", id="infinite rate"),
        pytest.param(["bench", "net.sen", "--rate", "5/s", "--cold-cache"], 2, "--cold-cache", id="cold rate"),
        pytest.param(["bench", "net.sen", "--rate", "1/s"], 2, "100", id="few queries"),
        pytest.param(["bench", "net.sen", "--cpu", "4000"], 2, "--cpu 4000", id="no such core"),
        pytest.param(["bench", "net.sen", "--cpu", "small"], 2, "'small'", id="cores"),
        pytest.param(["bench", "net.sen", "--duration", "10x"], 2, "'10x'", id="duration"),
        pytest.param(["bench", "net.sen", "--engine", "tpu"], 2, "'tpu'", id="engine"),
        pytest.param(["bench", "net.sen", "other.sen"], 2, "other.sen", id="widths"),
        pytest.param(["bench", "absent.sen"], 1, "absent.sen", id="no file"),
        pytest.param(["bench", "net.txt"], 2, ".txt", id="ending"),
        pytest.param(["bench", "net.sen", "--data", "absent.npz"], 1, "absent.npz", id="data"),
        pytest.param(["bench", "net.sen", "--json", "a", "--history", "a"], 2, "--json", id="one file twice"),
        pytest.param(["bench", "net.sen", "--json", "net.sen", "--force"], 2, "net.sen", id="the artifact"),
        pytest.param(["bench", "net.sen", "--json", "no/a.json"], 1, "--json", id="no folder"),
        pytest.param(["bench", "net.sen", "--json", "."], 1, "folder", id="folder"),
        pytest.param(["bench", "net.sen", "--json", "there.csv"], 1, "there.csv", id="exists"),
        pytest.param(["bench", "net.sen", "--history", "there.csv"], 1, "there.csv: line 1", id="no history"),
        pytest.param(["bench", "net.sen", "--html", "a.html"], 2, "--html", id="no page is drawn here"),
        pytest.param(["bench", "net.sen", "net.onnx", "--energy", "m.csv"], 2, "2 rows", id="energy of two"),
        pytest.param(["bench", "net.sen", "--energy", "m.csv"], 1, "m.csv", id="no meter"),
        pytest.param(["bench", "net.sen", "--energy", "there.csv"], 1, "column", id="no energy"),
        pytest.param(["compare", "a.json", "b.json", "--strict"], 2, "--max-regression", id="strict about nothing"),
        pytest.param(["compare", "there.csv", "there.csv"], 1, "there.csv", id="no record"),
        pytest.param(["compare", "a.json", "b.json", "--max-regression", "0.05"], 2, "percent", id="percent"),
    ],
)
def test_mistakes(
    sen_runtime: Run,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    for name in ("net.sen", "net.onnx", "other.sen"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "there.csv").write_text("mine\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        rounds, "measure_rounds", lambda *_, **__: pytest.fail("this was to be refused before it is measured")
    )
    monkeypatch.setattr(measure, "measure_rounds", rounds.measure_rounds)
    ended = sen_runtime(*arguments)
    assert (ended.code, ended.out) == (code, "") and message in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "there.csv").read_text() == "mine\n"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no folder here that root may not write to either")
def test_a_folder_that_cannot_be_written_to(sen_runtime: Run, folder: Path) -> None:
    ended = sen_runtime("bench", folder / "net.sen", "--json", "/proc/a.json")
    assert ended.code == 1 and "--json: " in ended.err


def test_force_replaces(sen_runtime: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("mine\n")
    assert sen_runtime("bench", folder / "net.sen", *SHORT, "--json", tmp_path / "a.json", "--force").code == 0
    assert "net.sen" in (tmp_path / "a.json").read_text()


def test_a_missing_engine_ends_with_4(sen_runtime: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ended = sen_runtime("bench", folder / "net.onnx", *SHORT)
    assert ended.code == 4 and "  -> pip install onnxruntime" in ended.err


def test_a_damaged_file(sen_runtime: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.sen").write_bytes((folder / "net.sen").read_bytes()[:-10])
    ended = sen_runtime("bench", tmp_path / "bad.sen", *SHORT)
    assert ended.code == 1 and "bad.sen" in ended.err


def test_compare_is_a_gate(sen_runtime: Run, folder: Path, tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    found = records.record((10.0, 20.0), ("net.sen native 1", "net.onnx onnxruntime 1"))
    a.write_text(record.dumps(found))
    row = found["rows"][0]
    slower = {**row, "turns_us": [1.2 * value for value in row["turns_us"]]}
    b.write_text(record.dumps({**found, "rows": [slower, found["rows"][1]]}))
    assert sen_runtime("compare", a, a, "--max-regression", "5%").code == 0
    ended = sen_runtime("compare", a, b, "--max-regression", "5%")
    assert ended.code == 3 and "regression: net.sen native 1 " in ended.err
    assert sen_runtime("compare", a, b).code == 0
    assert sen_runtime("compare", a, b, "--max-regression", "25%").code == 0
    ended = sen_runtime("compare", a, b, "--json", "--max-regression", "5%")
    printed = json.loads(ended.out)
    assert printed["rows"][0]["ratio"] == pytest.approx(1.2) and printed["rows"][0]["outcome"] == "regression"
    assert ended.code == 3 and printed["gate"]["passed"] is False
    b.write_text(record.dumps({**found, "rows": [row]}))
    ended = sen_runtime("compare", a, b, "--max-regression", "5%")
    assert ended.code == 3 and "missing: net.onnx onnxruntime 1" in ended.err
    other = {**found, "rows": [{**row, "n_in": 13}]}
    b.write_text(record.dumps(other))
    assert sen_runtime("compare", a, b).code != 0
    assert sen_runtime("compare", a, b, "--allow-different").code == 0


def test_the_machine_is_shown(sen_runtime: Run) -> None:
    found = json.loads(sen_runtime("device", "--json").out)
    assert {"model", "cpu", "governor", "celsius", "throttled"} <= set(found)
    assert all({"core", "capacity", "max_mhz"} == set(core) for core in found["cores"])
    assert re.search(r"^model +\S", sen_runtime("device").out, re.MULTILINE)


def test_the_schema_is_printed(sen_runtime: Run) -> None:
    assert json.loads(sen_runtime("schema").out)["properties"]["schema"] == {"const": record.SCHEMA}


def test_help_and_version_load_nothing_heavy() -> None:
    code = (
        "import sys; from sen_runtime import cli\n"
        "try: cli.main(['bench', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'matplotlib', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_debug_shows_the_traceback(folder: Path) -> None:
    with pytest.raises(Exception, match="--seconds"):
        cli.main(["--debug", "bench", str(folder / "net.sen"), "--seconds", "0"])


def test_the_slow_engines_run_if_asked_for(sen_runtime: Run, folder: Path) -> None:
    ended = sen_runtime(
        "bench", folder / "net.sen", "--engine", "reference", "--engine", "native", *SHORT, "--json", "-"
    )
    found = record.loads(ended.out)
    assert [row["engine"] for row in found["rows"]] == ["reference", "native"]
    assert found["rows"][1]["agreement"]["matches"]


def test_figures_are_printed_even_if_a_file_cannot_be_written(
    sen_runtime: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sen_runtime.bench.outputs.write_all", full)
    history = tmp_path / "history.jsonl"
    ended = sen_runtime("bench", folder / "net.sen", *SHORT, "--json", tmp_path / "a.json", "--history", history)
    assert ended.code == 1 and "No space left on device" in ended.err
    assert "net.sen native 1" in ended.out and not history.exists()


def test_a_seed_below_zero_is_refused(sen_runtime: Run, folder: Path) -> None:
    ended = sen_runtime("bench", folder / "net.sen", "--seed", "-1")
    assert ended.code == 2 and "--seed" in ended.err
