"""Rounding with gradients, against the equations of the paper in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.graph.learnt_steps import dequantise, quantise, quantise_bias, quantise_pair, quantise_weight

RNG = np.random.default_rng(0)


def gradient_of_step(x: np.ndarray, s: float, zero: int, low: int, high: int) -> float:
    """Equation 3 of arXiv:1902.08153 with a zero point, summed, times g = 1 / sqrt(n * q) of section 2.2."""
    v = x / s
    q = np.rint(v) + zero
    slope = np.where(q < low, low - zero, np.where(q > high, high - zero, np.rint(v) - v))
    return float(slope.sum() / np.sqrt(x[0].size * max(high - zero, zero - low)))


@pytest.mark.parametrize(("zero", "low", "high"), [(0, 0, 255), (110, 0, 255), (0, -128, 127)])
def test_a_pair_rounds_and_has_the_gradients_of_the_paper(zero: int, low: int, high: int) -> None:
    x = (RNG.standard_normal((4, 3, 5)) * 2).astype(np.float32)
    tensor, scale = torch.tensor(x, requires_grad=True), torch.tensor(0.011, requires_grad=True)
    out = quantise_pair(tensor, scale, zero, low, high)
    q = np.clip(np.rint(x / np.float32(0.011)) + zero, low, high)
    assert np.array_equal(out.detach().numpy(), (q - zero).astype(np.float32) * np.float32(0.011))
    out.sum().backward()
    raw = np.rint(x / np.float32(0.011)) + zero
    assert np.array_equal(tensor.grad.numpy(), ((raw >= low) & (raw <= high)).astype(np.float32))
    assert float(scale.grad) == pytest.approx(gradient_of_step(x.astype(np.float64), 0.011, zero, low, high), rel=1e-3)


def test_quantising_and_dequantising_one_after_the_other_is_the_same_as_the_pair() -> None:
    x = torch.randn(2, 6)
    found = []
    for both in (False, True):
        scale = torch.tensor(0.02, requires_grad=True)
        out = (
            quantise_pair(x, scale, 3, 0, 255) if both else dequantise(quantise(x, scale, 3, 0, 255), scale, 3, 0, 255)
        )
        (out**2).sum().backward()
        found.append((out.detach(), float(scale.grad)))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)


def test_a_weight_has_a_step_a_channel_and_keeps_within_its_bits() -> None:
    weight = torch.randn(3, 8, requires_grad=True)
    scale = torch.tensor([0.01, 0.02, 1.0], requires_grad=True)
    out = quantise_weight(weight, scale, 0, 63)
    q = torch.round(out / scale[:, None])
    assert int(q.abs().max()) == 63
    assert torch.allclose(out, q * scale[:, None])
    out.sum().backward()
    assert scale.grad.shape == (3,)
    outside = (weight / scale[:, None]).round().abs() > 63
    assert torch.equal(weight.grad == 0, outside)
    wanted = torch.where(outside, 63 * weight.sign(), q - weight / scale[:, None]).sum(1) / np.sqrt(8 * 63)
    assert torch.allclose(scale.grad, wanted.detach(), rtol=1e-3, atol=1e-4)


def test_a_step_for_all_channels() -> None:
    weight, scale = torch.randn(3, 8), torch.tensor(0.5)
    assert torch.equal(quantise_weight(weight, scale, 0, 127), torch.round(weight / 0.5) * 0.5)


def test_a_bias_follows_the_steps_of_others_and_gives_them_no_gradient() -> None:
    bias, scale = torch.tensor([0.1, -7.3], requires_grad=True), torch.tensor([0.01, 0.02], requires_grad=True)
    out = quantise_bias(bias, scale)
    assert torch.allclose(out, torch.tensor([0.1, -7.3]), atol=1e-6)
    out.sum().backward()
    assert torch.equal(bias.grad, torch.ones(2))
    assert scale.grad is None


def test_rounding_is_half_to_even_as_onnx_says() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5])
    assert quantise_pair(x[None], torch.tensor(1.0), 0, -128, 127).tolist() == [[0.0, 2.0, 2.0, 0.0]]
