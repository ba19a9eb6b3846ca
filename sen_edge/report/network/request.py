"""Request of a picture of a network, as Python and `sen-edge plot` take it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from sen_edge.errors import OutputError, UsageError
from sen_edge.report.drawing import PICTURES
from sen_edge.schema import Option, Positive, Schema, SchemaError, Whole

PAGE = ".html"
SUFFIXES = (PAGE, *PICTURES)
BEFORE_AFTER = "before-after"
PANELS = ("network", "distances", "weights", "degrees", "wiring", "delays", "input-grid", BEFORE_AFTER)


@dataclass(frozen=True)
class PlotRequest(Schema):
    """Network, content and file of a picture."""

    model: Annotated[
        Path, Option("Checkpoint, or .sen image that stores coordinates.", metavar="MODEL", is_argument=True)
    ]
    output: Annotated[Path, Option(".html for an interactive page; .png, .svg or .pdf for charts.", short="-o")] = Path(
        "network.html"
    )
    what: Annotated[
        tuple[str, ...],
        Option(
            f"Charts, separated by commas: {', '.join(PANELS)}=OTHER.pt. Default: all with content.", metavar="NAME,..."
        ),
    ] = ()
    synapses: Annotated[Whole | None, Option("Draw the strongest N of each layer. Default: 500.", metavar="N")] = None
    max_distance: Annotated[Positive | None, Option("Draw all up to this length instead.", metavar="R")] = None
    data: Annotated[
        str | None, Option("Input of a spiking network: mnist, digits, a .npz or IDX images. Default: random.")
    ] = None
    data_dir: Annotated[Path | None, Option("Folder of the data sets.")] = None
    example: Annotated[Whole, Option("Index of the input in the test data, from 0.", metavar="N")] = 0
    seed: Annotated[Whole, Option("Seed of the random input.")] = 0
    map_path: Annotated[Path | None, Option("TOML map of a foreign state dict.", flag="--map", metavar="FILE")] = None

    def check(self) -> None:
        """Refuse values without effect, and the model as output."""
        if self.suffix not in SUFFIXES:
            raise UsageError(
                f"{self.output}: the suffix is {self.output.suffix!r}; expected one of {', '.join(SUFFIXES)}"
            )
        if self.synapses is not None and self.max_distance is not None:
            raise UsageError("--synapses and --max-distance exclude each other", hint="leave one out")
        for item in self.what:
            name, _, path = item.partition("=")
            if name not in PANELS or bool(path) != (name == BEFORE_AFTER):
                raise SchemaError(f"has {item!r}; expected {', '.join(PANELS)}=OTHER.pt", key="what")
        if self.what and self.is_page:
            raise UsageError(f"--what is for {', '.join(PICTURES)}", hint="leave it out: a page shows the network")
        models = (self.model, self.panels.get(BEFORE_AFTER, self.model))
        if self.output.resolve() in map(Path.resolve, models):
            raise OutputError(f"{self.output} is the model itself", hint="choose another with -o")

    @property
    def suffix(self) -> str:
        """Suffix of the output: one of `SUFFIXES`."""
        return self.output.suffix.lower()

    @property
    def is_page(self) -> bool:
        """Whether the output is the interactive page."""
        return self.suffix == PAGE

    @property
    def panels(self) -> dict[str, Path]:
        """Charts, and the other checkpoint of "before-after"; empty for all with content."""
        return {name: Path(path) for name, _, path in (item.partition("=") for item in self.what)}
