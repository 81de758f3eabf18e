"""Charts as SVG, without a library: the same text is a file, and a part of the page with tooltips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

INK, FAINT, GRID = "#1f2937", "#6b7280", "#e5e7eb"
# By the names of Plotly's markers, in which the other plots of a report speak.
_SHAPES = {
    "square": "M-4.5 -4.5h9v9h-9z",
    "triangle-up": "M0 -5.5L5.5 4.5H-5.5z",
    "x": "M-4.5 -2.5L-2.5 -4.5L0 -2L2.5 -4.5L4.5 -2.5L2 0L4.5 2.5L2.5 4.5L0 2L-2.5 4.5L-4.5 2.5L-2 0z",
    "star": "M0 -6L1.8 -1.9L6 -1.9L2.6 0.9L3.8 5.2L0 2.6L-3.8 5.2L-2.6 0.9L-6 -1.9L-1.8 -1.9z",
    "pentagon": "M0 -5.5L5.3 -1.7L3.3 4.5H-3.3L-5.3 -1.7z",
    "diamond": "M0 -6L5 0L0 6L-5 0z",
}
_TALLEST_TICKS = 6


@dataclass
class Canvas:
    """A drawing of so many pixels; y counts downwards."""

    width: float
    height: float
    alt: str
    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        said: str,
        *,
        anchor: str = "start",
        size: float = 12,
        colour: str = INK,
        turn: int = 0,
    ) -> None:
        """Write a line of text with its baseline at y; `turn` in degrees about its own place."""
        turned = f' transform="rotate({turn} {_n(x)} {_n(y)})"' if turn else ""
        self.parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}" font-size="{_n(size)}" fill="{colour}"{turned}>'
            f"{escape(said)}</text>"
        )

    def line(self, points: Sequence[tuple[float, float]], colour: str = INK, width: float = 1, dash: str = "") -> None:
        """A line through points."""
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>')

    def box(
        self, x: float, y: float, width: float, height: float, colour: str, tip: str = "", opacity: float = 1
    ) -> None:
        """A filled rectangle with a tooltip."""
        faint = f' fill-opacity="{opacity}"' if opacity < 1 else ""
        where = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
        self.parts.append(f'<rect {where} fill="{colour}"{faint}>{_tip(tip)}</rect>')

    def mark(self, x: float, y: float, colour: str, symbol: str = "circle", tip: str = "") -> None:
        """A marker of a named shape with a tooltip."""
        if symbol in _SHAPES:
            where = f'd="{_SHAPES[symbol]}" transform="translate({_n(x)} {_n(y)})"'
            self.parts.append(f'<path {where} fill="{colour}">{_tip(tip)}</path>')
        else:
            self.parts.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="4.5" fill="{colour}">{_tip(tip)}</circle>')

    def render(self) -> bytes:
        """The file."""
        size = f'viewBox="0 0 {_n(self.width)} {_n(self.height)}" width="{_n(self.width)}" height="{_n(self.height)}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="system-ui, sans-serif">'
        title = f"<title>{escape(self.alt)}</title>"
        ground = f'<rect width="{_n(self.width)}" height="{_n(self.height)}" fill="white"/>'
        return "\n".join([head, title, ground, *self.parts, "</svg>", ""]).encode()


@dataclass(frozen=True)
class Axes:
    """A rectangle of a canvas in which values have places.

    Attributes:
        left: Of the rectangle, in pixels; so are top, width and height.
        x: Lowest and highest value.
        y: Lowest and highest value.
        log_y: Whether y is logarithmic.
    """

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    log_y: bool = False

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of a value."""
        low, high, value = (math.log10(v) for v in (*self.y, y)) if self.log_y else (*self.y, y)
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        return self.left + across * self.width, self.top + (1 - (value - low) / ((high - low) or 1)) * self.height

    def draw(self, canvas: Canvas, x_title: str = "", y_title: str = "", *, whole_x: bool = False) -> None:
        """Grid, numbers and titles."""
        for value in _decades(*self.y) if self.log_y else ticks(*self.y):
            _, y = self.at(self.x[0], value)
            canvas.line([(self.left, y), (self.left + self.width, y)], GRID)
            canvas.text(self.left - 6, y + 4, _number(value), anchor="end", size=11, colour=FAINT)
        for value in ticks(*self.x, whole=whole_x):
            x, bottom = self.at(value, self.y[0])
            canvas.line([(x, self.top), (x, bottom)], GRID)
            canvas.text(x, bottom + 15, _number(value), anchor="middle", size=11, colour=FAINT)
        middle = self.left + self.width / 2
        canvas.text(middle, self.top + self.height + 32, x_title, anchor="middle")
        if y_title:
            canvas.text(self.left, self.top - 10, y_title)


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Round values within a range, four to seven or so.

    >>> ticks(0, 1), ticks(0.92, 0.97), ticks(1, 3, whole=True)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.92, 0.93, 0.94, 0.95, 0.96, 0.97], [1.0, 2.0, 3.0])
    """
    span = (high - low) or 1.0
    raw = span / _TALLEST_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    step = max(1.0, round(step)) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [d * 10.0**p for p in powers for d in (1, 2, 5)]
    inside = [v for v in every if low <= v <= high]
    tens = [v for v in inside if math.isclose(math.log10(v), round(math.log10(v)))]
    return tens if len(tens) > 3 else inside


def _number(value: float) -> str:
    return f"{value:.4g}"


def _n(value: float) -> str:
    return f"{value:.5g}"


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""
