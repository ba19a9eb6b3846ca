"""`sen-edge train`."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sen_edge.cli import console
from sen_edge.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from sen_edge.data.datasets import Dataset
    from sen_edge.model.config import SpatialConfig
    from sen_edge.training.loop import Progress, Recipe
    from sen_edge.training.train import Result

ARCHITECTURES = ("mlp", "snn")


def train(
    *,
    data: Annotated[
        str,
        typer.Option(
            help="mnist, digits, a .npz (x_train, y_train, x_test, y_test; or x, y: a fifth is test data), IDX images."
        ),
    ] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the MNIST files.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch MNIST (11 MB) if it is not there.")] = False,
    mirror: Annotated[
        str | None, typer.Option(help="Fetch it from this URL.", envvar="SEN_EDGE_MIRROR", metavar="URL")
    ] = None,
    arch: Annotated[str, typer.Option(help="mlp, or snn for a spiking network.")] = "mlp",
    hidden: Annotated[str, typer.Option(help="Neurons of the hidden layers, separated by commas.")] = "512",
    dims: Annotated[int, typer.Option(help="Coordinates of a position, the layer axis included.")] = 32,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data. Default: 60.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Examples per step. Default: 256; 32 below 10,000 examples.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Peak of the one-cycle schedule. Default: 0.2; 0.1 below 8 --dims; over E^(5/3) with --exponent E > 1."
        ),
    ] = None,
    shift: Annotated[
        int | None,
        typer.Option(
            help="Move images by up to this many pixels while training. Default: 1 on MNIST, but 0 for --dims below 8."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the initial positions, held-out examples and order.")] = 0,
    steepness: Annotated[float, typer.Option(help="k of the inhibition mask.")] = 1.0,
    layer_spacing: Annotated[float, typer.Option(help="Distance of layers along a fixed layer axis.")] = 0.1,
    layer_axis: Annotated[str, typer.Option(help="fixed, or free (all coordinates learned).")] = "fixed",
    exponent: Annotated[float, typer.Option(help="Power of the distance.")] = 1.0,
    min_distance: Annotated[float, typer.Option(help="Floor of the distance.")] = 0.0,
    gain: Annotated[bool, typer.Option("--gain/--no-gain", help="Learn a factor for each layer.")] = True,
    bias: Annotated[bool, typer.Option("--bias/--no-bias", help="Learn a bias for each neuron.")] = True,
    timesteps: Annotated[int | None, typer.Option(help="Steps T of a spiking network. Default: 10.")] = None,
    beta: Annotated[float | None, typer.Option(help="Decay of the membrane per step. Default: 0.9.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Membrane above which a neuron spikes. Default: 1.")] = None,
    reset: Annotated[str | None, typer.Option(help="subtract or zero. Default: subtract.")] = None,
    reset_delay: Annotated[
        bool | None,
        typer.Option(
            "--reset-delay/--no-reset-delay",
            help="Reset after the next decay, or in the step of the spike. Default: after the next decay.",
        ),
    ] = None,
    readout: Annotated[
        str | None, typer.Option(help="mean_membrane, last_membrane or spike_count. Default: mean_membrane.")
    ] = None,
    input_coding: Annotated[
        str | None, typer.Option(help="direct, or spikes (a .npz with inputs [n, T, n_in]). Default: direct.")
    ] = None,
    surrogate_slope: Annotated[
        float | None, typer.Option(help="Slope of the spike's surrogate gradient. Default: 5.")
    ] = None,
    validation: Annotated[
        float, typer.Option(help="Share of the training data that selects the epoch.", show_default="1/12")
    ] = 1 / 12,
    threads: Annotated[int | None, typer.Option(help="Threads; results depend on them. Default: all.", min=1)] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help=".pt or .safetensors to write.")] = Path("model.pt"),
    force: Annotated[bool, typer.Option("--force", help="Replace the output, and an interrupted training.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume an interrupted training; without a saved state, start it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Train a network, keep the epoch that is best on held-out training data, and measure it on the test data.

    `sen-edge train --data mnist` alone gives a 784-512-10 perceptron with d = 32. An interrupted training goes on
    when the same command is given again with --resume.
    """
    import torch

    from sen_edge.data.datasets import load
    from sen_edge.training.loop import suggested_recipe
    from sen_edge.training.state import state_path
    from sen_edge.training.train import check_output, suggested_spiking
    from sen_edge.training.train import train as run_train

    if threads is not None:
        torch.set_num_threads(threads)
    spiking = _given(
        timesteps=timesteps,
        beta=beta,
        threshold=threshold,
        reset=reset,
        reset_delay=reset_delay,
        readout=readout,
        input_coding=input_coding,
        surrogate_slope=surrogate_slope,
    )
    _check_architecture(arch, spiking)
    sizes = _hidden(hidden)
    check_output(output, replace=force, resume=resume)
    dataset = load(
        data, data_dir, spikes=input_coding == "spikes", download=download, mirror=mirror, report=console.note
    )
    for warning in dataset.warnings():
        console.note(f"warning: {warning}")
    recipe = replace(
        suggested_recipe(dims, dataset, exponent),
        seed=seed,
        validation=validation,
        **_given(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, shift=shift),
    )
    config = _config(
        layer_sizes=(dataset.n_in, *sizes, dataset.n_classes),
        dimensions=dims,
        layer_axis=layer_axis,
        layer_spacing=layer_spacing,
        steepness=steepness,
        exponent=exponent,
        min_distance=min_distance,
        gain=gain,
        bias=bias,
        input_range=dataset.input_range,
        spiking=None if arch == "mlp" else {**suggested_spiking(dataset), **spiking},
    )
    _announce(config, recipe, dataset)
    if resume and not state_path(output).exists():
        console.note(f"{state_path(output)} does not exist, so there is nothing to resume: training starts at epoch 1")
    begin = time.monotonic()
    with console.interruptible(partial(_interrupted, output)), _progress(recipe) as progress:
        result = run_train(
            config,
            dataset,
            recipe,
            out=output,
            replace=force,
            resume=resume,
            metadata={"command": _command()},
            progress=progress,
        )
    _print(result, recipe, dataset.test.title, time.monotonic() - begin, as_json=as_json)


