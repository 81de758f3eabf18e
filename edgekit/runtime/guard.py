"""Is an input like those that the model was made for?

Three looks, each against statistics of calibration data that `guard_statistics` made when the bundle was packed:

- range: the least and the greatest value of each float input, which may be passed by a tenth of what lies between them.
- moments: of each float input four numbers (mean, spread, and mean step between neighbours along the last axis and the
  one before it), and how far they lie from those of calibration data in standard deviations, their correlations taken
  into account (Mahalanobis 1936). It notices noise, blank or inverted pictures, and wrong units.
- energy: -log sum exp of the logits; high where no class speaks up (Liu et al. 2020, arXiv:2010.03759).

The threshold to warn is the 99 % quantile of calibration data, so that of inputs like them each look warns of about one
in a hundred too. The threshold to refuse lies as far above their greatest value as that lies above their median.
None of this proves that an answer is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.specs import Array

_LEAST_SAMPLES = 20  # fewer say too little about four numbers and their correlations
_QUANTILE = 0.99
_SLACK = 0.1  # of the range
_SHRINKAGE = 0.05  # of the correlations, so that their matrix can be inverted


@dataclass(frozen=True)
class Finding:
    """Something unusual about one input.

    Attributes:
        text: What.
        refuse: Whether it is beyond the threshold to refuse.
    """

    text: str
    refuse: bool


def guard_statistics(
    inputs: Mapping[str, Array], outputs: Mapping[str, Array] | None = None, logits: str | None = None
) -> dict[str, Any]:
    """What calibration data look like: the manifest's `guard`.

    Args:
        inputs: Of the calibration split, as the model gets them: name -> (n, ...).
        outputs: What the model answered to them: name -> (n, ...).
        logits: Name of the output that holds logits (n, classes); None where there are none.

    Returns:
        {"inputs": {name: {"low", "high"}}, "score": {"kind": "mahalanobis-of-moments", "inputs": {name: {"mean", "std",
        "precision", "threshold_warn", "threshold_error"}}}, "energy": {"output", "threshold_warn", "threshold_error"}};
        "score" and "energy" are null where there is nothing to learn them from.
    """
    floats = {name: a for name, a in inputs.items() if a.dtype.kind == "f" and a.size and np.isfinite(a).all()}
    found = {name: _moment_statistics(a) for name, a in floats.items() if a.ndim > 1 and len(a) >= _LEAST_SAMPLES}
    answers = (outputs or {}).get(logits or "")
    return {
        "inputs": {name: {"low": float(a.min()), "high": float(a.max())} for name, a in floats.items()},
        "score": {"kind": "mahalanobis-of-moments", "inputs": found} if found else None,
        "energy": _energy_statistics(answers, logits or "") if answers is not None else None,
    }


def look_at(inputs: Mapping[str, Array], outputs: Mapping[str, Array], guard: Mapping[str, Any]) -> list[Finding]:
    """Compare one sample with calibration data.

    Args:
        inputs: Name -> array without a batch axis, as the model got it.
        outputs: Name -> array without a batch axis; {} before the model has run.
        guard: The manifest's.
    """
    ranges, score, energy = (guard.get(key) or {} for key in ("inputs", "score", "energy"))
    scores = score.get("inputs", {}) if score.get("kind") == "mahalanobis-of-moments" else {}
    found = [_look_at_range(name, a, ranges[name]) for name, a in inputs.items() if name in ranges]
    found += [_look_at_moments(name, a, scores[name]) for name, a in inputs.items() if name in scores]
    if energy.get("output") in outputs:
        value = float(energy_of(outputs[energy["output"]]))
        found.append(_judged("the model knows no class for it: energy", value, energy))
    return [finding for finding in found if finding is not None]


def moments_of(sample: Array) -> Array:
    """The four numbers of one input without its batch axis: float64 (4,)."""
    values = np.asarray(sample, np.float64)
    steps = [np.abs(np.diff(values, axis=axis)) for axis in (-1, -2) if values.ndim >= -axis and values.shape[axis] > 1]
    means = [float(step.mean()) for step in steps]
    return np.array([values.mean(), values.std(), *means, *[0.0] * (2 - len(means))])


def energy_of(logits: Array) -> Array:
    """-log sum exp over the last axis."""
    values = np.asarray(logits, np.float64)
    top = values.max(axis=-1)
    return np.asarray(-(top + np.log(np.exp(values - top[..., None]).sum(axis=-1))))


def _moment_statistics(samples: Array) -> dict[str, Any]:
    moments = np.stack([moments_of(sample) for sample in samples])
    mean, spread = moments.mean(axis=0), moments.std(axis=0)
    std = np.maximum(spread, 1e-3 * max(float(np.abs(samples).max()), 1e-6))  # what never changed may do so a little
    scaled = (moments - mean) / std
    correlations = (1 - _SHRINKAGE) * (scaled.T @ scaled / len(scaled)) + _SHRINKAGE * np.eye(len(mean))
    precision = np.linalg.inv(correlations)
    distances = np.sqrt(np.einsum("ni,ij,nj->n", scaled, precision, scaled))
    thresholds = {name: max(value, 1.0) for name, value in _thresholds(distances).items()}  # one deviation is usual
    return {"mean": mean.tolist(), "std": std.tolist(), "precision": precision.tolist(), **thresholds}


def _energy_statistics(answers: Array, output: str) -> dict[str, Any] | None:
    if answers.ndim != 2 or len(answers) < _LEAST_SAMPLES or not np.isfinite(answers).all():
        return None
    return {"output": output, **_thresholds(energy_of(answers))}


def _thresholds(values: Array) -> dict[str, float]:
    most = float(values.max())
    return {
        "threshold_warn": float(np.quantile(values, _QUANTILE)),
        "threshold_error": most + (most - float(np.median(values))),
    }


def _look_at_range(name: str, sample: Array, told: Mapping[str, Any]) -> Finding | None:
    low, high = float(told["low"]), float(told["high"])
    least, most = float(sample.min()), float(sample.max())
    beyond = max(low - least, most - high)
    if beyond <= max(_SLACK * (high - low), 1e-6 * max(abs(low), abs(high))):  # float32 has no more digits than that
        return None
    text = f"input {name!r} lies in {least:.4g}..{most:.4g}, calibration data in {low:.4g}..{high:.4g}"
    return Finding(text, refuse=beyond > high - low)


def _look_at_moments(name: str, sample: Array, told: Mapping[str, Any]) -> Finding | None:
    scaled = (moments_of(sample) - np.asarray(told["mean"])) / np.asarray(told["std"])
    distance = float(np.sqrt(scaled @ np.asarray(told["precision"]) @ scaled))
    return _judged(f"input {name!r} is unlike calibration data: distance", distance, told)


def _judged(text: str, value: float, told: Mapping[str, Any]) -> Finding | None:
    warn, error = float(told["threshold_warn"]), float(told["threshold_error"])
    if value <= warn:
        return None
    return Finding(f"{text} {value:.3g}, usual is up to {warn:.3g}", refuse=value > error)
