"""Is an input like those that the model was made for?

Four looks, each against statistics of calibration data that `guard_statistics` made when the bundle was packed:

- range: the least and the greatest value of each float input, which may be passed by a tenth of what lies between them.
- moments: of each float input four numbers (mean, spread, and mean step between neighbours along the last axis and the
  one before it), and how far they lie from those of calibration data in standard deviations, their correlations taken
  into account (Mahalanobis 1936). It notices noise, blank or inverted pictures, and wrong units.
- pairs of tokens: see `runtime.token_pairs`.
- energy: -log sum exp of the logits; high where no class speaks up (Liu et al. 2020, arXiv:2010.03759).

The threshold to warn is the 99 % quantile of calibration data, so that of inputs like them each look warns of about one
in a hundred too. The threshold to refuse lies well above their greatest value (see `runtime.thresholds`). None of this
proves that an answer is right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.runtime.fields import Fields
from edgekit.runtime.thresholds import (
    LEAST_SAMPLES,
    Finding,
    Threshold,
    find_unusual,
    read_threshold,
    threshold_entry,
)
from edgekit.runtime.token_pairs import TokenPairs, look_at_pairs, pair_statistics, read_pairs
from edgekit.specs import Array, TensorSpec

_KIND, _NUMBERS = "mahalanobis-of-moments", 4
_SLACK = 0.1  # of the range
_SHRINKAGE = 0.05  # of the correlations, so that their matrix can be inverted


@dataclass(frozen=True)
class Range:
    """Where the values of an input lay.

    Attributes:
        low: The least.
        high: The greatest.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Moments:
    """The four numbers of an input on calibration data.

    Attributes:
        mean: float64 (4,).
        std: float64 (4,).
        precision: The inverse of their correlations, float64 (4, 4).
        threshold: Of the distance.
    """

    mean: Array
    std: Array
    precision: Array
    threshold: Threshold


@dataclass(frozen=True)
class Watch:
    """What a manifest's guard says, ready to be compared with.

    Attributes:
        ranges: By the name of the input.
        moments: By the name of the input.
        pairs: Of the tokens; None for what is no text.
        output: The one that holds logits; "" for none.
        energy: Of the energy of these.
    """

    ranges: Mapping[str, Range]
    moments: Mapping[str, Moments]
    pairs: TokenPairs | None
    output: str
    energy: Threshold


def read_watch(guard: Mapping[str, Any], file: str, outputs: Sequence[TensorSpec] | None = None) -> Watch:
    """Read a manifest's guard.

    Args:
        guard: The entry.
        file: What to call the manifest in messages.
        outputs: Of the model; None leaves them out.

    Raises:
        BundleError: if it is damaged; the message names the field.
    """
    root = Fields(guard, file, "guard")
    inputs, score, energy = (root.child(key) for key in ("inputs", "score", "energy"))
    if energy is not None and outputs is not None:
        _check_energy(energy, outputs)
    known = score is not None and score.text("kind") == _KIND
    watched = score.child("inputs") if score is not None and known else None
    return Watch(
        ranges={name: Range(f.number("low"), f.number("high")) for name, f in _each(inputs)},
        moments={name: _moments(fields) for name, fields in _each(watched)},
        pairs=read_pairs(root.child("tokens")),
        output="" if energy is None else energy.text("output"),
        energy=Threshold(0.0, 0.0) if energy is None else read_threshold(energy),
    )


def _check_energy(energy: Fields, outputs: Sequence[TensorSpec]) -> None:
    """Logits are (batch, classes); there is no energy of anything else."""
    logits = [spec.name for spec in outputs if spec.rank == 2 and spec.dtype.startswith("float")]
    if energy.text("output") not in logits:
        raise energy.wrong("output", f"names {energy.text('output')!r}, which is no output of logits")


def _each(fields: Fields | None) -> list[tuple[str, Fields]]:
    found = {} if fields is None else {name: fields.child(name) for name in fields.raw}
    return [(name, child) for name, child in found.items() if child is not None]


