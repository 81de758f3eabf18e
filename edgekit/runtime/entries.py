"""What a manifest says of preparing inputs and finishing outputs, checked against what its models take and give."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from edgekit.runtime.fields import Fields
from edgekit.runtime.image import RESAMPLING, WHITE
from edgekit.specs import TEXT_INPUTS, TensorSpec

_NUMERIC = ("softmax", "sigmoid", "regression", "image")
_FINISHING = ("softmax", "sigmoid", "none", "regression", "tokens", "image")
_LONGEST_EDGE, _MOST_AREA = 1 << 16, 1 << 26  # pixels
_Specs = Mapping[str, TensorSpec]


def check_preprocessing(fields: Fields, inputs: Sequence[TensorSpec], files: Collection[str]) -> dict[str, Any]:
    """The entry of what an app starts from, if it can be.

    Args:
        fields: The entry.
        inputs: Of the models.
        files: Names of the bundle's files.

    Raises:
        BundleError: names the field.
    """
    kind = fields.one_of("kind", tuple(_CHECKS))
    _CHECKS[kind](fields, {spec.name: spec for spec in inputs})
    if kind == "text" and fields.text("tokenizer") not in files:
        raise fields.wrong("tokenizer", f"names {fields.text('tokenizer')!r}, which `files` does not list")
    return fields.raw


def check_postprocessing(fields: Fields, outputs: Sequence[TensorSpec], classes: Sequence[str]) -> dict[str, Any]:
    """The entry of what becomes of the outputs, if it can be.

    Args:
        fields: The entry.
        outputs: Of the models.
        classes: Their names; () for none.

    Raises:
        BundleError: names the field.
    """
    kind, known = fields.one_of("kind", _FINISHING), {spec.name: spec for spec in outputs}
    main = _check_name(fields, "output", known) if fields.text("output", "") else outputs[0]
    if kind in _NUMERIC and main.dtype in ("object", "bool"):
        raise fields.wrong("output", f"names {main}, which must hold numbers")
    if kind in ("softmax", "sigmoid"):
        _check_scores(fields, main, classes)
    if kind == "image":
        _check_made_image(fields, main)
    for key in ("mean", "std") if kind == "regression" else ():
        _check_per_target(fields, key, main)
    fields.texts("targets", ())
    return fields.raw


def _check_scores(fields: Fields, main: TensorSpec, classes: Sequence[str]) -> None:
    """A score for each class, and a name for each score where there are names."""
    if main.rank < 2:
        raise fields.wrong("output", f"names {main}, which must have 2 dimensions or more")
    if classes and isinstance(main.shape[-1], int) and main.shape[-1] != len(classes):
        raise fields.wrong("output", f"names {main}, and `classes` has {len(classes):,} names")


def _check_made_image(fields: Fields, main: TensorSpec) -> None:
    if main.rank != 4:
        raise fields.wrong("output", f"names {main}, which must have 4 dimensions")
    if fields.number("scale", 1.0) == 0 or len(fields.numbers("mean")) != len(fields.numbers("std")):
        raise fields.wrong("scale", "must not be 0, and mean and std must be as many")
    if len(fields.numbers("mean")) not in (1, main.shape[1]):
        raise fields.wrong("mean", f"must have a number for each channel of {main}")


def _check_per_target(fields: Fields, key: str, main: TensorSpec) -> None:
    """One number, or one for each target."""
    if not isinstance(fields.raw.get(key), list):
        fields.number(key, 0.0)
    elif len(fields.numbers(key)) != math.prod(d if isinstance(d, int) else 0 for d in main.shape[1:]):
        raise fields.wrong(key, f"must be a number, or one for each of {main}")


def _check_name(fields: Fields, key: str, known: _Specs, rank: int | None = None) -> TensorSpec:
    name = fields.text(key)
    if name not in known:
        raise fields.wrong(key, f"names {name!r}, and the models have {', '.join(known)}")
    if rank is not None and known[name].rank != rank:
        raise fields.wrong(key, f"names {known[name]}, which must have {rank} dimensions")
    return known[name]


def _check_planes(fields: Fields, count: int | None = None) -> int:
    """How many channels `mean` and `std` are for."""
    mean, std = fields.numbers("mean"), fields.numbers("std")
    if len(mean) != len(std) or not mean or len(mean) != (count or len(mean)):
        raise fields.wrong("mean", f"and std must have a number for each channel, got {len(mean)} and {len(std)}")
    if 0 in std:
        raise fields.wrong("std", "must not hold 0")
    return len(mean)


def _check_image(fields: Fields, inputs: _Specs) -> None:
    height, width, channels = (fields.whole(key, least=1) for key in ("height", "width", "channels"))
    edges = fields.items("resize", lambda value, place: _edge(fields, value, place), ())
    _edge(fields, max(height, width), "height")
    if max(height * width, math.prod(edges) if len(edges) > 1 else 0) > _MOST_AREA:
        raise fields.wrong("height", f"or `resize` is more than {_MOST_AREA:,} pixels")
    if channels not in (1, 3) or len(edges) > 2:
        raise fields.wrong(
            "channels", f"must be 1 or 3, and resize have 2 numbers at most, got {channels} and {len(edges)}"
        )
    wanted = _check_name(fields, "input", inputs, 4).shape[1:]
    if any(isinstance(a, int) and a != b for a, b in zip(wanted, (channels, height, width), strict=True)):
        raise fields.wrong(
            "height", f"gives {channels}x{height}x{width}, and the models take {inputs[fields.text('input')]}"
        )
    fields.number("scale")
    fields.one_of("resample", tuple(RESAMPLING), "bilinear")
    fields.whole("background", WHITE, most=WHITE)
    _check_planes(fields, channels)


def _edge(fields: Fields, value: Any, place: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LONGEST_EDGE:
        return value
    raise fields.wrong(place, f"must be a whole number of pixels up to {_LONGEST_EDGE:,}, got {value!r}")


def _check_series(fields: Fields, inputs: _Specs) -> None:
    channels, spec = _check_planes(fields), _check_name(fields, "input", inputs, 3)
    if isinstance(spec.shape[2], int) and spec.shape[2] != channels:
        raise fields.wrong("mean", f"is for {channels} channels, and the models take {spec}")
    if fields.raw.get("lengths") is not None:
        _check_name(fields, "lengths", inputs, 1)
    if fields.raw.get("sample_rate") is not None:
        fields.whole("sample_rate", least=1)


def _check_text(fields: Fields, inputs: _Specs) -> None:
    for role in TEXT_INPUTS:
        if fields.raw.get(role) is not None:
            _check_name(fields, role, inputs, 2)
    if fields.raw.get("length") is not None:
        fields.whole("length", least=1)
    fields.truth("truncate", False)


def _check_pairs(fields: Fields, inputs: _Specs) -> None:
    """Nothing: pairs of texts are written by edgekit.generate."""


_CHECKS: dict[str, Callable[[Fields, _Specs], None]] = {
    "image": _check_image,
    "text": _check_text,
    "series": _check_series,
    "pairs": _check_pairs,
}
