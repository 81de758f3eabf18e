from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.compress.quantize.calibration import observe
from edgekit.compress.quantize.candidates import find_weights
from edgekit.compress.quantize.moments import Observed, observe_multipliers
from edgekit.compress.quantize.smooth import predicted_noise, smooth_products
from edgekit.compress.quantize.static import CalibrationConfig, StaticConfig, plan_static, quantize_static
from edgekit.compress.technique import OnnxStep
from edgekit.data.split import Split
from edgekit.graph.normalise import normalise
from edgekit.specs import Array
from tests.compress.quantize.nets import Net, normal, run, snr_db

WIDTH = 64
NORMS = ("LayerNormalization", "by hand", "scale only", "bias", "products", "none")


def outliers(rng: np.random.Generator) -> Array:
    """A gain a channel; three of them are large, as in language models."""
    gain = rng.uniform(0.5, 1.5, WIDTH)
    gain[[3, 17, 40]] = 80
    return gain.astype(np.float32)


def branches(norm: str, residual: bool = False) -> onnx.ModelProto:
    """Three products that read one activation with outlier channels; input `x` (batch, 64)."""
    rng = np.random.default_rng(0)
    net, gain, bias = Net(x=("batch", WIDTH)), outliers(rng), normal(rng, WIDTH)
    if norm == "LayerNormalization":
        value = net.add("LayerNormalization", "x", gain, bias)
    elif norm == "by hand":
        value = net.add("Add", net.add("Mul", net.add("Tanh", "x"), gain), bias)
    elif norm == "scale only":
        value = net.add("Mul", gain, net.add("Tanh", "x"))
    elif norm == "bias":
        value = net.add("Add", net.add("Sigmoid", "x"), gain)
    elif norm == "products":
        value = net.add("Relu", net.add("Add", net.add("MatMul", "x", normal(rng, WIDTH, WIDTH) * gain), bias))
    else:
        value = "x"
    # as in language models, what reads outlier channels has small weights for them
    parts = [net.add("MatMul", value, normal(rng, WIDTH, WIDTH) / gain[:, None]) for _ in range(2)]
    parts.append(net.add("Gemm", value, normal(rng, WIDTH, WIDTH) / gain, normal(rng, WIDTH), transB=1))
    if residual:
        parts.append(value)
    return net.model(*parts)


def data(count: int = 64, gain: Array | None = None) -> Split:
    values = np.random.default_rng(1).standard_normal((count, WIDTH))
    return Split("x", {"x": (values if gain is None else values * gain).astype(np.float32)})


def smoothed(model: onnx.ModelProto, split: Split) -> tuple[onnx.ModelProto, dict[str, Observed], dict[str, Observed]]:
    result = normalise(model)
    readers = [w for w in find_weights(result) if len(w.tensor.dims) == 2 and w.uses[0].node.input[0] != "x"]
    weights = readers or [w for w in find_weights(result) if len(w.tensor.dims) == 2]
    before = observe_multipliers(result, weights, split, 64)
    return result, before, smooth_products(result, weights, before)


