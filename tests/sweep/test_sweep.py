"""Sweeps on real worker processes: kept trials, repeated trials, results."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pyarrow import parquet

import sen_edge as sen_edge_package
from sen_edge.data.datasets import Dataset
from sen_edge.sweep import SweepError
from sen_edge.sweep.cluster import ALLOWED_DEATHS, Records, Trial, check_workers, connect, start_workers
from sen_edge.sweep.file import read_sweep, trial_id
from sen_edge.sweep.journal import open_journal, read_journal
from sen_edge.sweep.results import draw, rank, rows
from sen_edge.sweep.search import Point, Search, run_sweep
from sen_edge.sweep.trial import run_trial
from sen_runtime.task import ACCURACY, ERROR, RECONSTRUCTION, REGRESSION, of
from tests.conftest import Outcome
from tests.support import sweeps

Run = Callable[..., Outcome]

ROOT = Path(__file__).parents[2]
GRID = """
data = "digits"
seeds = [0, 1]
[training]
hidden = [8]
dims = 3
epochs = 1
[grid]
training.exponent = [1.0, 2.0]
"""
SAMPLED = """
data = "digits"
seeds = [0, 1]
[training]
hidden = [8]
dims = 3
epochs = 1
[sampled]
trials = 14
seed = 5
in_flight = 3
training.exponent = { low = 0.5, high = 3.0 }
training.dims = [2, 3]
"""
SAMPLED = SAMPLED.replace("dims = 3\nepochs", "epochs")


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Any]:
    with start_workers(2) as client:
        yield client


@pytest.fixture(scope="module")
def one_worker() -> Iterator[Any]:
    with start_workers(1) as client:
        yield client


def tiny() -> Dataset:
    """Ten inputs of each of two classes."""
    inputs = np.random.default_rng(0).random((40, 4), np.float32)
    labels = np.arange(40) % 2
    return Dataset("tiny", inputs[:30], labels[:30], inputs[30:], labels[30:], (0.0, 1.0))


def write(folder: Path, text: str) -> Path:
    path = folder / "s.toml"
    path.write_text(text)
    return path


@dataclass(frozen=True)
class State:
    """A finished sweep."""

    points: list[Point]
    records: Records

    @property
    def rows(self) -> list[dict[str, Any]]:
        return rows(self.points, self.records, ACCURACY)


def sweep(folder: Path, client: Any, trial: Trial, text: str = GRID, **options: Any) -> State:
    """On data that no trial here looks at; `data_dir` is the folder."""
    (folder / "data").mkdir(exist_ok=True)
    plan = read_sweep(write(folder, f'data_dir = "data"\n{text}'))
    search = Search(plan, tiny(), "s.toml")
    with open_journal(folder / "out") as journal:
        return State(search.points, run_sweep(search, journal, client, trial, **options))


def comparable(state: State) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in state.rows]


def finished(folder: Path) -> list[str]:
    """Lines of the journal after the first one, which is of the study: one for each trial."""
    path = folder / "journal.log"
    return path.read_text().splitlines()[1:] if path.exists() else []


# --- trials --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [REGRESSION, RECONSTRUCTION])
def test_figures_are_named_by_the_metric_of_the_task(task: str, tmp_path: Path) -> None:
    from sen_edge.data.datasets import load

    x = np.random.default_rng(0).random((200, 6))
    np.savez(tmp_path / "made.npz", x=x, **({"y": x @ np.ones((6, 2))} if task == REGRESSION else {}))
    text = f'''
data = "made.npz"
[training]
task = "{task}"
hidden = [8]
epochs = 1
[compression]
rank = 2
[grid]
training.exponent = [1.0]
'''
    path = write(tmp_path, text)
    search = Search(read_sweep(path), load(str(tmp_path / "made.npz"), task=task), "s.toml")
    (point,), key = search.advance({}), of(task).metric.key
    figures = run_trial(next(iter(point.trials.values())))
    names = {f"{start}_{key}" for start in ("validation", "test", "trained_validation", "trained_test")}
    assert names <= figures.keys() and search.metric == of(task).metric
    records = {name: {"figures": figures, "error": None} for name in point.trials}
    assert rank([point], records, search.metric)[0].test_score == figures[f"test_{key}"]


def test_an_error_ranks_the_lowest_first(tmp_path: Path) -> None:
    points, records = [], {}
    for number, score in enumerate((0.3, 0.1, 0.2)):
        figures = {"validation_reconstruction_error": score, "test_reconstruction_error": 1 - score, "macs": 1}
        records[str(number)] = {"figures": figures, "error": None}
        points.append(Point(number, {}, {str(number): {}}))
    assert [each.point for each in rank(points, records, ERROR)] == [1, 2, 0]


def test_a_journal_keeps_the_direction_and_the_metric(tmp_path: Path) -> None:
    with open_journal(tmp_path / "out", ERROR) as journal:
        assert journal.study.direction.name == "MINIMIZE"
        settings = {"data": {"sha256": "", "spikes": False}}
        figures = {"validation_reconstruction_error": 0.5, "test_reconstruction_error": 0.5, "macs": 1}
        journal.add({"id": trial_id(settings), "settings": settings, "figures": figures, "error": None}, {}, {})
        assert [trial.value for trial in journal.trials.values()] == [0.5]
    assert len(read_journal(tmp_path / "out/journal.log", ERROR).trials) == 1
    with pytest.raises(SweepError, match="validation_accuracy"):
        read_journal(tmp_path / "out/journal.log")


@pytest.mark.slow
def test_a_trial_is_a_function_of_its_settings(one_worker: Any, two_workers: Any, tmp_path: Path) -> None:
    from sen_edge.data.datasets import load

    compression = '[compression]\ncriterion = "magnitude"\nepochs = 1\n[grid]\ncompression.sparsity = [0.9]'
    plan = read_sweep(write(tmp_path, GRID.replace("[grid]", compression)))
    states = []
    for name, client in (("one", one_worker), ("two", two_workers)):
        search = Search(plan, load("digits"), "s.toml")
        with open_journal(tmp_path / name) as journal:
            states.append(State(search.points, run_sweep(search, journal, client, run_trial)))
    assert comparable(states[0]) == comparable(states[1])
    name, settings = next(iter(search.points[0].trials.items()))
    figures = run_trial(settings)
    kept = read_journal(tmp_path / "one/journal.log").trials[name]
    assert figures == states[0].records[name]["figures"] == kept.user_attrs["figures"]
    assert run_trial(kept.user_attrs["settings"]) == figures
    assert figures["macs"] < 0.5 * (64 * 8 + 8 * 10)
    assert figures["validation_accuracy"] != figures["trained_validation_accuracy"]
    assert {process for state in states for process in (r["pid"] for r in state.records.values())} != {os.getpid()}


FREE = """
data = "digits"
seeds = [0]
[training]
weights = "free"
hidden = [16]
epochs = 8
[compression]
epochs = 3
as_checkpoint = true
[grid]
compression.sparsity = [0.8, 0.95]
"""


def test_a_conventional_network_is_trained_once_and_pruned_alike(tmp_path: Path) -> None:
    from sen_edge.data.datasets import load
    from sen_edge.sweep import trial

    search = Search(read_sweep(write(tmp_path, FREE)), load("digits"), "s.toml")
    settings = [each for point in search.advance({}) for each in point.trials.values()]
    trial._trained.cache_clear()
    some, few = map(run_trial, settings)
    assert trial._trained.cache_info().misses == 1
    assert some["learning_rate"] == few["learning_rate"] == 4e-3
    assert some["parameters"] == few["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert some["trained_test_accuracy"] == few["trained_test_accuracy"]
    assert few["macs"] < 100 < some["macs"] < 400  # a small layer with zeros may be stored dense
    assert some["validation_accuracy"] > few["validation_accuracy"]
    one_shot = {**settings[0], "compression": {**settings[0]["compression"], "epochs": 0, "as_checkpoint": False}}
    assert run_trial(one_shot)["macs"] < 400
    other = {**settings[0], "training": {**settings[0]["training"], "weights": "positions"}}
    assert trial_id(other) != trial_id(settings[0])


def test_a_trial_uses_one_thread_and_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from sen_edge.sweep import trial

    seen = []
    monkeypatch.setattr(trial, "requests_of", lambda _: seen.append(torch.get_num_threads()) or 1 / 0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        run_trial({"data": {}})
    assert (seen, torch.get_num_threads()) == ([1], 2)
    torch.set_num_threads(before)


def environment(name: str) -> str | None:
    return os.environ.get(name)


def test_workers_keep_memory_between_steps(one_worker: Any) -> None:
    assert one_worker.submit(environment, "MALLOC_TRIM_THRESHOLD_", pure=False).result() is None


def test_other_data_than_where_the_sweep_began_are_refused() -> None:
    from sen_edge.errors import DataError
    from sen_edge.sweep.trial import _dataset

    with pytest.raises(DataError, match=r"digits.*SHA-256"):
        _dataset(("digits", None, False, "0" * 64), None, ())


# --- searches ------------------------------------------------------------------------------------


def test_a_grid_is_ranked_by_validation_accuracy(two_workers: Any, tmp_path: Path) -> None:
    state = sweep(tmp_path, two_workers, sweeps.quick)
    ranking = rank(state.points, state.records, ACCURACY)
    assert [(each.rank, each.values["training.exponent"]) for each in ranking] == [(1, 1.0), (2, 2.0)]
    assert (ranking[0].seeds_done, ranking[0].seeds_failed) == (2, 0)
    assert ranking[0].validation_range == pytest.approx((88.8, 88.81))
    assert ranking[0].validation_score == pytest.approx(88.805)
    assert len(finished(tmp_path / "out")) == 4


@pytest.mark.slow
def test_samples_are_the_same_with_one_and_two_workers_and_after_an_interruption(
    one_worker: Any, two_workers: Any, tmp_path: Path
) -> None:
    for name in ("one", "two", "cut"):
        (tmp_path / name).mkdir()
    first = sweep(tmp_path / "one", one_worker, sweeps.uneven, SAMPLED)
    second = sweep(tmp_path / "two", two_workers, sweeps.uneven, SAMPLED)
    assert len(first.points) == 14 and comparable(first) == comparable(second)

    def stop(records: Records, _: object) -> None:
        if len(records) == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path / "cut", two_workers, sweeps.uneven, SAMPLED, report=stop)
    before = finished(tmp_path / "cut/out")
    third = sweep(tmp_path / "cut", two_workers, sweeps.uneven, SAMPLED)
    assert comparable(third) == comparable(first)
    assert before == finished(tmp_path / "cut/out")[: len(before)] and len(before) == 15


def test_sampler_learns_from_reported_results(two_workers: Any, tmp_path: Path) -> None:
    state = sweep(tmp_path, two_workers, sweeps.quick, SAMPLED.replace("trials = 14", "trials = 40"))
    apart = [abs(point.values["training.exponent"] - 1.3) for point in state.points]
    assert np.mean(apart[20:]) < 0.7 * np.mean(apart[:10])


def test_a_changed_file_takes_over_equal_trials(two_workers: Any, tmp_path: Path) -> None:
    sweep(tmp_path, two_workers, sweeps.quick)
    before = finished(tmp_path / "out")
    wider = GRID.replace("[1.0, 2.0]", "[1, 2, 3]").replace("epochs = 1", "epochs = 1\nsteepness = 1.0")
    state = sweep(tmp_path, two_workers, sweeps.quick, wider)
    assert len(state.records) == 6
    assert before == finished(tmp_path / "out")[: len(before)]


def test_values_that_contradict_each_other_fail_alone(two_workers: Any, tmp_path: Path) -> None:
    text = """
