"""Quantisation that gradients pass through, with a step that is learnt. Imports torch.

Source: Esser et al. 2019, arXiv:1902.08153 (LSQ), equation 3: the gradient of a value is that of the identity inside
the range and 0 outside, and that of the step follows from the same rule: round(x / s) - x / s inside, the bound
outside, times 1 / sqrt(n * q) for n values and the largest integer q. That the logarithm of the step is learnt, so that
an update changes it by a share, is from Jain et al. 2019, arXiv:1903.08066: Adam's updates are of one size whatever the
gradient.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

BIAS_PEAK = 2.0**30


class _Rounded(torch.autograd.Function):
    """Half to even, as ONNX says; the gradient passes as if nothing had happened."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0]


class _Slowed(torch.autograd.Function):
    """The same values with a smaller gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        return slopes[0] * ctx.factor, None


class _Pair(torch.autograd.Function):
    """Quantised and dequantised with one step: what the two do one after the other, with less to remember."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: int, low: int, high: int) -> Tensor:
        rounded = torch.round(x / scale) + zero
        inside = (rounded >= low) & (rounded <= high)
        q = rounded.clamp_(low, high).sub_(zero)
        ctx.save_for_backward(x, scale, inside, q.to(torch.int16))
        return q * scale

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (slope,) = slopes
        x, scale, inside, q = ctx.saved_tensors
        passed = slope * inside
        of_scale = None
        if ctx.needs_input_grad[1]:
            of_scale = ((slope * q).sum() - (passed * x).sum() / scale).reshape(scale.shape)
        return passed, of_scale, None, None, None


def slowed(scale: Tensor, count: int, peak: int) -> Tensor:
    """A step whose gradient is 1 / sqrt(count * peak) of what it would be.

    Args:
        scale: Of one tensor (), or (channels,).
        count: How many values one step is for.
        peak: The largest integer.
    """
    slow: Tensor = _Slowed.apply(scale, 1 / math.sqrt(max(1, count) * peak))  # type: ignore[no-untyped-call]
    return slow


def round_through(x: Tensor) -> Tensor:
    """Rounded, with the gradient of the identity."""
    rounded: Tensor = _Rounded.apply(x)  # type: ignore[no-untyped-call]
    return rounded


def quantise(x: Tensor, scale: Tensor, zero: int, low: int, high: int) -> Tensor:
    """Integers, as floats: clamp(round(x / scale) + zero, low, high)."""
    return torch.clamp(round_through(x / _of_one(scale, x, zero, low, high)) + zero, low, high)


def dequantise(q: Tensor, scale: Tensor, zero: int, low: int, high: int) -> Tensor:
    """What integers stand for."""
    return (q.to(scale.dtype) - zero) * _of_one(scale, q, zero, low, high)


def _of_one(scale: Tensor, x: Tensor, zero: int, low: int, high: int) -> Tensor:
    """A step for all values of a batch; a layer's size is that of one sample."""
    return slowed(scale, x.numel() // max(1, len(x)) if x.ndim else 1, max(high - zero, zero - low))


def quantise_pair(x: Tensor, scale: Tensor, zero: int, low: int, high: int) -> Tensor:
    """What integers of one step stand for, of x's shape.

    Args:
        x: float, any shape.
        scale: float ().
        zero: The integer that stands for 0.
        low: The smallest integer.
        high: The largest.
    """
    step = _of_one(scale, x, zero, low, high)
    pair: Tensor = _Pair.apply(x, step, zero, low, high)  # type: ignore[no-untyped-call]
    return pair


def quantise_weight(weight: Tensor, scale: Tensor, axis: int, peak: int) -> Tensor:
    """What a weight's symmetric integers stand for.

    Args:
        weight: float.
        scale: float (channels,), or () for one step.
        axis: Of the channels.
        peak: The largest integer, 127 for 8 bits.
    """
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)] if scale.ndim else []
    step = slowed(scale, weight.numel() // max(1, scale.numel()), peak).reshape(shape)
    return torch.clamp(round_through(weight / step), -peak, peak) * step


def quantise_bias(bias: Tensor, scale: Tensor) -> Tensor:
    """What a bias's int32 stand for; its step is the product of the input's and the weight's, and follows them."""
    step = scale.detach()
    return torch.clamp(round_through(bias / step), -BIAS_PEAK, BIAS_PEAK) * step