def _given(**values: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def _check_architecture(arch: str, spiking: dict[str, Any]) -> None:
    if arch not in ARCHITECTURES:
        raise UsageError(f"--arch is {arch!r}; expected {' or '.join(ARCHITECTURES)}")
    if arch == "mlp" and spiking:
        raise UsageError(f"--{next(iter(spiking)).replace('_', '-')} is for spiking networks; add --arch snn")


def _hidden(text: str) -> tuple[int, ...]:
    sizes = [size.strip() for size in text.split(",")] if text.strip() else []
    if not all(size.isdecimal() and int(size) >= 1 for size in sizes):
        raise UsageError(f"--hidden is {text!r}; expected numbers >= 1 separated by commas, such as 512,256")
    return tuple(int(size) for size in sizes)


def _config(*, spiking: dict[str, Any] | None, **values: Any) -> SpatialConfig:
    from sen_edge.model.config import SpatialConfig, SpikingConfig

    try:
        return SpatialConfig(**values, spiking=None if spiking is None else SpikingConfig(**spiking))
    except CheckpointError as error:  # here the values come from options, not from a file
        raise UsageError(error.message, error.hint) from None


def _command() -> str:
    """The command line as metadata: what to run to get this checkpoint again."""
    return shlex.join(["sen-edge", *(argument for argument in sys.argv[1:] if argument != "--resume")])


def _announce(config: SpatialConfig, recipe: Recipe, dataset: Dataset) -> None:
    sizes = "-".join(map(str, config.layer_sizes))
    n_parameters = sum(math.prod(shape) for shape in config.tensor_shapes().values())
    console.note(
        f"{config.architecture} {sizes}, d = {config.dimensions}, {n_parameters:,} parameters, on {dataset.name}: "
        f"{recipe.epochs} epochs, batch {recipe.batch_size}, peak learning rate {recipe.learning_rate:g}, "
        f"shift {recipe.shift}, seed {recipe.seed}"
    )


def _interrupted(output: Path) -> list[str]:
    """What an interrupted training keeps, and how to resume it."""
    from sen_edge.training.state import state_path

    state = state_path(output)
    if not state.exists():
        return ["interrupted before the first epoch was done; nothing is kept"]
    return [f"interrupted; {state} keeps the epochs done", f"  -> go on with: {_command()} --resume"]


@contextmanager
def _progress(recipe: Recipe) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line per epoch elsewhere; both on stderr."""
    terminal = console.console(stderr=True)
    if not terminal.is_terminal:
        yield lambda now: None if now.validation_accuracy is None else console.note(_line(now, recipe))
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Bar(*columns, console=terminal) as bar:
        task = bar.add_task("training", total=recipe.epochs)

        def show(now: Progress) -> None:
            bar.update(task, completed=now.epoch - 1 + now.step / now.steps, description=_line(now, recipe))

        yield show


def _line(now: Progress, recipe: Recipe) -> str:
    line = f"epoch {now.epoch:>3}/{recipe.epochs}  loss {now.loss:.4f}  accuracy {now.accuracy:.2f} %"
    if now.validation_accuracy is None or now.best_accuracy is None:
        return line
    return f"{line}  validation {now.validation_accuracy:.2f} %  best {now.best_accuracy:.2f} %"


def _print(result: Result, recipe: Recipe, test_title: str, seconds: float, *, as_json: bool) -> None:
    made = result.checkpoint
    n_bytes = result.path.stat().st_size
    if as_json:
        console.print_json(
            {
                "output": str(result.path),
                "bytes": n_bytes,
                "parameters": made.n_parameters,
                "test_accuracy": result.test_accuracy,
                "test_data": test_title,
                "validation_accuracy": result.validation_accuracy,
                "best_epoch": result.best_epoch,
                "seconds": seconds,
                "config": made.config.to_dict(),
                "recipe": asdict(recipe),
                "metadata": dict(made.metadata),
            }
        )
        return
    rows = [
        (f"test accuracy, {test_title}", f"{result.test_accuracy:.2f} %"),
        (f"validation accuracy, epoch {result.best_epoch}", f"{result.validation_accuracy:.2f} %"),
        ("parameters", f"{made.n_parameters:,}"),
        ("size", console.size(n_bytes)),
        ("time", f"{seconds:.0f} s"),
    ]
    console.console(stderr=False).print(console.table(str(result.path), ("figure", "value"), rows))
    console.note(f"next: sen-edge export {result.path}")
