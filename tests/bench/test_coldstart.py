"""Cold start: its process, and engines that crash in it."""

from pathlib import Path

import numpy as np
import pytest

from sen_runtime import cli
from sen_runtime.bench import measure, memory, record, text
from sen_runtime.bench.coldstart import cold_start
from sen_runtime.bench.plan import BenchRequest
from sen_runtime.errors import EngineCrashError, EngineError, MissingExtraError
from tests.support.bench import Machine, small_network, write
from tests.support.fragile import fragile as fragile
from tests.support.networks import random_network


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "ending"),
    [("crash", "SIGABRT"), ("kill", "SIGKILL"), ("exit", "exit code 7"), ("crash in run", "SIGABRT")],
)
@pytest.mark.usefixtures("fragile")
def test_a_row_whose_engine_crashes_is_left_out(tmp_path: Path, model: str, ending: str) -> None:
    good, bad = tmp_path / "good.fragile", tmp_path / "bad.fragile"
    good.write_text("a")
    bad.write_text(model)
    request = BenchRequest((bad, good), seconds=0.05)
    found = measure.run(request, device=Machine()).record
    record.check(found)
    assert [row["name"] for row in found["rows"]] == ["good.fragile fragile 1"]
    (crash,) = found["left_out"]
    assert (crash["kind"], crash["file"], crash["engine"]) == ("crashed", "bad.fragile", "fragile")
    assert ending in crash["reason"] and "native code prints" in crash["reason"]
    shown = text.table(found)
    assert "left out: bad.fragile fragile" in shown and ending in shown


@pytest.mark.usefixtures("fragile")
def test_exit_codes_of_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.fragile").write_text("a")
    Path("bad.fragile").write_text("crash")
    options = ["--seconds", "0.05", "--allow-throttled", "--json"]
    assert cli.main(["bench", "bad.fragile", "good.fragile", *options, "both.json"]) == 3
    assert [each["kind"] for each in record.read(Path("both.json"))["left_out"]] == ["crashed"]
    assert cli.main(["bench", "bad.fragile", "good.fragile", *options, "strict.json", "--strict"]) == 4
    assert cli.main(["bench", "bad.fragile", *options, "none.json"]) == 3
    assert not Path("strict.json").exists() and not Path("none.json").exists()


@pytest.mark.usefixtures("fragile")
def test_errors_of_a_crash_name_file_and_engine(tmp_path: Path) -> None:
    bad = tmp_path / "bad.fragile"
    bad.write_text("crash")
    for strict, kind in ((False, EngineCrashError), (True, MissingExtraError)):
        with pytest.raises(kind) as raised:
            measure.run(BenchRequest((bad,), strict=strict), device=Machine())
        for part in ("bad.fragile", "fragile", "SIGABRT"):
            assert part in raised.value.message


def test_a_process_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"net\.sen.*native.*\b0\.01 s"):
        cold_start(write(tmp_path, "net.sen", small_network()), "native", 1, limit_seconds=0.01)


def test_memory_grows_by_about_the_model(tmp_path: Path) -> None:
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(2000, 2000, 10))
    found = cold_start(write(tmp_path, "large.sen", network), "native", 1)
    if memory.STATUS.exists():
        assert found.rss_growth_bytes is not None
        assert 12e6 < found.rss_growth_bytes < 60e6  # 16 MB of weights, mapped and packed
    assert found.load_us > 0 and found.first_us > 0