def _moments(fields: Fields) -> Moments:
    mean, std = np.array(fields.numbers("mean")), np.array(fields.numbers("std"))
    try:
        precision = np.array(fields.raw.get("precision"), np.float64)
    except (TypeError, ValueError):
        precision = np.zeros(0)
    if mean.shape != (_NUMBERS,) or std.shape != (_NUMBERS,) or precision.shape != (_NUMBERS, _NUMBERS):
        raise fields.wrong("precision", f"must be {_NUMBERS} x {_NUMBERS} numbers, and mean and std {_NUMBERS}")
    if not (std > 0).all():
        raise fields.wrong("std", "must be above 0")
    return Moments(mean, std, precision, read_threshold(fields))


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
        "precision", "threshold_warn", "threshold_error"}}}, "energy": {"output", "threshold_warn", "threshold_error"},
        "tokens": {"input", "known", "threshold_warn", "threshold_error"}}; all but "inputs" are null where there is
        nothing to learn them from.
    """
    floats = {name: a for name, a in inputs.items() if a.dtype.kind == "f" and a.size and np.isfinite(a).all()}
    found = {name: _moment_statistics(a) for name, a in floats.items() if a.ndim > 1 and len(a) >= LEAST_SAMPLES}
    answers = (outputs or {}).get(logits or "")
    return {
        "inputs": {name: {"low": float(a.min()), "high": float(a.max())} for name, a in floats.items()},
        "score": {"kind": _KIND, "inputs": found} if found else None,
        "energy": _energy_statistics(answers, logits or "") if answers is not None else None,
        "tokens": pair_statistics(inputs),
    }


def look_at(inputs: Mapping[str, Array], outputs: Mapping[str, Array], watch: Watch) -> list[Finding]:
    """Compare one sample with calibration data.

    Args:
        inputs: Name -> array without a batch axis, as the model got it.
        outputs: Name -> array without a batch axis.
        watch: What calibration data look like.
    """
    found = [_look_at_range(name, a, watch.ranges[name]) for name, a in inputs.items() if name in watch.ranges]
    found += [_look_at_moments(name, a, watch.moments[name]) for name, a in inputs.items() if name in watch.moments]
    if watch.pairs is not None:
        found.append(look_at_pairs(inputs, watch.pairs))
    if watch.output in outputs:
        energy = float(energy_of(outputs[watch.output]))
        found.append(find_unusual("the model knows no class for it: energy", energy, watch.energy))
    found += [_look_at_answer(name, a) for name, a in outputs.items()]
    return [finding for finding in found if finding is not None]


def moments_of(sample: Array) -> Array:
    """The four numbers of one input without its batch axis: float64 (4,)."""
    values = np.asarray(sample, np.float64)
    flat = values.reshape(-1)
    mean = float(flat.sum()) / flat.size
    centred = flat - mean
    spread = math.sqrt(float(centred @ centred) / flat.size)  # numpy's own std takes four times as long
    across = _mean_step(values[..., 1:], values[..., :-1])
    return np.array(
        [mean, spread, across, _mean_step(values[..., 1:, :], values[..., :-1, :]) if values.ndim > 1 else 0.0]
    )


def _mean_step(later: Array, earlier: Array) -> float:
    return float(np.abs(later - earlier).sum()) / later.size if later.size else 0.0


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
    thresholds = {name: max(value, 1.0) for name, value in threshold_entry(distances).items()}  # one deviation is usual
    return {"mean": mean.tolist(), "std": std.tolist(), "precision": precision.tolist(), **thresholds}


def _energy_statistics(answers: Array, output: str) -> dict[str, Any] | None:
    if answers.ndim != 2 or len(answers) < LEAST_SAMPLES or not np.isfinite(answers).all():
        return None
    return {"output": output, **threshold_entry(energy_of(answers))}


def _look_at_range(name: str, sample: Array, seen: Range) -> Finding | None:
    low, high = seen.low, seen.high
    least, most = float(sample.min()), float(sample.max())
    beyond = max(low - least, most - high)
    if beyond <= max(_SLACK * (high - low), 1e-6 * max(abs(low), abs(high))):  # float32 has no more digits than that
        return None
    text = f"input {name!r} lies in {least:.4g}..{most:.4g}, calibration data in {low:.4g}..{high:.4g}"
    return Finding(text, refuse=beyond > high - low)


def _look_at_moments(name: str, sample: Array, seen: Moments) -> Finding | None:
    scaled = (moments_of(sample) - seen.mean) / seen.std
    distance = math.sqrt(max(float(scaled @ seen.precision @ scaled), 0.0))
    return find_unusual(f"input {name!r} is unlike calibration data: distance", distance, seen.threshold)


def _look_at_answer(name: str, answer: Array) -> Finding | None:
    if answer.dtype.kind != "f" or np.isfinite(answer).all():
        return None
    return Finding(f"the model answered {name} with values that are NaN or infinite", refuse=True)
