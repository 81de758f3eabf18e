"""Accuracy of each class, the base beside every variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.report.pictures.section import Picture, Section
from edgekit.report.pictures.svg import GRID, INK, Axes, Canvas, ticks
from edgekit.tasks.metric import wilson

_ROW, _WIDTH, _LETTER_PX = 30, 560, 6.6
_TEXT = (
    "Share of each class's test samples that is right; the grey bar is the 95 % interval of the base. "
    "The axis does not begin at zero."
)


def classes_section(found: Mapping[str, Any], styles: Mapping[str, tuple[str, str]]) -> list[Section]:
    """The dots of every class and model."""
    part = found["by_class"]
    return [Section("Accuracy of each class", _TEXT, (dots(part["classes"], part["n"], part["right"], styles),))]


def dots(
    classes: Sequence[str], n: Sequence[int], right: Mapping[str, Sequence[int]], styles: Mapping[str, tuple[str, str]]
) -> Picture:
    """One row a class, one marker a model."""
    shares = {name: [r / c if c else None for r, c in zip(rights, n, strict=True)] for name, rights in right.items()}
    known = [s for each in shares.values() for s in each if s is not None]
    base = next(iter(shares))
    left = max(len(c) for c in classes) * _LETTER_PX + 70
    low = max(
        0.0, min([*known, *(wilson(s, c)[0] for s, c in zip(shares[base], n, strict=True) if s is not None)]) - 0.01
    )
    alt = f"accuracy of each of {len(classes)} classes for {', '.join(shares)}"
    canvas = Canvas(_WIDTH, 70 + _ROW * len(classes), alt)
    axes = Axes(left, 30, _WIDTH - left - 20, _ROW * len(classes), (low, 1.0), (0, 1))
    _frame(canvas, axes)
    for row, name in enumerate(classes):
        _row(canvas, axes, row, f"{name} ({n[row]})", {m: each[row] for m, each in shares.items()}, n[row], styles)
    _legend(canvas, list(shares), styles)
    return Picture("classes.svg", alt, canvas.render(), _WIDTH)


def _frame(canvas: Canvas, axes: Axes) -> None:
    for value in ticks(*axes.x):
        x, bottom = axes.at(value, 0)
        canvas.line([(x, axes.top), (x, bottom)], GRID)
        canvas.text(x, bottom + 15, f"{100 * value:.4g}", anchor="middle", size=11)
    canvas.text(axes.left + axes.width / 2, axes.top + axes.height + 33, "accuracy (%)", anchor="middle")


def _row(
    canvas: Canvas,
    axes: Axes,
    row: int,
    title: str,
    shares: Mapping[str, float | None],
    n: int,
    styles: Mapping[str, Any],
) -> None:
    middle = axes.top + _ROW * (row + 0.5)
    canvas.text(axes.left - 8, middle + 4, title, anchor="end", colour=INK)
    base = next(iter(shares.values()))
    if base is not None:
        (x_low, _), (x_high, _) = (axes.at(v, 0) for v in wilson(base, n))
        canvas.box(x_low, middle - 9, x_high - x_low, 18, GRID)
    for number, (name, share) in enumerate(shares.items()):
        if share is not None:
            y = middle + (number - (len(shares) - 1) / 2) * min(6.0, 16 / len(shares))
            colour, symbol = styles[name]
            canvas.mark(axes.at(share, 0)[0], y, colour, symbol, f"{name}: {100 * share:.2f} % of {n}")


def _legend(canvas: Canvas, names: Sequence[str], styles: Mapping[str, tuple[str, str]]) -> None:
    x = 10.0
    for name in names:
        canvas.mark(x + 5, 12, *styles[name])
        canvas.text(x + 14, 16, name)
        x += 30 + 7 * len(name)
