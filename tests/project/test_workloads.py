"""Tables of docs/results/workloads.md from made-up rows, and the sizes of compared networks."""

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workloads(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import workloads as module  # type: ignore[import-not-found]

    return module


def test_the_narrow_network_has_about_as_many_numbers(workloads: Any) -> None:
    sizes = (640, 128, 128, 8, 128, 128, 640)
    found = workloads.narrowed(sizes, 30_000)
    assert found[0] == found[-1] == 640 and len(found) == len(sizes)
    assert abs(workloads.count(found) / 30_000 - 1) < 0.05


def test_a_finished_row_is_not_repeated(workloads: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(workloads, "ROWS", tmp_path / "rows.json")
    key = {"workload": "wine", "form": "dense", "seed": 0}
    for numbers in (1, 2):
        workloads.once(key, lambda numbers=numbers: {"numbers": numbers})
    assert workloads.read_rows() == [{**key, "numbers": 1}]


def test_tables_state_means_farthest_scores_and_ratios(workloads: Any) -> None:
    common = {"workload": "wine", "form": "dense", "metric": "accuracy", "numbers": 1091, "layers": [13, 64, 3]}
    kinds = {
        "float32": {"scores": {"model": 90.0, "onnx": 90.0, "tflite": 89.0}, "bytes": {"tflite": 6176, "sen": 5000}},
        "int8": {"scores": {"model": 90.0, "tflite": 87.5}, "bytes": {"tflite": 5184}},
    }
    rows = [
        *({**common, "seed": seed, "scores": {"accuracy": 90.0 + seed}} for seed in (0, 1)),
        {
            "workload": "wine",
            "exports": {"dense": kinds},
            "latencies_us": [["dense, float32", "litert", 2.0], ["dense, float32", "native", 0.5]],
        },
    ]
    lines = workloads.tables(rows, ["wine"], ["dense"], "dense")
    assert "| wine | dense | 13-64-3 | 1,091 | accuracy | 90.5 (90.0 to 91.0) | 2 |" in lines
    assert "| wine | dense | 90 | 89 | 87.5 | 6,176 | 5,184 | - |" in lines
    assert "| wine | dense | - | 1.00 | 0.25 | - |" in lines
