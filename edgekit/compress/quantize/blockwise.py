"""Weights in blocks along the reduced axis: each block has its own scale and zero point.

A value is (code - zero) * scale. The zero point may lie between two codes: ONNX Runtime's 8-bit kernel is as fast as
its 4-bit one on prompts, and a 4-bit code shifted into the upper half of a byte leaves 4 bits of fraction for the zero
point. Files that were once stored with float offsets (llama.cpp's Q4_1) come back nearly exactly that way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekit.specs import Array

_CHUNK_ELEMENTS = 1 << 18  # what is searched at once stays in the cache
_TINY = 1e-30
_FLAT = 1e-3  # codes of less spread are all the same but for rounding errors
# llama.cpp's search looks at scales for 14 to 16 levels of 4 bits; 9 steps find all but 0.05 dB of 21.
_SEARCH = tuple(np.linspace(-1.0, 1.0, 9).tolist())


@dataclass(frozen=True)
class Grid:
    """What codes, scales and zero points may be.

    Attributes:
        bits: Width of a code.
        block: Consecutive weights that share a scale and a zero point.
        zero_steps: Zero points are multiples of 1/zero_steps; 1 for integers.
        symmetric: Whether the zero point is always in the middle.
    """

    bits: int
    block: int
    zero_steps: int = 1
    symmetric: bool = False

    @property
    def top(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The zero point where none is stored."""
        return 1 << (self.bits - 1)

    def snap(self, zero: Array) -> Array:
        """The nearest zero points that can be stored."""
        if self.symmetric:
            return np.full_like(zero, self.middle)
        highest = (256 - 1) / self.zero_steps if self.zero_steps > 1 else self.top
        snapped = np.clip(np.rint(zero * self.zero_steps) / self.zero_steps, 0, highest)
        return np.asarray(snapped, np.float32)


@dataclass(frozen=True)
class Blocks:
    """A matrix in blocks.

    Attributes:
        codes: uint8 (rows, blocks, block).
        scale: float32 (rows, blocks), never 0.
        zero: float32 (rows, blocks).
        columns: Columns of the matrix; the last block may be longer than what is left of it.
    """

    codes: Array
    scale: Array
    zero: Array
    columns: int

    @property
    def values(self) -> Array:
        """The matrix that they stand for, float32 (rows, columns)."""
        values = (self.codes - self.zero[..., None]) * self.scale[..., None]
        return np.asarray(values.reshape(len(values), -1)[:, : self.columns], np.float32)


