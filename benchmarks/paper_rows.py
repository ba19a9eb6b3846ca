"""Rows of docs/results/paper.md: figures of the paper (arXiv 2506.13410) and settings of the same networks here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sen_edge.sweep.file import Compression, Settings
from sen_edge.training.request import TrainRequest

#: Layers of the paper's networks, and the neurons of the fully connected ones with as many parameters as the 3-D SEN.
HIDDEN, EQUAL = 2048, 14
#: Training of all networks.
RECIPE = {"epochs": 30, "batch_size": 600, "shift": 0}
#: The paper's form, trained with a gain per layer, which positions and inhibitions absorb (tests/model/test_gains.py).
SPATIAL = {
    "hidden": (HIDDEN,),
    "dims": 3,
    "exponent": 1.0,
    "gain": True,
    "layer_axis": "learned",
    "layer_spacing": 0.1,
    "position_scale": 0.3,
    "learning_rate": 0.1,
}
#: In many dimensions.
MANY = {"learning_rate": 0.05}
#: A fixed layer distance sets the scale of the weights, and positions cannot absorb all gains.
FIXED = {"layer_axis": "fixed", "gain": False, "layer_spacing": 1.0, "position_scale": 10.0, "learning_rate": 0.3}
#: Learning rate of fully connected networks with 14 to 117 hidden neurons, best by validation, seed 0; of wide ones.
FREE = {"weights": "free", "learning_rate": 0.016}
WIDE = {"learning_rate": 0.004}
#: Spiking neurons of the paper, with two thirds of the epochs, as there.
SPIKING = {"arch": "snn", "threshold": 1.0, "beta": 0.95, "epochs": 20}
SPARSITIES = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
#: Epochs of pruning during training, after those of the training.
PRUNING_EPOCHS = 12


@dataclass(frozen=True)
class Row:
    """Network of the paper.

    Attributes:
        name: in the table.
        paper: mean test accuracy in percent in the paper; None for an extension.
        training: fields of `TrainRequest`.
        compression: fields of `Compression`; empty for none.
    """

    name: str
    paper: float | None
    training: Mapping[str, Any]
    compression: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_spatial(self) -> bool:
        """Whether the weights are computed from positions."""
        return "weights" not in self.training

    @property
    def n_gains(self) -> int:
        """Number of gains, which are not parameters of the paper's form."""
        return (len(self.training["hidden"]) + 1) * self.training.get("gain", False)

    def settings(self, seed: int, data: Mapping[str, Any]) -> Settings:
        """Return the settings of a trial on these data."""
        compression = asdict(Compression(**self.compression, seed=seed)) if self.compression else None
        return {"data": data, "training": asdict(TrainRequest(**self.training, seed=seed)), "compression": compression}


def spatial(name: str, paper: float | None, **training: Any) -> Row:
    """Return a row of a spatially embedded network."""
    return Row(f"SEN, {name}", paper, RECIPE | SPATIAL | training)


def conventional(hidden: int, paper: float, **training: Any) -> Row:
    """Return a row of a fully connected network."""
    return Row(f"fully connected, {hidden} hidden", paper, RECIPE | FREE | {"hidden": (hidden,)} | training)


LEARNED = "d = 3, layer distance learned"
SPATIAL_3D, SMALL, LARGE = spatial(LEARNED, 92.17), conventional(EQUAL, 94.29), conventional(HIDDEN, 97.45, **WIDE)
SPATIAL_D = (
    spatial("d = 5", 94.01, dims=5),
    spatial("d = 8", 95.22, dims=8),
    *(spatial(f"d = {dims}", paper, dims=dims, **MANY) for dims, paper in ((16, 95.76), (32, 95.66))),
)
#: In three dimensions exponent 2 is the best of 1.5, 2 and 3; 6 does not train.
EXTENSION_3D = {"exponent": 2.0, "gain": False, "layer_spacing": 1.0, "position_scale": 3.0, "learning_rate": 0.2}
EXTENDED_3D = spatial("d = 3, exponent 2 (extension)", None, **EXTENSION_3D)
EXTENDED_D = tuple(
    spatial(f"d = {dims}, exponent 6 (extension)", None, dims=dims, exponent=6.0, learning_rate=0.01)
    for dims in (16, 32)
)
#: With as many parameters as `SPATIAL_D`.
EQUAL_D = tuple(conventional(hidden, paper) for hidden, paper in ((20, 95.33), (32, 96.11), (60, 96.66), (117, 97.11)))
FIXED_3D = "d = 3, layer distance fixed"
PERCEPTRONS = (
    SPATIAL_3D,
    SMALL,
    spatial(FIXED_3D, 90.18, **FIXED),
    spatial("d = 3, z relaxed", 93.37, layer_axis="relaxed"),
    *SPATIAL_D,
    *EQUAL_D,
    LARGE,
    EXTENDED_3D,
    *EXTENDED_D,
)
SPIKING_3D, SPIKING_SMALL = spatial(LEARNED, 92.16, **SPIKING), conventional(EQUAL, 90.31, **SPIKING)
SPIKING_FIXED = spatial(FIXED_3D, 91.87, **FIXED, **SPIKING)
SPIKES = (SPIKING_3D, SPIKING_SMALL, SPIKING_FIXED, conventional(HIDDEN, 95.25, **WIDE, **SPIKING))
#: Spatially embedded and fully connected networks with as many parameters.
PAIRS = (
    (SPATIAL_3D, SMALL),
    *zip(SPATIAL_D, EQUAL_D, strict=True),
    (EXTENDED_3D, SMALL),
    *zip(EXTENDED_D, EQUAL_D[2:], strict=True),
    (SPIKING_FIXED, SPIKING_SMALL),
    (SPIKING_3D, SPIKING_SMALL),
)
#: Accuracies of the paper by sparsity, in the order of the networks of `_pruned`.
DURING = (
    (91.7, 91.7, 91.9, 92.2, 89.5, 82.7),
    (94.1, 93.6, 92.7, 86.7, 64.1, 41.4),
    (97.2, 97.1, 97.0, 96.8, 96.5, 95.8),
)
AFTER = ((80, 73, 69, 61, 51, 36), (94, 91, 75, 43, 17, 9), (97, 97, 96, 83, 55, 27))


def _pruned(papers: tuple[tuple[float, ...], ...], **compression: Any) -> tuple[Row, ...]:
    """Return rows of the 3-D SEN and of two fully connected networks, pruned by magnitude."""
    magnitude = {"criterion": "magnitude", **compression}
    return tuple(
        Row(f"{row.name}, {100 * share:.0f} %", paper, row.training, {**magnitude, "sparsity": share})
        for row, figures in zip((SPATIAL_3D, SMALL, LARGE), papers, strict=True)
        for share, paper in zip(SPARSITIES, figures, strict=True)
    )


#: In the order of the page.
SECTIONS: Mapping[str, tuple[Row, ...]] = {
    "perceptrons": PERCEPTRONS,
    "spiking": SPIKES,
    "pruned-after": _pruned(AFTER),
    "pruned-during": _pruned(DURING, epochs=PRUNING_EPOCHS, as_checkpoint=True),
}
