"""The arena: memory that changes while a network runs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Vector:
    """A vector in the arena: `size` floats from float `start` on."""

    comment: str
    start: int
    size: int

    @property
    def nbytes(self) -> int:
        """Bytes in RAM."""
        return 4 * self.size


@dataclass
class Arena:
    """Allocates vectors one behind the other, at even floats."""

    vectors: list[Vector] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Floats up to the end of the last vector, in pairs."""
        last = self.vectors[-1] if self.vectors else Vector("", 0, 0)
        return last.start + last.size + last.size % 2

    def take(self, comment: str, size: int) -> int:
        """Allocate `size` floats; returns the first one's number."""
        self.vectors.append(Vector(comment, self.size, size))
        return self.vectors[-1].start
