"""The little of SVG that charts need: elements, scales and axes. All text and attributes are escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from sen_runtime.bench.statistics import LOG_FROM
from sen_runtime.figures import brief

#: Width of a letter in the font of the charts, pixels: on the safe side.
LETTER_PX = 6.6
LINE_PX = 15


@dataclass(frozen=True)
class Scale:
    """From values to pixels.

    Attributes:
        low, high: values at the ends; low < high, and 0 < low where it is logarithmic.
        start, end: their pixels.
        is_log: whether equal ratios are equally wide, instead of equal differences.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a value; beyond the ends that of the end."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            part = log10(value / self.low) / log10(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """About `count` round values between the ends, or fewer."""
        if self.is_log:
            found = _log_ticks(self.low, self.high, count)
            if len(found) >= 2:
                return found
        found = _round_values(self.low, self.high, count)
        return found if len(found) >= 3 else _round_values(self.low, self.high, 2 * count)


def scale(values: Sequence[float], start: float, end: float, *, margin: float = 0.05, allow_log: bool = True) -> Scale:
    """A scale on which all values lie, `margin` of its length from the ends; logarithmic where they span a lot."""
    low, high = min(values), max(values)
    if allow_log and low > 0 and high / low > LOG_FROM:
        beyond = (high / low) ** margin
        return Scale(low / beyond, high * beyond, start, end, is_log=True)
    beyond = margin * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(low - beyond, high + beyond, start, end)


def element(tag: str, *children: str, **attributes: object) -> str:
    """An element; children are markup, attributes are escaped. `class_` is class, other `_` become `-`."""
    pairs = (f' {name.rstrip("_").replace("_", "-")}="{_attribute(value)}"' for name, value in attributes.items())
    content = "".join(children)
    return f"<{tag}{''.join(pairs)}>{content}</{tag}>" if content else f"<{tag}{''.join(pairs)}/>"


def text(x: float, y: float, words: str, anchor: str = "start", class_: str = "label") -> str:
    """Escaped words at a place."""
    return element("text", escape(words), x=x, y=y, text_anchor=anchor, class_=class_)


def picture(width: float, height: float, ident: str, title: str, description: str, *parts: str) -> str:
    """An `<svg>` that a screen reader announces as an image with this title and description."""
    return element(
        "svg",
        element("title", escape(title), id=f"{ident}-t"),
        element("desc", escape(description), id=f"{ident}-d"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        aria_labelledby=f"{ident}-t {ident}-d",
    )


def bottom_axis(across: Scale, top: float, bottom: float, label: str, count: int = 5) -> str:
    """Grid lines from top to bottom, the values below them, and below these what they are."""
    ticks, parts = across.ticks(count), []
    for value in ticks:
        x = across(value)
        parts += [line(x, top, x, bottom, "grid"), text(x, bottom + LINE_PX, brief(value), "middle", "tick")]
    parts.append(text((across.start + across.end) / 2, bottom + 2.1 * LINE_PX, label, "middle", "tick"))
    return "".join(parts)


def left_axis(upward: Scale, left: float, right: float, count: int = 3) -> str:
    """Grid lines from left to right, and their values at the left."""
    parts = []
    for value in upward.ticks(count):
        y = upward(value)
        parts += [line(left, y, right, y, "grid"), text(left - 6, y + 4, brief(value), "end", "tick")]
    return "".join(parts)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str, *, is_closed: bool = False) -> str:
    """A line through points, or the area within it."""
    steps = "L".join(f"{_attribute(x)} {_attribute(y)}" for x, y in points)
    return element("path", d=f"M{steps}{'Z' if is_closed else ''}", class_=class_)


def marker(x: float, y: float, shape: int, class_: str, radius: float = 5) -> str:
    """A dot, square, triangle or diamond: series are told apart without colour, too."""
    r = radius
    shapes = [
        [],
        [(-r, -r), (r, -r), (r, r), (-r, r)],
        [(0, -1.2 * r), (1.2 * r, r), (-1.2 * r, r)],
        [(0, -1.4 * r), (1.4 * r, 0), (0, 1.4 * r), (-1.4 * r, 0)],
        [(0, 1.2 * r), (1.2 * r, -r), (-1.2 * r, -r)],
    ]
    corners = shapes[shape % len(shapes)]
    if not corners:
        return element("circle", cx=x, cy=y, r=r, class_=class_)
    return path([(x + dx, y + dy) for dx, dy in corners], class_, is_closed=True)


def wrapped(words: str, width: float, most: int = 2) -> list[str]:
    """At most so many lines that fit into `width` pixels, broken between words; what is too long loses its middle."""
    room = max(4, int(width / LETTER_PX))
    lines: list[str] = []
    rest = words
    while rest and len(lines) < most:
        breaks = [match.end() for match in re.finditer(r"[ ._-]", rest[:room]) if match.end() > room // 3]
        cut = len(rest) if len(rest) <= room else breaks[-1] if breaks else room
        lines.append(rest[:cut])
        rest = rest[cut:].lstrip()
    if rest:  # the end says engine and threads: it is worth more than the middle
        tail = words[-(room // 2) :]
        lines[-1] = f"{lines[-1][: room - len(tail) - 1]}\N{HORIZONTAL ELLIPSIS}{tail}"
    return lines or [""]


def _attribute(value: object) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else escape(str(value))


def _round_values(low: float, high: float, count: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, not more than `count` apart from one end to the other."""
    least = (high - low) / count
    power = 10.0 ** floor(log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    return [index * step for index in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    """Powers of ten, with 2 and 5 times these where there is room."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    for factors in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(found) <= count + 1:
            return found
    return found[:: ceil(len(found) / count)]
