"""Which classes are taken for which: the base, the variant, and what compression changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.report.pictures.colours import ink_on, shade, signed_shade
from edgekit.report.pictures.section import Picture, Section, file_part
from edgekit.report.pictures.svg import FAINT, Canvas
from edgekit.specs import Array

_CELL, _SMALL_CELL, _FEW_CLASSES = 40, 26, 12
_LETTER_PX = 6.2
_TEXT = (
    "Rows are true classes, columns predicted ones; a cell holds the number of test samples and their share of the "
    "row, and its colour is that share on a square-root scale, the same for both models. In the difference, red cells "
    "have more samples in the compressed model, blue ones fewer."
)


def confusion_section(found: Mapping[str, Any]) -> list[Section]:
    """The matrices of a classification; `found` is the part of that name in results.json."""
    classes, counts = found["classes"], {n: np.array(c) for n, c in found["confusion"].items()}
    base, *variants = counts
    pictures = [matrix(f"confusion-{file_part(n)}.svg", n, classes, c) for n, c in counts.items()]
    facts = []
    for name in variants:
        change = counts[name] - counts[base]
        if change.any():
            file = f"confusion-difference-{file_part(name)}.svg"
            pictures.append(difference(file, f"{name} - {base}", classes, change))
        facts.append(_changes(name, found["changed"][name], found["n"]))
    folded = "" if "other" not in classes else f" Shown are the {len(classes) - 1} classes with the most mistakes."
    return [Section("Confusion", _TEXT + folded, tuple(pictures), tuple(facts))]


def _changes(name: str, changed: Mapping[str, int], n: int) -> str:
    total = sum(changed.values())
    return (
        f"{name} gives another answer than the first for {total} of {n} samples: "
        f"{changed['right_to_wrong']} from right to wrong, {changed['wrong_to_right']} from wrong to right, "
        f"{changed['wrong_to_wrong']} from one wrong class to another."
    )


def matrix(file: str, title: str, classes: Sequence[str], counts: Array) -> Picture:
    """Counts and shares of their rows; int (classes, classes)."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = int(np.diag(counts).sum())
    alt = f"confusion matrix of {title}: {right} of {int(counts.sum())} right"
    canvas, place = _frame(title, alt, classes)
    for row, column in np.ndindex(*counts.shape):
        count, share = int(counts[row, column]), float(shares[row, column])
        tip = f"{classes[row]} taken for {classes[column]}: {count} ({100 * share:.1f} %)"
        _cell(canvas, place, row, column, shade(share**0.5), str(count) if count else "", _percent(share), tip)
    return Picture(file, alt, canvas.render(), int(canvas.width))


def difference(file: str, title: str, classes: Sequence[str], change: Array) -> Picture:
    """How many samples more or fewer are in each cell; int (classes, classes)."""
    alt = f"difference of the confusion matrices, {title}: {int(np.abs(change).sum() // 2)} samples moved"
    canvas, place = _frame(title, alt, classes)
    peak = max(1, int(np.abs(change).max()))
    for row, column in np.ndindex(*change.shape):
        count = int(change[row, column])
        tip = f"{classes[row]} taken for {classes[column]}: {count:+d}"
        _cell(canvas, place, row, column, signed_shade(0.8 * count / peak), f"{count:+d}" if count else "", "", tip)
    return Picture(file, alt, canvas.render(), int(canvas.width))


def _percent(share: float) -> str:
    return "" if share == 0 else "<0.1%" if share < 0.001 else f"{100 * share:.1f}%" if share < 0.9995 else "100%"


def _frame(title: str, alt: str, classes: Sequence[str]) -> tuple[Canvas, tuple[float, float, float]]:
    """A canvas with the names of the classes; where the cells begin, and their side."""
    side = _CELL if len(classes) <= _FEW_CLASSES else _SMALL_CELL
    names = max(len(c) for c in classes) * _LETTER_PX + 12
    left, top = names + 18, names * 0.75 + 44
    canvas = Canvas(left + side * len(classes) + 34, top + side * len(classes) + 10, alt)
    canvas.text(0, 15, title, size=14)
    canvas.text(left, 33, "predicted", colour=FAINT)
    canvas.text(12, top + side * len(classes) / 2, "true", colour=FAINT, turn=-90, anchor="middle")
    for index, name in enumerate(classes):
        canvas.text(left - 6, top + side * (index + 0.5) + 4, name, anchor="end")
        canvas.text(left + side * (index + 0.5), top - 6, name, turn=-45)
    return canvas, (left, top, side)


def _cell(
    canvas: Canvas,
    place: tuple[float, float, float],
    row: int,
    column: int,
    colour: str,
    count: str,
    share: str,
    tip: str,
) -> None:
    left, top, side = place
    x, y = left + side * column, top + side * row
    large = side == _CELL
    canvas.box(x + 0.5, y + 0.5, side - 1, side - 1, colour if count else "#f3f4f6", tip)
    ink, middle = ink_on(colour) if count else FAINT, x + side / 2
    canvas.text(
        middle,
        y + side / 2 + (0 if large and share else 4),
        count,
        anchor="middle",
        size=12 if large else 9,
        colour=ink,
    )
    if large and share:
        canvas.text(middle, y + side / 2 + 13, share, anchor="middle", size=9.5, colour=ink)