def split_blocks(rows: Array, block: int) -> Array:
    """(rows, columns) as float32 (rows, blocks, block), filled up with zeros."""
    count, columns = rows.shape
    wanted = -(-columns // block) * block
    if wanted == columns:
        return np.ascontiguousarray(rows, np.float32).reshape(count, -1, block)
    padded = np.zeros((count, wanted), np.float32)
    padded[:, :columns] = rows
    return padded.reshape(count, -1, block)


def by_chunks(rows: Array, grid: Grid, fit: Callable[[Array, Grid], tuple[Array, Array]]) -> Blocks:
    """Fit scales and zero points to a matrix a few rows at a time, and round to them.

    Args:
        rows: float (rows, columns); outputs are x @ rows.T.
        grid: What may be stored.
        fit: (blocks (n, blocks, block), grid) -> scale and zero, both (n, blocks).
    """
    step = max(1, _CHUNK_ELEMENTS // max(1, rows.shape[1]))
    parts = []
    for start in range(0, len(rows), step):
        blocks = split_blocks(rows[start : start + step], grid.block)
        scale, zero = fit(blocks, grid)
        parts.append((to_codes(blocks, scale, zero, grid), scale, zero))
    codes, scales, zeros = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Blocks(codes, scales, zeros, rows.shape[1])


def to_codes(blocks: Array, scale: Array, zero: Array, grid: Grid) -> Array:
    """The nearest codes, uint8, the blocks' shape."""
    return np.clip(np.rint(blocks / scale[..., None] + zero[..., None]), 0, grid.top).astype(np.uint8)


def half_scales(scale: Array) -> tuple[Array, float]:
    """(float16 scales, power of two) whose product is about `scale`.

    The power of two brings the largest near 1, so that half precision is lost only by blocks of next to no weight.
    """
    factor = 2.0 ** float(np.floor(np.log2(max(float(scale.max(initial=0)), _TINY))))
    return (scale / factor).astype(np.float16), factor


def fit_range(blocks: Array, grid: Grid) -> tuple[Array, Array]:
    """Scale and zero point from each block's smallest and largest value (round to nearest, RTN).

    Source: Dettmers & Zettlemoyer 2022, arXiv:2212.09720, section 3.
    """
    low = np.minimum(blocks.min(axis=-1), 0)
    high = np.maximum(blocks.max(axis=-1), 0)
    if grid.symmetric:
        scale = np.maximum(-low / grid.middle, high / (grid.top - grid.middle))  # one more code lies below zero
        return np.maximum(scale, _TINY).astype(np.float32), grid.snap(scale)
    scale = np.maximum((high - low) / grid.top, _TINY).astype(np.float32)
    return scale, grid.snap(-low / scale)


def fit_least_squares(blocks: Array, grid: Grid, importance: Array | None = None) -> tuple[Array, Array]:
    """Scale and zero point of least squared error over a search of ranges, refined by least squares.

    Args:
        blocks: float32 (n, blocks, block).
        grid: What may be stored.
        importance: float32 (blocks, block), how much an error of each column counts; all the same by default.

    Source: llama.cpp, k-quants (make_qkx2_quants), Kawrakow 2023.
    """
    first, zero = fit_range(blocks, grid)
    search = _Search(blocks, grid, importance)
    best = search.judge(first, zero, refine=False)
    for step in _SEARCH:
        wider = first * np.float32(grid.top / (grid.top + step))
        best = _better(best, search.judge(wider, grid.snap(zero * first / wider)))
    return best[1], best[2]


class _Search:
    """Errors of scales and zero points from sums over each block; blocks lie along the last axis, which is fast.

    Args:
        blocks: float32 (n, blocks, block).
        grid: What may be stored.
        importance: float32 (blocks, block), or None.
    """

    def __init__(self, blocks: Array, grid: Grid, importance: Array | None) -> None:
        self._grid = grid
        self._x = np.ascontiguousarray(blocks.transpose(2, 0, 1))
        weight = np.ones(blocks.shape[1:], np.float32) if importance is None else importance
        self._weight = None if importance is None else np.ascontiguousarray(weight.T)[:, None, :]
        self._total = weight.sum(axis=-1)
        self._wx = self._x if self._weight is None else self._x * self._weight
        self._sum_x = self._wx.sum(axis=0)
        self._sum_xx = np.einsum("knb,knb->nb", self._wx, self._x)

    def judge(self, scale: Array, zero: Array, *, refine: bool = True) -> tuple[Array, Array, Array]:
        """(error, scale, zero), (n, blocks) each: for the codes that these give, with what fits those codes best."""
        codes = self._x / scale
        codes += zero
        np.rint(codes, out=codes)
        np.clip(codes, 0, self._grid.top, out=codes)
        weighted = codes if self._weight is None else codes * self._weight
        sum_q, sum_qx = weighted.sum(axis=0), np.einsum("knb,knb->nb", weighted, self._x)
        sum_qq = np.einsum("knb,knb->nb", weighted, codes)
        if refine:
            zero = self._refined_zero(scale, sum_q, sum_qq, sum_qx)
        power = sum_qq - 2 * zero * sum_q + zero**2 * self._total
        product = sum_qx - zero * self._sum_x
        if refine:
            better = np.divide(product, power, out=scale.copy(), where=power > _TINY)
            scale = np.where(better > 0, better, scale).astype(np.float32)
        return self._sum_xx - 2 * scale * product + scale**2 * power, scale, zero

    def _refined_zero(self, scale: Array, sum_q: Array, sum_qq: Array, sum_qx: Array) -> Array:
        """The zero point of the line of least squares through (code, value)."""
        spread = sum_qq - sum_q**2 / self._total
        slope = (sum_qx - sum_q * self._sum_x / self._total) / np.maximum(spread, _TINY)
        slope = np.where((slope > 0) & (spread > _FLAT), slope, scale)
        return self._grid.snap((sum_q - self._sum_x / slope) / self._total)


def _better(a: tuple[Array, Array, Array], b: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    takes_b = b[0] < a[0]
    error, scale, zero = (np.where(takes_b, y, x) for x, y in zip(a, b, strict=True))
    return error, scale, zero


def signal_to_noise_db(rows: Array, blocks: Blocks) -> float:
    """How far the error lies below the weights, in dB; infinite where there is none."""
    step = max(1, _CHUNK_ELEMENTS // max(1, rows.shape[1]))
    signal = noise = 0.0
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        wanted = np.asarray(rows[part], np.float32)
        got = Blocks(blocks.codes[part], blocks.scale[part], blocks.zero[part], blocks.columns).values
        signal += float(np.vdot(wanted, wanted))
        noise += float(np.square(wanted - got).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(max(signal, _TINY) / noise))
