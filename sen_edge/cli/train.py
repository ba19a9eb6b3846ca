"""`sen-edge train`."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sen_edge.cli import console, options
from sen_edge.training.request import TrainRequest
from sen_runtime.figures import size

if TYPE_CHECKING:
    from sen_edge.data.datasets import Dataset
    from sen_edge.model.config import SpatialConfig
    from sen_edge.training.recipe import Recipe
    from sen_edge.training.train import TrainResult


#: Weights below which a second thread waits longer than it works.
SMALL = 1 << 16


@options.command
def train(
    request: TrainRequest,
    *,
    data: Annotated[
        str,
        typer.Option(
            help="mnist, digits, CSV or Parquet (with --target), .npz (x_train, y_train, x_test, y_test; or x, y: a "
            "fifth is test data), a folder of .npy, or IDX images."
        ),
    ] = "mnist",
    data_dir: options.DataDir = None,
    download: Annotated[bool, typer.Option("--download", help="Download MNIST (11 MB) if it is missing.")] = False,
    mirror: Annotated[
        str | None, typer.Option(help="URL to download MNIST from.", envvar="SEN_EDGE_MIRROR", metavar="URL")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads; results depend on their number. Default: all, 1 for a small network.", min=1),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint to write: .pt or .safetensors.")] = Path(
        "model.pt"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace the output and an interrupted run.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume an interrupted run, or start a new one if there is none.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Train a network, select the best epoch on held-out training data, and evaluate it on the test data.

    `sen-edge train --data mnist` alone gives a 784-512-10 perceptron with d = 32. Repeat an interrupted command with
    --resume to continue.
    """
    from sen_edge.data.datasets import load
    from sen_edge.training.train import check_output, config_of, recipe_of
    from sen_edge.training.train import train as run_train

    check_output(output, replace=force, resume=resume)
    steps = request.has_steps
    dataset = load(
        data, data_dir, task=request.task, target=request.target, has_steps=steps, download=download, mirror=mirror
    )
    config, recipe = config_of(request, dataset), recipe_of(request, dataset)
    _set_threads(config, threads)
    _announce(config, recipe, dataset)
    # The command that reproduces the checkpoint, for its metadata.
    command = shlex.join(["sen-edge", *(argument for argument in sys.argv[1:] if argument != "--resume")])
    metadata, begin = {"command": command}, time.monotonic()
    with console.interruptible(partial(_interrupted, output, command)), console.progress() as progress:
        result = run_train(
            config, dataset, recipe, out=output, replace=force, resume=resume, metadata=metadata, progress=progress
        )
    seconds, title = time.monotonic() - begin, dataset.test.title
    if as_json:
        figures = {"bytes": result.path.stat().st_size, "test_data": title, "seconds": seconds}
        console.print_json({**result.to_dict(), **figures, "recipe": asdict(recipe)})
    else:
        _print(result, title, seconds)


def _set_threads(config: SpatialConfig, threads: int | None) -> None:
    import torch

    if threads is not None or sum(n_in * n_out for n_in, n_out in pairwise(config.layer_sizes)) < SMALL:
        torch.set_num_threads(threads or 1)


def _interrupted(output: Path, command: str) -> list[str]:
    from sen_edge.training.loop import state_path

    state = state_path(output)
    if not state.exists():
        return ["interrupted in the first epoch; nothing is saved"]
    return [f"interrupted; {state} keeps the epochs done", f"  -> resume with: {command} --resume"]


def _announce(config: SpatialConfig, recipe: Recipe, dataset: Dataset) -> None:
    sizes = "-".join(map(str, config.layer_sizes))
    console.note(
        f"{config.task}: {config.architecture} {sizes}, d = {config.dimensions}, {config.n_parameters:,} parameters, "
        f"on {dataset.name}: {recipe.epochs} epochs, batch {recipe.batch_size}, peak learning rate "
        f"{recipe.learning_rate:g}, shift {recipe.shift}, seed {recipe.seed}"
    )


def _print(result: TrainResult, test_title: str, seconds: float) -> None:
    metric = result.metric
    rows = [
        *((f"test {each.name}, {test_title}", each.text(score)) for each, score in result.test_scores.items()),
        (f"validation {metric.name}, epoch {result.best_epoch}", metric.text(result.validation_score)),
        ("parameters", f"{result.checkpoint.n_parameters:,}"),
        ("size", size(result.path.stat().st_size)),
        ("time", f"{seconds:.0f} s"),
    ]
    console.console(stderr=False).print(console.table(str(result.path), ("figure", "value"), rows))
    console.note(f"next: sen-edge export {result.path}")
