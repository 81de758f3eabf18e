"""Which opset and IR version an ONNX Runtime loads."""

from __future__ import annotations

import re
from importlib import metadata
from typing import NamedTuple

from edgekit.errors import ExportError

_DISTRIBUTIONS = ("onnxruntime-gpu", "onnxruntime", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn")


class Ceiling(NamedTuple):
    """The newest opset of the default domain and the newest IR version that a runtime loads."""

    opset: int
    ir_version: int


# Newest first. Where a release's exact limit is not known to us, the row of the release before it holds.
_CEILINGS: tuple[tuple[tuple[int, int], Ceiling], ...] = (
    ((1, 31), Ceiling(26, 13)),
    ((1, 23), Ceiling(23, 11)),
    ((1, 21), Ceiling(22, 10)),
    ((1, 18), Ceiling(21, 10)),
    ((1, 17), Ceiling(20, 9)),
    ((1, 16), Ceiling(19, 9)),
    ((1, 15), Ceiling(19, 8)),
    ((1, 14), Ceiling(18, 8)),
    ((1, 13), Ceiling(17, 8)),
    ((1, 12), Ceiling(17, 8)),
    ((1, 11), Ceiling(16, 8)),
    ((1, 10), Ceiling(15, 8)),
    ((1, 9), Ceiling(15, 8)),
    ((1, 8), Ceiling(14, 7)),
)


def ceiling_of(version: str) -> Ceiling:
    """What the ONNX Runtime of this version loads.

    Args:
        version: "X.Y" or longer, such as "1.20".

    Raises:
        ExportError: if it is no version, or older than 1.8.

    >>> ceiling_of("1.20.1")
    Ceiling(opset=21, ir_version=10)
    """
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None:
        raise ExportError(f"ONNX Runtime version {version!r} is not of the form X.Y, such as 1.20")
    wanted = (int(match[1]), int(match[2]))
    for release, ceiling in _CEILINGS:
        if wanted >= release:
            return ceiling
    raise ExportError(f"ONNX Runtime {version} is too old; the oldest that edgekit writes for is 1.8")


def oldest_for(opset: int, ir_version: int) -> tuple[int, int]:
    """The oldest ONNX Runtime that is known to load a file; the newest known one where none is.

    >>> oldest_for(18, 10)
    (1, 18)
    """
    fits = [r for r, ceiling in _CEILINGS if opset <= ceiling.opset and ir_version <= ceiling.ir_version]
    return min(fits, default=_CEILINGS[0][0])


def installed_ceiling() -> Ceiling:
    """What the installed ONNX Runtime loads; the newest known row where none is installed."""
    for package in _DISTRIBUTIONS:
        try:
            return ceiling_of(metadata.version(package))
        except metadata.PackageNotFoundError:
            continue
    return _CEILINGS[0][1]
