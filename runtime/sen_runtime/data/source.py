"""Sources of examples: what a file holds of each part, and what a network takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from sen_runtime.data.targets import RawTargets
from sen_runtime.ir.network import names_of
from sen_runtime.task import CLASSIFICATION


@dataclass(frozen=True)
class Form:
    """How to read a source; by default for a network that is yet to be trained.

    Attributes:
        task: of the network; None infers it from the targets.
        target: columns of a table that are targets.
        feature_names: of the network: columns of a table that are inputs. Empty takes all that are no targets.
        output_names: of the network, such as its classes; empty takes those of the training data.
        has_steps: whether inputs are sequences `[n, T, ...]`; further axes are flattened.
        input_range: of the network; IDX bytes are scaled to it.
        is_trained: whether a network determines the form; its data may lack targets.
    """

    task: str | None = None
    target: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    has_steps: bool = False
    input_range: tuple[float, float] = (0.0, 1.0)
    is_trained: bool = False


def form_of(metadata: Mapping[str, str], input_range: tuple[float, float], *, has_steps: bool) -> Form:
    """Return the form of a network with these metadata."""
    target, features, outputs = (
        names_of(metadata, kind) for kind in ("target_columns", "feature_names", "output_names")
    )
    task = metadata.get("task", CLASSIFICATION)
    return Form(task, target, features, outputs, has_steps, input_range, is_trained=True)


@dataclass(frozen=True)
class Raw:
    """One part as a source holds it.

    Attributes:
        inputs: `[n, ...]`, numbers in memory or in a memory map.
        targets: or None.
        feature_names: of the inputs; empty if unknown.
        class_names: of class numbers; empty if unknown.
        column_names: of several targets; empty if unknown.
        notes: warnings, such as about columns that are not used.
        is_scaled: whether inputs are bytes, to scale to the input range; targets then are class numbers.
    """

    inputs: NDArray[Any]
    targets: RawTargets | None
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    column_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_scaled: bool = False


class Source(Protocol):
    """A file, or several that are one set."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of the source: of `TRAINING` and `TEST`, or `ALL` alone."""

    def read(self, part: str, form: Form) -> Raw:
        """Read a part."""

    def targets(self, part: str, form: Form) -> RawTargets | None:
        """Read the targets of a part."""
