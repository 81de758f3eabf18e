"""Whether a model is as often right as it is sure: the reliability diagram of the base and the variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.report.pictures.section import Picture, Section
from edgekit.report.pictures.svg import FAINT, Axes, Canvas
from edgekit.tasks.metric import wilson

_WIDTH, _HEIGHT, _STRIP = 420, 390, 70
_TEXT = (
    "Test samples by the confidence of the answer, in 15 bins of equal width; a point shows how many of a bin are "
    "right, with its 95 % interval, and lies on the dashed line where confidence is honest. The bars below it are the "
    "shares of the samples in the bins. The calibration error is the mean gap (Guo et al. 2017, arXiv:1706.04599)."
)


def reliability_section(found: Mapping[str, Any], styles: Mapping[str, tuple[str, str]]) -> list[Section]:
    """The diagram of a classification, and the calibration error of every model."""
    shown = {name: found["reliability"][name] for name in found["confusion"]}
    facts = tuple(f"Calibration error of {n}: {100 * r['error']:.2f} %" for n, r in found["reliability"].items())
    return [Section("Confidence", _TEXT, (diagram(shown, styles),), facts)]


def diagram(found: Mapping[str, Mapping[str, Any]], styles: Mapping[str, tuple[str, str]]) -> Picture:
    """Accuracy against confidence of each model."""
    errors = ", ".join(f"{name} {100 * r['error']:.2f} %" for name, r in found.items())
    alt = f"reliability diagram; calibration error: {errors}"
    canvas = Canvas(_WIDTH, _HEIGHT, alt)
    axes = Axes(50, 46, _WIDTH - 66, _HEIGHT - 106 - _STRIP, (0, 1), (0, 1))
    axes.draw(canvas, "", "share that is right")
    canvas.line([axes.at(0, 0), axes.at(1, 1)], FAINT, 1, "4 4")
    below = Axes(50, _HEIGHT - 30 - _STRIP + 8, _WIDTH - 66, _STRIP - 8, (0, 1), (0, 1))
    for number, (name, bins) in enumerate(found.items()):
        _points(canvas, axes, bins, styles[name], (number - (len(found) - 1) / 2) * 5, name)
        _bars(canvas, below, bins["count"], styles[name][0], number, len(found))
    middle = below.left + below.width / 2
    canvas.text(middle, below.top + below.height + 18, "confidence of the answer", anchor="middle")
    _legend(canvas, list(found), styles)
    return Picture("reliability.svg", alt, canvas.render(), _WIDTH)


def _points(
    canvas: Canvas, axes: Axes, bins: Mapping[str, Any], style: tuple[str, str], beside: float, name: str
) -> None:
    """A point a bin; points of several models stand beside each other."""
    colour, symbol = style
    for count, sure, right in zip(bins["count"], bins["confidence"], bins["accuracy"], strict=True):
        if count:
            low, high = wilson(right, count)
            (x, y), (_, bottom), (_, top) = (axes.at(sure, v) for v in (right, low, high))
            canvas.line([(x + beside, bottom), (x + beside, top)], colour, 1)
            tip = f"{name}: {count} samples, {100 * sure:.1f} % sure, {100 * right:.1f} % right"
            canvas.mark(x + beside, y, colour, symbol, tip)


def _bars(canvas: Canvas, axes: Axes, counts: Sequence[int], colour: str, number: int, of: int) -> None:
    total, width = sum(counts), axes.width / len(counts)
    most = max(counts)
    for index, count in enumerate(counts):
        height, each = axes.height * count / most, (width - 2) / of
        x = axes.left + index * width + 1 + number * each
        canvas.box(x, axes.top + axes.height - height, each, height, colour, f"{100 * count / total:.1f} % of samples")
    canvas.line([(axes.left, axes.top + axes.height), (axes.left + axes.width, axes.top + axes.height)], FAINT)


def _legend(canvas: Canvas, names: Sequence[str], styles: Mapping[str, tuple[str, str]]) -> None:
    x = 50.0
    for name in names:
        canvas.mark(x + 5, 12, *styles[name])
        canvas.text(x + 14, 16, name)
        x += 30 + 7 * len(name)