data = "digits"
[sampled]
trials = 8
training.layer_axis = ["fixed", "free"]
training.dims = [1, 3]
"""
    from sen_edge.data.datasets import load

    text += "training.epochs = [1]\ntraining.hidden = [[4]]"
    search = Search(read_sweep(write(tmp_path, text)), load("digits"), "s.toml")
    with open_journal(tmp_path / "out") as journal:
        records = run_sweep(search, journal, two_workers, run_trial)
    wrong = [point.values for point in search.points if not point.figures(records)]
    assert len(search.points) == 8 and wrong
    assert all(values["training.layer_axis"] == "fixed" and values["training.dims"] == 1 for values in wrong)
    with pytest.raises(SweepError, match=r"s\.toml.*training\.layer_axis = fixed, training\.dims = 1"):
        sweep(tmp_path, two_workers, sweeps.quick, text.replace(', "free"', "").replace("[1, 3]", "[1]"))


# --- failures ------------------------------------------------------------------------------------


def test_a_failing_trial_is_recorded_and_does_not_stop_the_rest(two_workers: Any, tmp_path: Path) -> None:
    state = sweep(tmp_path, two_workers, sweeps.fails)
    assert [row["error"] for row in state.rows] == [None, None, "RuntimeError: no luck", None]
    ranking = rank(state.points, state.records, ACCURACY)
    assert [(each.seeds_done, each.seeds_failed) for each in ranking] == [(2, 0), (1, 1)]
    before = finished(tmp_path / "out")
    assert sweep(tmp_path, two_workers, sweeps.quick).records == state.records and finished(tmp_path / "out") == before
    again = sweep(tmp_path, two_workers, sweeps.quick, retry_failed=True)
    assert not any(row["error"] for row in again.rows)
    assert len(finished(tmp_path / "out")) == len(before) + 1


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    def kill() -> None:
        while not (found := list((tmp_path / "data").glob("*.pid"))):
            time.sleep(0.05)
        os.kill(int(found[0].read_text()), signal.SIGKILL)
        killed.append(int(found[0].read_text()))

    killed: list[int] = []
    (tmp_path / "data").mkdir()
    killer = threading.Thread(target=kill)
    killer.start()
    with start_workers(2) as client:
        state = sweep(tmp_path, client, sweeps.waits_to_be_killed)
    killer.join()
    marked = next(iter(next(each for each in state.points if each.values["training.exponent"] == 2.0).trials))
    assert not any(row["error"] for row in state.rows) and len(finished(tmp_path / "out")) == 4
    assert state.records[marked]["pid"] != killed[0]


def test_a_trial_that_kills_its_workers_fails_in_the_end(tmp_path: Path) -> None:
    with start_workers(2) as client:
        state = sweep(tmp_path, client, sweeps.kills_its_worker)
    errors = [row["error"] for row in state.rows]
    assert errors[:2] + errors[3:] == [None] * 3
    assert errors[2] is not None and errors[2].startswith(f"{ALLOWED_DEATHS + 1} workers died")
    assert len(list((tmp_path / "data").glob("*.died"))) == ALLOWED_DEATHS + 1


@pytest.mark.slow
def test_lost_scheduler(tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:

        def close(_: Records, last: object) -> None:
            if last:
                cluster.close()

        with (
            pytest.raises(SweepError, match="scheduler"),
            connect(cluster.scheduler_address) as client,
        ):
            sweep(tmp_path, client, sweeps.quick, report=close)
    assert len(finished(tmp_path / "out")) == 1


def test_a_scheduler_without_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr("sen_edge.sweep.cluster.WORKER_S", 0.2)
    with LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1") as cluster:
        address = cluster.scheduler_address
        with (
            pytest.raises(SweepError, match=f"{address}.*worker"),
            connect(address),
        ):
            raise AssertionError("there is nobody to run anything")


def test_workers_without_the_toolkit(two_workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check_workers(two_workers)
    monkeypatch.setattr(sen_edge_package, "__version__", "9.9")
    with pytest.raises(SweepError, match=r"tcp://.*\b0\.1\.0\b.*\b9\.9\b"):
        check_workers(two_workers)
    with pytest.raises(SweepError, match=r"tcp://.*ModuleNotFoundError: .*nowhere"):
        check_workers(two_workers, "nowhere")


def test_a_folder_takes_one_sweep_at_a_time(tmp_path: Path) -> None:
    from sen_edge.errors import OutputError

    with open_journal(tmp_path / "out"), pytest.raises(OutputError, match="out"), open_journal(tmp_path / "out"):
        pass
    with open_journal(tmp_path / "out"):
        pass
    for place, text in (("mine", "mine"), ("mine/letter.txt", "letter.txt")):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine/letter.txt").write_text("dear")
        with pytest.raises(OutputError, match=text), open_journal(tmp_path / place):
            pass
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def change_last_trial(text: str, change: Callable[[dict[str, Any]], Any]) -> str:
    *lines, last = text.splitlines()
    trial = json.loads(last)
    change(trial["user_attrs"])
    return "\n".join([*lines, json.dumps(trial), ""])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:200] + text[230:],
        lambda text: text[: text.index("\n")] + "\n[]\n",
        lambda text: text.replace('"op_code":4', '"op_code":99'),
        lambda text: change_last_trial(text, lambda attributes: attributes.update(figures={})),
        lambda text: change_last_trial(text, lambda attributes: attributes.update(figures=None)),
        lambda text: change_last_trial(text, lambda attributes: attributes["figures"].update(macs="many")),
        lambda text: change_last_trial(text, lambda attributes: attributes["settings"]["training"].update(epochs=2)),
        lambda text: change_last_trial(text, lambda attributes: attributes.pop("error")),
    ],
    ids=["line", "list", "operation", "no figures", "nothing", "text", "settings", "no error"],
)
def test_a_damaged_journal_is_named(change: Callable[[str], str], two_workers: Any, tmp_path: Path) -> None:
    sweep(tmp_path, two_workers, sweeps.quick)
    path = tmp_path / "out/journal.log"
    damaged = change(path.read_text())
    path.write_text(damaged)
    with pytest.raises(SweepError, match=r"journal\.log"):
        sweep(tmp_path, two_workers, sweeps.quick)
    assert path.read_text() == damaged


def test_truncated_line_is_run_again(two_workers: Any, tmp_path: Path) -> None:
    state = sweep(tmp_path, two_workers, sweeps.quick)
    path = tmp_path / "out/journal.log"
    whole = path.read_text()
    path.write_text(whole[:-30])
    path.with_name("journal.log.lock").touch()  # the crash was within the write
    again = sweep(tmp_path, two_workers, sweeps.quick)
    assert comparable(again) == comparable(state)
    assert len(finished(tmp_path / "out")) == 4 and path.read_text().startswith(whole[: whole.rindex('{"op_code')])


def test_a_journal_is_read_without_pickle(two_workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    state = sweep(tmp_path, two_workers, sweeps.quick)
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))
    assert read_journal(tmp_path / "out/journal.log").trials.keys() == state.records.keys()


def test_the_plot_is_a_function_of_the_trials(two_workers: Any, tmp_path: Path) -> None:
    state = sweep(tmp_path, two_workers, sweeps.fails, SAMPLED)
    trials = [read_journal(tmp_path / "out/journal.log").trials[name] for name in state.records]
    svg = draw(trials, ACCURACY)
    assert svg is not None and svg.startswith(b"<?xml") and svg == draw(trials, ACCURACY)
    assert draw([], ACCURACY) is None


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command(sen_edge: Run, tmp_path: Path) -> None:
    path, out = write(tmp_path, GRID), tmp_path / "out"
    outcome = sen_edge("sweep", path, "-o", out, "--workers", 2)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[:2] == [str(out / "results.csv"), str(out / "results.parquet")]
    assert "4/4" in outcome.err and "2 of 2" in outcome.err
    with (out / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["training.exponent"], row["seed"]) for row in table] == [
        ("1.0", "0"), ("1.0", "1"), ("2.0", "0"), ("2.0", "1")
    ]  # fmt: skip
    columns = parquet.read_table(out / "results.parquet").to_pylist()
    assert [row["test_accuracy"] for row in columns] == [float(row["test_accuracy"]) for row in table]
    again = sen_edge("sweep", path, "-o", out, "--json")
    found = json.loads(again.out)
    assert again.code == 0 and found["trials"] == 4 and found["failed"] == 0
    best = [each["validation_score"] for each in found["ranking"]]
    assert best == sorted(best, reverse=True)


def test_the_command_on_a_scheduler(sen_edge: Run, two_workers: Any, tmp_path: Path) -> None:
    outcome = sen_edge(
        "sweep", write(tmp_path, GRID), "-o", tmp_path / "out", "--scheduler", two_workers.scheduler.address
    )
    assert outcome.code == 0, outcome.err
    assert len(finished(tmp_path / "out")) == 4


@pytest.mark.slow
def test_every_trial_failing_is_a_failure(sen_edge: Run, tmp_path: Path) -> None:
    text = 'data = "digits"\n[training]\nhidden = [4]\nepochs = 1\n[grid]\ncompression.rank = [1000]'
    outcome = sen_edge("sweep", write(tmp_path, text), "-o", tmp_path / "out", "--workers", 1)
    assert outcome.code == 1 and "trial" in outcome.err
    assert "rank is 1000; the layers have at most" in (tmp_path / "out/results.csv").read_text()


#: `sen-edge sweep` with a trial of `tests.support.sweeps`, the first argument.
COMMAND = """
import sys
import sen_edge.sweep.trial
from sen_edge.cli.main import main
from tests.support import sweeps
sen_edge.sweep.trial.run_trial = getattr(sweeps, sys.argv.pop(1))
sys.exit(main())
"""


def run_stand_in(trial: str, tmp_path: Path) -> "subprocess.Popen[str]":
    """Start a sweep in a process group of its own, as a shell does."""
    path = write(tmp_path, GRID)
    command = [sys.executable, "-c", COMMAND, trial, "sweep", str(path), "-o", str(tmp_path / "out"), "--workers", "2"]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=ROOT
    )


def start(tmp_path: Path) -> "subprocess.Popen[str]":
    """Start a sweep whose first trial ends, and wait until it is kept; the others wait until they are killed."""
    process = run_stand_in("first_alone", tmp_path)
    while process.poll() is None and not finished(tmp_path / "out"):
        time.sleep(0.02)
    return process


def wait_for_end(pids: set[int]) -> bool:
    """Whether these processes end."""
    for _ in range(600):
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_killed_sweep_resumes(tmp_path: Path) -> None:
    process = start(tmp_path)
    children = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
    process.kill()
    process.communicate()
    before = finished(tmp_path / "out")
    assert len(before) == 1
    assert len(children) >= 2 and wait_for_end(children)
    again = run_stand_in("quick", tmp_path)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0 and err.splitlines()[0].startswith("1/4 trials"), err
    after = finished(tmp_path / "out")
    assert after[:1] == before and len(after) == 4


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    process = start(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert ": sen-edge" in err.splitlines()[-1]
    assert "Traceback" not in err, err
    assert len(finished(tmp_path / "out")) == 1


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = [0", "TOML"),
        (GRID + "\n[extra]\na = 1", "extra"),
        (GRID.replace("hidden", "hiden"), "training.hiden"),
        (GRID.replace("training.exponent", "training.exponnent"), "grid.training.exponnent"),
        (GRID.replace("training.exponent", "model.exponent"), "grid.model"),
        (GRID.replace("[8]", '"8"'), "training.hidden"),
        (GRID.replace("[8]", "[0]"), "training.hidden[0]"),
        (GRID.replace("dims = 3", "dims = 3.0"), "training.dims"),
        (GRID.replace("dims = 3", "dims = true"), "training.dims"),
        (GRID.replace("dims = 3", "dims = 1"), "dimensions"),
        (GRID.replace("dims = 3", "seed = 3"), "training.seed"),
        (GRID.replace("epochs", "beta"), "beta"),
        (GRID.replace("2.0", "-2.0"), "grid.training.exponent"),
        (GRID.replace("2.0", "1"), "[1.0, 1]"),
        (GRID.replace("[1.0, 2.0]", "1.0"), "grid.training.exponent"),
        (GRID.replace("dims = 3", "exponent = 1.0"), "training.exponent"),
        (GRID.replace("training.exponent = [1.0, 2.0]", ""), "grid"),
        (GRID.replace("exponent = [1.0, 2.0]", 'task = ["classification", "reconstruction"]'), "training.task"),
        (GRID.replace("[0, 1]", "[0, 0]"), "seeds"),
        (GRID.replace("[0, 1]", "[]"), "seeds"),
        (GRID.replace('data = "digits"', ""), ": data"),
        (GRID.replace('"digits"', "3"), ": data"),
        (GRID.replace('"digits"', '"ciphers"'), "ciphers'"),
        (GRID.replace('"digits"', '"none.npz"'), "none.npz"),
        (GRID.replace("dims = 3", 'dims = 3\nweights = "free"'), "dims"),
        (GRID.replace("dims = 3", 'weights = "frei"'), "'frei'"),
        (FREE.replace("epochs = 3\nas", "as"), "as_checkpoint"),
        (FREE.replace("[grid]\ncompression.sparsity = [0.8, 0.95]", "rank = 2\n[grid]\ntraining.batch_size = [32]"),
         "as_checkpoint"),
        (FREE.replace("as_checkpoint = true", "ramp = 0.5"), "compression.ramp"),
        (FREE.replace("as_checkpoint = true", "layers = [2]"), "layers"),
        (FREE.replace("epochs = 3", 'criterion = "distance"'), "criterion"),
        (GRID.replace("[grid]", "[compression]\nsparsity = 1.5\n[grid]"), "sparsity"),
        (GRID.replace("[grid]", "[compression]\npatience = 5\n[grid]"), "patience"),
        (GRID + "\n[sampled]\ntrials = 3", "[sampled]"),
        (GRID[: GRID.index("[grid]")], "[sampled]"),
        (SAMPLED.replace("trials = 14", ""), "sampled.trials"),
        (SAMPLED.replace("seed = 5", 'sampler = "best"'), "'best'"),
        (SAMPLED.replace("high = 3.0", "high = 3.0, step = 0.4"), "0.4"),
        (SAMPLED.replace("[2, 3]", "{ low = 3, high = 8, step = 100 }"), "100"),
        (SAMPLED.replace("[2, 3]", "{ low = 3, high = 8, step = 2.5 }"), "dims"),
        (GRID.replace("[1.0, 2.0]", f"[1{'0' * 400}]"), "integer"),
        (SAMPLED.replace("high", "hi"), "sampled.training.exponent: high"),
        (SAMPLED.replace("3.0", "0.5"), "exponent: high"),
        (SAMPLED.replace("high = 3.0", "high = 3.0, step = 0.5, log = true"), "exponent: log"),
        (SAMPLED.replace("0.5", "0"), "sampled.training.exponent"),
        (SAMPLED.replace("exponent", "gain"), "sampled.training.gain"),
    ],
)  # fmt: skip
def test_a_bad_sweep_file(text: str, message: str, sen_edge: Run, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    outcome = sen_edge("sweep", path, "-o", tmp_path / "out")
    assert outcome.code == 1
    assert message in outcome.err and str(path) in outcome.err
    assert not (tmp_path / "out").exists()


def test_no_sweep_file(sen_edge: Run, tmp_path: Path) -> None:
    outcome = sen_edge("sweep", tmp_path / "none.toml")
    assert outcome.code == 1 and str(tmp_path / "none.toml") in outcome.err


@pytest.mark.slow
def test_an_unreachable_scheduler(sen_edge: Run, tmp_path: Path) -> None:
    with socket.socket() as listener:  # bound, so that nobody else has the port, and not listening
        listener.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        outcome = sen_edge("sweep", write(tmp_path, GRID), "-o", tmp_path / "out", "--scheduler", address)
    assert outcome.code == 1 and address in outcome.err


def test_what_answers_is_no_scheduler(sen_edge: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        outcome = sen_edge("sweep", write(tmp_path, GRID), "-o", tmp_path / "out", "--scheduler", address)
        thread.join()
    assert outcome.code == 1 and address in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheduler", "10.0.0.4"), "tcp://10.0.0.4:8786"),
        (("--scheduler", "tcp://10.0.0.4"), "tcp://10.0.0.4:8786"),
        (("--scheduler", "http://10.0.0.4:8786"), "tcp://10.0.0.4:8786"),
        (("--scheduler", "tcp://10.0.0.4:x"), "tcp://10.0.0.4:8786"),
        (("--scheduler", "tcp://10.0.0.4:1", "--workers", "2"), "--workers"),
        (("--scheduler", "tcp://10.0.0.4:1", "--memory", "2"), "--memory"),
        (("--workers", "0"), "--workers"),
        (("--memory", "0"), "--memory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option(options: tuple[str, ...], message: str, sen_edge: Run, tmp_path: Path) -> None:
    outcome = sen_edge("sweep", write(tmp_path, GRID), "-o", tmp_path / "out", *options)
    assert outcome.code == 2 and message in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["distributed", "optuna", "pyarrow"])
def test_a_missing_package(module: str, sen_edge: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sen_edge import sweep

    monkeypatch.setattr(sweep, "find_spec", lambda name: None if name == module else object())
    outcome = sen_edge("sweep", write(tmp_path, GRID))
    assert outcome.code == 4 and module in outcome.err and "pip install 'sen-edge[sweep]'" in outcome.err
