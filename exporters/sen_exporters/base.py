"""The contract of an exporter, and how exporters are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from annotated_types import Ge, Lt, MinLen

from sen_runtime.errors import SenError
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import RefractoryLif

ENTRY_POINT_GROUP = "sen_edge.exporters"
#: Steps of an unrolled graph; onnxruntime loads it in a time that grows with their square.
MAX_UNROLLED_STEPS = 2048


class ExportError(SenError):
    """A network or an option that a target does not support."""

    exit_code = 2


class NoFormError(ExportError):
    """A network or an option that only other targets support."""


SparseFormat = Literal["densify", "block", "dense"]
SPARSE_FORMAT_HELP = (
    "Storage of sparse weights: densify (smallest; expanded at load), block (TFLite kernels for 1x4 blocks) or dense "
    "(zeros stored; most portable)."
)


@dataclass(frozen=True)
class ExportOptions:
    """Options of every exporter. Exporters add fields in a subclass and reject unsupported values in `check`.

    The annotation of a field defines valid values: `Literal` for a choice, `annotated_types` for bounds and for `doc`,
    the text of `sen-edge export --help`. `sen_edge.exporting.options` validates values by it.

    Attributes:
        name: stem of the files, and the graph's name.
        batch_size: fixed batch, or None for a dynamic one.
        snn: "unrolled", "scan" or "step"; ignored by a multilayer perceptron.
    """

    name: Annotated[str, MinLen(1)] = "model"
    batch_size: Annotated[int | None, Ge(1), Lt(1 << 31)] = None
    snn: Literal["unrolled", "scan", "step"] = "unrolled"

    @property
    def granularity(self) -> Literal["channel", "tensor"]:
        """Scales of int8 weights that these files need: one per row, or one per matrix."""
        return "channel"


@dataclass(frozen=True)
class Artifact:
    """Files of one export, in memory, before verification.

    Attributes:
        target: name of the exporter.
        files: file name -> bytes; the first is the one an engine loads. Names `FOLDER/...` all have the same folder.
        footprint: bytes on a device by kind of memory; None where the target does not know them.
    """

    target: str
    files: Mapping[str, bytes]
    footprint: Mapping[str, int] | None = None

    @property
    def main_name(self) -> str:
        """Name of the file an engine loads."""
        return next(iter(self.files))

    @property
    def main(self) -> bytes:
        """Bytes of that file."""
        return self.files[self.main_name]

    def with_main(self, content: bytes) -> Artifact:
        """Replace the bytes of that file."""
        return replace(self, files={**self.files, self.main_name: content})

    def write(self, folder: Path) -> Path:
        """Write the files into `folder`, and return the path of the one an engine loads."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder / self.main_name


class Exporter(Protocol):
    """One target, without state. A subclass inherits `main_file` and `instrument`.

    Attributes:
        name: for `--to`.
        suffixes: endings of its files, the main one first; `verify` finds the exporter of a file by them.
        Options: class of its options; `ExportOptions` where it adds none.
        uses_batch_size: whether `ExportOptions.batch_size` changes its files.
        is_optional: whether it needs programs that an installation may lack.
        int4_dtypes: values of `--dtype` whose int4 weights its files hold in 4 bits; others become int8.
    """

    name: str
    suffixes: tuple[str, ...]
    Options: type[ExportOptions]
    uses_batch_size: bool = True
    is_optional: bool = False
    int4_dtypes: tuple[str, ...] = ()

    def main_file(self, options: Any) -> str:
        """Name of the file an engine loads, by default `NAME` and the main suffix; `FOLDER/FILE` of a folder."""
        return f"{options.name}{self.suffixes[0]}"

    def check(self, network: Network, options: Any) -> None:
        """Raise `ExportError` if this network cannot be expressed with these options."""

    def export(self, network: Network, options: Any) -> Artifact:
        """Build the files. The same network and options give the same bytes."""

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """Add `properties` to the metadata of an artifact; nothing else changes."""

    def properties(self, model: bytes) -> Mapping[str, str]:
        """Read the metadata of a file, as `stamp` wrote it."""

    def engines(self, model: bytes) -> tuple[str, ...]:
        """Names of the engines that must compute the same with a file, the preferred one first."""

    def instrument(self, model: bytes) -> bytes:
        """Add each layer's activation (spike count) to a model as an output `layerN/activation`.

        By default the model itself, whose engines show every layer.
        """
        return model


