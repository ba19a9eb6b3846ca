"""Trials of a sweep, and searches over them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.sweep import SweepError
from sen_edge.sweep.cluster import Records
from sen_edge.sweep.file import read_sweep, trial_id
from sen_edge.sweep.journal import open_journal, read_journal
from sen_edge.sweep.results import rank
from sen_edge.sweep.search import Point, Search, run_sweep
from sen_edge.sweep.trial import run_trial
from sen_runtime.task import ACCURACY, ERROR, RECONSTRUCTION, REGRESSION, of
from tests.support import sweeps
from tests.sweep.conftest import FREE, GRID, SAMPLED, State, comparable, finished, sweep, write


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
