"""What TensorRT is told of a model: the shapes that its engine must take, and where engines are kept.

Source: onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html (explicit shape ranges, caches).
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import ModelError
from edgekit.specs import TensorSpec

Shape = tuple[int, ...]
_LIBRARIES = ("libnvinfer.so.10", "nvinfer_10.dll")
_SHAPE = re.compile(r"[1-9][0-9]*(x[1-9][0-9]*)*")


@dataclass(frozen=True)
class ShapeRange:
    """The shapes of one input that an engine takes, and the one that it is fastest at."""

    least: Shape
    best: Shape
    most: Shape

    def covers(self, shape: Sequence[int]) -> bool:
        """Whether an engine takes this shape."""
        return len(shape) == len(self.least) and all(
            low <= size <= high for low, size, high in zip(self.least, shape, self.most, strict=True)
        )

    def __str__(self) -> str:
        return ":".join("x".join(map(str, shape)) for shape in (self.least, self.best, self.most))


ShapeRanges = Mapping[str, ShapeRange]


def parse_range(text: str) -> tuple[str, ShapeRange]:
    """`name=LEAST:BEST:MOST` -> the name and the range.

    >>> parse_range("image=1x3x64x64:8x3x64x64:32x3x64x64")[1].best
    (8, 3, 64, 64)

    Raises:
        ModelError: if it is not of that form, the ranks differ, or LEAST <= BEST <= MOST does not hold.
    """
    name, equals, shapes = text.rpartition("=")
    parts = shapes.lower().split(":")
    if not (equals and name and len(parts) == 3 and all(map(_SHAPE.fullmatch, parts))):
        raise ModelError(
            f"--trt-profile {text}: got no name=LEAST:BEST:MOST of three shapes; write it as "
            "--trt-profile image=1x3x224x224:8x3x224x224:32x3x224x224"
        )
    least, best, most = (tuple(map(int, part.split("x"))) for part in parts)
    found = ShapeRange(least, best, most)
    ordered = len(least) == len(most) and all(low <= high for low, high in zip(least, most, strict=True))
    if not (ordered and found.covers(best)):
        raise ModelError(f"--trt-profile {text}: each dimension must grow, or stay, from LEAST over BEST to MOST")
    return name, found


def shape_ranges(
    inputs: Sequence[TensorSpec], used: Sequence[Mapping[str, Shape]], given: ShapeRanges
) -> dict[str, ShapeRange]:
    """The range of each dynamic input: what was given, else what covers all shapes that will be used.

    Args:
        inputs: The model's inputs; those of fixed shape need no range.
        used: The shapes of each feed, by input name, from the smallest feed to the largest.
        given: Ranges that the user wants.

    Raises:
        ModelError: for a range of an unknown input, of another rank or of a fixed dimension, and for one that does not
            cover a shape that will be used.
    """
    known = {spec.name: spec for spec in inputs}
    for name, wanted in given.items():
        _check_range(name, wanted, known, [shapes[name] for shapes in used if name in shapes])
    dynamic = [s.name for s in inputs if any(not isinstance(d, int) for d in s.shape)]
    return {name: given.get(name) or _range_of([shapes[name] for shapes in used]) for name in dynamic}


def _range_of(shapes: Sequence[Shape]) -> ShapeRange:
    """What covers them all; the best is the one in the middle, of two the larger."""
    best = sorted(shapes)[len(shapes) // 2]
    sizes = list(zip(*shapes, strict=True))
    return ShapeRange(tuple(map(min, sizes)), best, tuple(map(max, sizes)))


def _check_range(name: str, wanted: ShapeRange, known: Mapping[str, TensorSpec], used: Sequence[Shape]) -> None:
    if name not in known:
        raise ModelError(
            f"--trt-profile names unknown input {name}; the model has {', '.join(map(str, known.values()))}"
        )
    spec = known[name]
    fits = len(wanted.least) == spec.rank and all(
        not isinstance(d, int) or wanted.least[axis] == wanted.most[axis] == d for axis, d in enumerate(spec.shape)
    )
    if not fits:
        raise ModelError(f"--trt-profile {name}={wanted} does not fit input {spec}")
    outside = [shape for shape in used if not wanted.covers(shape)]
    if outside:
        shown = "x".join(map(str, outside[0]))
        raise ModelError(f"--trt-profile {name}={wanted} does not cover {shown}, which is measured; widen it")


def range_options(ranges: ShapeRanges) -> dict[str, str]:
    """The ranges as provider options; none where a name cannot be written in them.

    ONNX Runtime splits at every comma and colon, which names of TensorFlow hold; without these options it widens the
    range with each shape that is run, and builds the engine anew.
    """
    if not ranges or any("," in name or ":" in name for name in ranges):
        return {}
    parts = {"min": "least", "opt": "best", "max": "most"}
    return {
        f"trt_profile_{option}_shapes": ",".join(
            f"{name}:{'x'.join(map(str, getattr(found, part)))}" for name, found in ranges.items()
        )
        for option, part in parts.items()
    }


def sparsity_options(metadata: Mapping[str, str]) -> dict[str, str]:
    """What lets TensorRT try its kernels for sparse weights, where a file says that two of every four are zero.

    Args:
        metadata: The model's metadata_props.
    """
    return {"trt_sparsity_enable": "1"} if metadata.get("edgekit.sparsity") == "2:4" else {}


def cache_options(engines: Path, timings: Path) -> dict[str, str]:
    """Provider options that keep built engines in one directory, and the timings of kernels in another."""
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(timings),
    }


def tensorrt_version() -> str | None:
    """The version of the TensorRT that is loaded or found, such as "10.13.2"; None where there is none."""
    for name in _LIBRARIES:
        try:
            number = int(ctypes.CDLL(name).getInferLibVersion())
        except OSError:
            continue
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return None
