"""How training went: loss, the metric on validation data, and the learning rate, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.report.pictures.section import Picture, Section
from edgekit.report.pictures.svg import Axes, Canvas

_WIDTH, _HEIGHT = 380, 260
_LOSS, _METRIC, _RATE = "#2563eb", "#059669", "#7c3aed"
_FAR_APART = 20.0


def curves(training: Mapping[str, Any], metric: str) -> list[Section]:
    """The section, where a history of the training is known.

    Args:
        training: As results.json has it; `history` is a list of epochs.
        metric: Name of what was watched on validation data.
    """
    history = training.get("history") or []
    wanted = (("loss", "loss on training data", _LOSS), ("validation", f"{metric} on validation data", _METRIC))
    panels = [_panel(history, *w) for w in (*wanted, ("learning_rate", "learning rate", _RATE))]
    pictures = tuple(p for p in panels if p is not None)
    epochs = "1 epoch" if len(history) == 1 else f"{len(history)} epochs"
    text = f"One point an epoch, {epochs}. The axes of loss and metric do not begin at zero."
    return [Section("Training", text, pictures)] if pictures else []


def _panel(history: Sequence[Mapping[str, Any]], key: str, title: str, colour: str) -> Picture | None:
    points = [(float(e["epoch"]), float(e[key])) for e in history if _is_number(e.get(key))]
    if not points:
        return None
    alt = f"{title}: from {points[0][1]:.4g} to {points[-1][1]:.4g} in {len(points)} epochs"
    canvas = Canvas(_WIDTH, _HEIGHT, alt)
    values = [y for _, y in points]
    log = min(values) > 0 and max(values) / min(values) > _FAR_APART and key != "validation"
    axes = Axes(60, 34, _WIDTH - 78, _HEIGHT - 80, _padded_x(points), _padded(values, log), log)
    axes.draw(canvas, "epoch", title + (" (logarithmic)" if log else ""), whole_x=True)
    canvas.line([axes.at(*p) for p in points], colour, 2)
    for epoch, value in points:
        canvas.mark(*axes.at(epoch, value), colour, tip=f"epoch {epoch:g}: {value:.5g}")
    return Picture(f"training-{key.replace('_', '-')}.svg", alt, canvas.render(), _WIDTH)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _padded_x(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    first, last = points[0][0], points[-1][0]
    return (first, last) if last > first else (first - 1, last + 1)


def _padded(values: Sequence[float], log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        return low / 1.2, high * 1.2
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room
