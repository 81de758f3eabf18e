"""Sums of u8 x s8 pairs in int16: the estimate against loops, and what a CPU without VNNI gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit.compress import OnnxStep
from edgekit.compress.quantize import saturation as module
from edgekit.compress.quantize.plan import Plan
from edgekit.compress.quantize.qdq import Scheme, quantize_weight
from edgekit.compress.quantize.saturation import reduce_where_needed, saturation
from edgekit.compress.quantize.static import StaticConfig, plan_static, quantize_static
from edgekit.data.split import Split
from edgekit.ort import Session
from tests.compress.quantize.nets import Net, images, mobile_block, normal, run, snr_db


def bright_product(peak: float = 1.0) -> tuple[onnx.ModelProto, Split]:
    """One product of 32 x 16 on inputs that are never negative, so that u8 values are large."""
    rng = np.random.default_rng(0)
    weight = np.clip(rng.standard_normal((32, 16)), -1, 1).astype(np.float32) * peak
    net = Net(x=("batch", 32))
    data = Split("bright", {"x": rng.uniform(0.5, 1.0, (40, 32)).astype(np.float32)})
    return net.model(net.add("MatMul", "x", weight)), data


def plan_of(model: onnx.ModelProto, data: Split, target: str = "cpu") -> Plan:
    return plan_static(StaticConfig(), model, data, target)  # type: ignore[arg-type]


def share_by_loops(model: onnx.ModelProto, data: Split, plan: Plan, samples: int) -> float:
    """The same share, product by product, for `bright_product`."""
    weight = numpy_helper.to_array(model.graph.initializer[0])
    q, _ = quantize_weight(weight, 1, plan.scheme.weight_peak)
    found = plan.ranges["x"]
    scale = np.float32((found.high - found.low) / 255)
    hits = total = 0
    for row in data.arrays["x"][:samples]:
        u = np.clip(np.rint(row / scale), 0, 255).astype(int)
        for column in range(q.shape[1]):
            for k in range(0, q.shape[0], 2):
                exact = u[k] * int(q[k, column]) + u[k + 1] * int(q[k + 1, column])
                hits += not -32768 <= exact <= 32767
                total += 1
    return hits / total


def test_the_share_is_that_of_loops_over_all_pairs() -> None:
    model, data = bright_product()
    plan = plan_of(model, data)
    (share,) = saturation(plan).values()
    assert share == pytest.approx(share_by_loops(model, data, plan, module._SAMPLES), abs=1e-12)
    assert 0.2 < share < 0.8


def test_seven_bits_cannot_saturate() -> None:
    model, data = bright_product()
    plan = plan_of(model, data)
    assert saturation(replace(plan, scheme=replace(plan.scheme, weight_bits=7))) == {"matmul0": 0.0}


@pytest.mark.parametrize("group", [1, 2])
def test_patches_of_a_convolution_lie_as_the_kernel_reads_them(group: int) -> None:
    rng = np.random.default_rng(1)
    weight, image = normal(rng, 6, 8 // group, 3, 3), rng.uniform(0, 1, (4, 8, 5, 5)).astype(np.float32)
    net = Net(image=("batch", 8, 5, 5))
    model = net.model(net.add("Conv", "image", weight, strides=[2, 2], pads=[1] * 4, group=group), rank=4)
    plan = plan_of(model, Split("s", {"image": image}))
    wiring = module.Wiring(plan.model)
    (node,) = [n for n in plan.model.graph.node if n.op_type == "Conv"]
    values = module._as_unsigned(plan, "image", image[:1])
    rows = module._patches(plan, wiring, node, values, rng)
    pairs = module._weight_pairs(plan, wiring, node).pairs
    ours = np.einsum("grd,god->rgo", rows.astype(int), pairs.reshape(group, 6 // group, -1)).reshape(9, 6)
    q, _ = quantize_weight(weight, 0, 127)
    conv = Net(image=("batch", 8, 5, 5))
    same = conv.model(
        conv.add("Conv", "image", q.astype(np.float32), strides=[2, 2], pads=[1] * 4, group=group), rank=4
    )
    (wanted,) = run(same, {"image": values[0].astype(np.float32)})
    assert values[1] == 0
    assert ours.T.reshape(6, 3, 3) == pytest.approx(wanted[0])


def test_depthwise_convolutions_are_safe_and_signed_activations_are_shifted() -> None:
    plan = plan_of(mobile_block(), images(16))
    shares = saturation(plan)
    depthwise = [
        n.name
        for n in plan.model.graph.node
        if n.op_type == "Conv" and any(a.name == "group" and a.i == 64 for a in n.attribute)
    ]
    assert [shares[name] for name in depthwise] == [0.0]
    signed = replace(plan, scheme=replace(plan.scheme, signed=True))
    assert saturation(signed) == shares


def test_only_nodes_that_saturate_get_seven_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = Net(x=("batch", 32))
    wide = np.clip(rng.standard_normal((32, 32)), -1, 1).astype(np.float32)
    calm = np.where(np.arange(32)[:, None] % 2, 0.01, 1.0).astype(np.float32) * np.ones((1, 32), np.float32)
    inner = net.add("Relu", net.add("MatMul", "x", wide))
    model = net.model(net.add("MatMul", inner, calm))
    data = Split("bright", {"x": rng.uniform(0.5, 1.0, (40, 32)).astype(np.float32)})
    plan, facts = reduce_where_needed(plan_of(model, data, "cpu-no-vnni"))
    assert facts["before"]["matmul0"] > 0
    assert facts["before"]["matmul2"] == 0
    assert facts["after"] == {"matmul0": 0.0, "matmul2": 0.0}
    assert plan.scheme.reduced == frozenset({"matmul0"})
    onnx.save(model, str(tmp_path / "m.onnx"))
    step = OnnxStep(tmp_path / "m.onnx", tmp_path / "q.onnx", data, "cpu-no-vnni")
    result = quantize_static(StaticConfig(), step)
    assert result.details["saturation"] == facts
    assert "7-bit weights where without VNNI up to" in result.reason
    written = [numpy_helper.to_array(i) for i in onnx.load(str(step.out)).graph.initializer]
    assert sorted(int(np.abs(w.astype(int)).max()) for w in written if w.dtype == np.int8 and w.ndim == 2) == [63, 127]


def test_a_cpu_without_vnni_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = bright_product()
    onnx.save(model, str(tmp_path / "m.onnx"))
    step = OnnxStep(tmp_path / "m.onnx", tmp_path / "q.onnx", data)
    monkeypatch.setattr(module, "cpu_flags", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(module, "has_vnni", lambda: True)
    assert "saturation" not in quantize_static(StaticConfig(), step).details
    assert "VNNI" not in capsys.readouterr().err
    monkeypatch.setattr(module, "has_vnni", lambda: False)
    found = quantize_static(StaticConfig(), step).details["saturation"]
    assert found["before"] == found["after"]
    assert "this CPU has no VNNI" in capsys.readouterr().err
    searching = replace(step, excluded=frozenset({"another"}))
    assert "without VNNI up to" in quantize_static(StaticConfig(), searching).reason
    assert "this CPU has no VNNI" not in capsys.readouterr().err, "said once"


def test_the_reduced_file_agrees_in_either_mode_of_the_kernels(tmp_path: Path) -> None:
    """With session.x64quantprecision ONNX Runtime takes u8 x u8 kernels where u8 x s8 saturate, and only there.

    So on a CPU with VNNI the entry changes nothing, and both files are right; on one without, the file of 8-bit weights
    is what it mends, while 7-bit weights do not need it. Either way the reduced file answers the same.
    """
    model, data = bright_product()
    onnx.save(model, str(tmp_path / "m.onnx"))
    quantize_static(StaticConfig(), OnnxStep(tmp_path / "m.onnx", tmp_path / "q.onnx", data, "cpu-no-vnni"))
    feeds = dict(data.arrays)
    plain, precise = (
        Session(tmp_path / "q.onnx", threads=1, config={"session.x64quantprecision": mode}).run(feeds)[0]
        for mode in ("0", "1")
    )
    assert np.array_equal(plain, precise)
    assert snr_db(run(model, feeds)[0], plain) > 30


def test_a_scheme_without_a_choice_reduces_all() -> None:
    assert Scheme(weight_bits=7).weight_peak_of("anything") == 63
    assert Scheme(weight_bits=7, reduced=frozenset({"a"})).weight_peak_of("b") == 127