@pytest.mark.parametrize("norm", NORMS)
def test_the_function_stays_as_it_was(norm: str) -> None:
    model = branches(norm)
    split = data(gain=outliers(np.random.default_rng(0)) if norm == "none" else None)
    result, _, _ = smoothed(model, split)
    for wanted, got in zip(run(model, dict(split.arrays)), run(result, dict(split.arrays)), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("norm", ["LayerNormalization", "by hand", "scale only", "products"])
def test_factors_go_into_what_makes_the_activation(norm: str) -> None:
    model = branches(norm)
    result, before, after = smoothed(model, data())
    assert [n.op_type for n in result.graph.node] == [n.op_type for n in model.graph.node]
    (value,) = before
    spread = [float(seen[value].high.max() - seen[value].low.min()) for seen in (before, after)]
    assert spread[1] < spread[0] / 4


@pytest.mark.parametrize(("norm", "residual"), [("bias", False), ("LayerNormalization", True)])
def test_a_multiplication_is_added_where_nothing_can_take_the_factors(norm: str, residual: bool) -> None:
    model = branches(norm, residual)
    result, before, after = smoothed(model, data())
    assert len(result.graph.node) == len(model.graph.node) + 1
    made = next(n for n in result.graph.node if n.name.startswith("Smooth"))
    readers = [n.op_type for n in result.graph.node if made.output[0] in n.input]
    assert sorted(readers) == ["Gemm", "MatMul", "MatMul"]
    assert set(after) == {*before, made.output[0]}


def test_what_was_observed_follows_the_factors() -> None:
    result, before, after = smoothed(branches("LayerNormalization"), data())
    (value,) = before
    weights = [w for w in find_weights(result) if len(w.tensor.dims) == 2]
    seen = observe_multipliers(result, weights, data(), 64)[value]
    np.testing.assert_allclose(after[value].high, seen.high, rtol=1e-4)
    np.testing.assert_allclose(after[value].second, seen.second, rtol=1e-3, atol=1e-5)


def test_even_channels_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    net = Net(x=("batch", WIDTH))
    model = net.model(net.add("MatMul", net.add("Tanh", "x"), normal(rng, WIDTH, WIDTH)))
    result, before, after = smoothed(model, data())
    assert after == before
    assert len(result.graph.node) == 2


def test_predicted_noise_is_that_of_rounding() -> None:
    """Against rounding itself, both operands to 8 bits."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4096, WIDTH)), rng.standard_normal((WIDTH, 16))
    seen = Observed((x.T @ x / len(x))[None], x.min(axis=0)[None], x.max(axis=0)[None])
    step, steps = (x.max() - x.min()) / 255, np.abs(w).max(axis=0) / 127
    error = np.rint(x / step) * step @ (np.rint(w / steps) * steps) - x @ w
    assert predicted_noise(w, seen) == pytest.approx(np.square(error).sum(axis=1).mean(), rel=0.1)


def quantised(model: onnx.ModelProto, tmp_path: Path, **config: object) -> tuple[dict[str, object], onnx.ModelProto]:
    source, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    source.write_bytes(model.SerializeToString())
    result = quantize_static(StaticConfig(**config), OnnxStep(source, out, data()))  # type: ignore[arg-type]
    return result.details, onnx.load(out)


@pytest.mark.parametrize("norm", ["LayerNormalization", "by hand", "bias"])
def test_static_quantisation_gains_from_it(tmp_path: Path, norm: str) -> None:
    model, feeds = branches(norm), dict(data(32).arrays)
    wanted, quality = run(model, feeds), {}
    for wish in (False, "auto"):
        details, written = quantised(model, tmp_path, smooth=wish)
        got = run(written, feeds)
        quality[wish] = min(snr_db(a, b) for a, b in zip(wanted, got, strict=True))
        assert details["smoothed_tensors"] == (1 if wish else 0)
    assert quality["auto"] > quality[False] + 4


def test_static_places_the_multiplication_before_the_pair() -> None:
    plan = plan_static(StaticConfig(), branches("bias"), data())
    made = next(n for n in plan.model.graph.node if n.name.startswith("Smooth"))
    assert made.output[0] in plan.placement.tensors
    assert plan.smoothed == (made.output[0],)
    assert len(plan.placement.nodes) == 3


def test_nothing_is_put_between_two_products_in_int8() -> None:
    rng, gain = np.random.default_rng(0), outliers(np.random.default_rng(1))
    net = Net(x=("batch", WIDTH))
    hidden = net.add("Relu", net.add("Gemm", "x", normal(rng, WIDTH, WIDTH) * gain, normal(rng, WIDTH) * gain))
    model = net.model(net.add("Gemm", hidden, normal(rng, WIDTH, WIDTH) / gain[:, None], normal(rng, WIDTH)))
    assert plan_static(StaticConfig(equalize=False), model, data()).smoothed == ()
    assert plan_static(StaticConfig(equalize=False, smooth=True), model, data()).smoothed


def test_products_between_float_operators_clip_nothing() -> None:
    plan = plan_static(StaticConfig(smooth=False), branches("LayerNormalization"), data())
    (value,) = plan.placement.tensors
    seen = observe(plan.model, plan.data, [value])[value]
    assert (plan.ranges[value].low, plan.ranges[value].high) == (seen.low, seen.high)
    asked = StaticConfig(smooth=False, calibration=CalibrationConfig(method="percentile", percentile=99))
    clipped = plan_static(asked, branches("LayerNormalization"), data()).ranges[value]
    assert clipped.high < seen.high


def test_an_excluded_product_is_not_touched() -> None:
    model = branches("LayerNormalization")
    plan = plan_static(StaticConfig(), model, data(), excluded=frozenset(n.name for n in model.graph.node))
    assert plan.smoothed == ()
