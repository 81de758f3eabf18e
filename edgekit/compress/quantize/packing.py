"""Bits in bytes: as ONNX Runtime's kernels want them, and as planes that plain operators unpack when a model loads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.specs import Array

# Widths that divide a byte; any other width is stored as two of them.
PLANES = {2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 8: (8,)}


@dataclass(frozen=True)
class Plane:
    """Some bits of every code of a matrix.

    Attributes:
        data: uint8 (rows, blocks, bytes); byte j holds the codes j, j + bytes, j + 2 * bytes ..., lowest bits first.
        width: Bits of each code in it.
        position: Where the lowest of them belongs in the byte that is unpacked.
    """

    data: Array
    width: int
    position: int

    @property
    def shifts(self) -> list[tuple[int, int, int]]:
        """Left, right, left: what brings each part of a byte into its place with nothing beside it."""
        parts = 8 // self.width
        return [(8 - self.width * (part + 1), 8 - self.width, self.position) for part in range(parts)]


def pack_planes(codes: Array, bits: int) -> list[Plane]:
    """Codes as planes, highest bits first; unpacked, a code is in the upper bits of its byte.

    Args:
        codes: uint8 (rows, blocks, block).
        bits: Width of a code.
    """
    planes, position = [], 8
    shifted = codes.astype(np.uint8) << np.uint8(8 - bits)
    for width in PLANES[bits]:
        position -= width
        part = (shifted >> np.uint8(position)) & np.uint8((1 << width) - 1)
        planes.append(Plane(_join(part, width), width, position))
    return planes


def _join(part: Array, width: int) -> Array:
    count = 8 // width
    length = part.shape[-1] // count
    joined = np.zeros((*part.shape[:-1], length), np.uint8)
    for i in range(count):
        joined |= part[..., i * length : (i + 1) * length] << np.uint8(width * i)
    return joined


def pack_adjacent(codes: Array, bits: int) -> Array:
    """Neighbours along the last axis in one byte, the first in the lowest bits: what MatMulNBits and UINT4 want.

    Args:
        codes: uint8 (..., n); filled up with zeros to a whole byte.
        bits: 2, 4 or 8.
    """
    count = 8 // bits
    padding = -codes.shape[-1] % count
    padded = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, padding)])
    packed = np.zeros((*padded.shape[:-1], padded.shape[-1] // count), np.uint8)
    for i in range(count):
        packed |= padded[..., i::count] << np.uint8(bits * i)
    return packed