def describe(network: Network, snn: str = "") -> dict[str, str]:
    """Metadata that an artifact of a network has: its own, its architecture, and its time steps with the form `snn`."""
    properties = {**network.metadata, "architecture": "-".join(map(str, network.layer_sizes))}
    if network.is_spiking:
        properties |= {
            **({"snn": snn} if snn else {}),
            "timesteps": str(network.timesteps),
            "input_coding": network.input_coding,
            **({"delta": f"{network.delta:.9g}"} if network.delta else {}),
            "readout": network.readout,
            **({} if network.readout_decay == 1 else {"readout_decay": f"{network.readout_decay:.9g}"}),
        }
    return properties


def check_float_activations(network: Network, target: str) -> None:
    """Refuse int8 activations with a `NoFormError`."""
    if network.input_grid is not None:
        raise NoFormError(
            f"{target} has no int8 activations",
            hint="--dtype int8-dynamic stores int8 weights here; --to tflite, sen and c take int8 activations",
        )


def name_memory(network: Network) -> str:
    """What a network has beyond membranes and weights of the same step, such as "delays and recurrent synapses"."""
    layers = network.layers
    names = {
        "delays": any(layer.delay is not None for layer in layers),
        "recurrent synapses": any(layer.recurrent is not None for layer in layers),
        "synaptic currents": any(layer.synapse != 0 for layer in layers),
        "refractory neurons": any(isinstance(layer.neuron, RefractoryLif) for layer in layers),
        "a mean whose steps differ in weight": network.readout_decay != 1,
    }
    *most, last = [name for name, is_present in names.items() if is_present]
    return f"{', '.join(most)} and {last}" if most else last


def check_unrolled(network: Network, options: ExportOptions, other_forms: str) -> None:
    """Refuse an unrolled graph of more than `MAX_UNROLLED_STEPS` steps with an `ExportError`.

    `other_forms` are other values of `--snn` that the target has.
    """
    if options.snn == "unrolled" and network.timesteps > MAX_UNROLLED_STEPS:
        raise ExportError(
            f"--snn unrolled writes out {network.timesteps:,} time steps; expected at most {MAX_UNROLLED_STEPS:,}",
            hint=f"take --snn {other_forms}, whose size does not grow with the steps",
        )


def check_step(network: Network, options: ExportOptions) -> None:
    """Refuse a step model whose outputs do not add up to the output of the network with an `ExportError`.

    Outputs of the steps are averaged, added up, or all but the last ignored. The mean of restored membranes is the
    restored mean; nothing else may follow a mean or a sum.
    """
    if not network.is_spiking or options.snn != "step":
        return
    refused = ""
    if network.readout == "spike_count" and network.output_scaling is not None:
        refused = "a restored output of a spike count, which"
    elif network.readout_decay != 1 and network.output_scaling is not None:
        refused = "a restored output of a mean whose steps differ in weight, which"
    elif network.readout != "last_membrane" and network.output_activation != "none":
        refused = f"{network.output_activation} of a {network.readout.replace('_', ' ')}, which"
    if refused:
        raise ExportError(
            f"--snn step has no form for the {refused} needs all steps",
            hint=f"take --snn unrolled{', or omit --probabilities' * (network.output_activation != 'none')}",
        )


def exporter_names() -> tuple[str, ...]:
    """Names of the installed exporters, including those of third parties."""
    return tuple(sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)}))


def exporter(name: str) -> Exporter:
    """The exporter called `name`.

    Raises:
        ExportError: there is none, or its package does not load.
    """
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            return _load(point)
    raise ExportError(f"no exporter called {name!r}; expected one of {', '.join(exporter_names())}")


def exporter_for(suffix: str) -> Exporter:
    """The exporter that writes files with this ending, of those that load.

    Raises:
        ExportError: there is none.
    """
    known: list[str] = []
    for name, candidate in usable_exporters().items():
        if isinstance(candidate, ExportError):
            known.append(f"({name}: {candidate.message})")
            continue
        if suffix in candidate.suffixes:
            return candidate
        known += candidate.suffixes
    raise ExportError(f"no exporter writes {suffix!r} files; known are {', '.join(known)}")


def usable_exporters() -> dict[str, Exporter | ExportError]:
    """Every installed exporter by name, or the error where it does not load."""
    found: dict[str, Exporter | ExportError] = {}
    for name in exporter_names():
        try:
            found[name] = exporter(name)
        except ExportError as error:
            found[name] = error
    return found


def _load(point: EntryPoint) -> Exporter:
    try:
        loaded: Exporter = point.load()()
    except Exception as error:  # code of a third party
        missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
        hint = f"is {missing} installed? `sen-edge doctor` says what is missing" if missing else ""
        raise ExportError(f"exporter {point.name!r} ({point.value}) does not load: {error}", hint) from error
    return loaded
