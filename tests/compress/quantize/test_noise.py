from __future__ import annotations

import numpy as np
import pytest

from edgekit.compress.quantize.noise import sensitivity
from edgekit.compress.quantize.static import StaticConfig, plan_static
from edgekit.specs import Array
from tests.compress.quantize.nets import Net, images, mobile_block, normal, run


def test_the_node_that_hurts_most_comes_first() -> None:
    model = mobile_block(spread=1.5)
    plan = plan_static(StaticConfig(equalize=False), model, images(32))
    found = sensitivity(plan.model, plan.ranges, images(8, seed=3), placement=plan.placement, scheme=plan.scheme)
    assert {name for name, _ in found} == {
        n.name for n in plan.model.graph.node if n.op_type not in ("Relu", "Reshape")
    }
    assert [e for _, e in found] == sorted((e for _, e in found), reverse=True)
    noise = dict(found)
    assert found[0][0] == "conv6"  # it reads channels of very different size
    assert noise["conv6"] > 100 * max(noise["conv0"], noise["gemm10"])


def test_the_figure_is_that_of_the_node_alone() -> None:
    rng = np.random.default_rng(0)
    weight, x = normal(rng, 16, 8), rng.uniform(-1, 1, (4, 16)).astype(np.float32)
    net = Net(x=("batch", 16))
    model = net.model(net.add("MatMul", "x", weight))
    plan = plan_static(StaticConfig(), model, _split(x))
    (name, got), *rest = sensitivity(plan.model, plan.ranges, _split(x))
    scale = (plan.ranges["x"].high - plan.ranges["x"].low) / 255
    zero = np.rint(-plan.ranges["x"].low / scale)
    rounded = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale
    step = np.abs(weight).max(axis=0) / 127
    reference = run(model, {"x": x})[0]
    noise = np.square(rounded @ (np.rint(weight / step) * step) - reference).sum() / np.square(reference).sum()
    assert (name, rest) == ("matmul0", [])
    assert got == pytest.approx(noise, rel=0.02)


def test_an_output_that_goes_into_float_counts_for_its_node() -> None:
    rng = np.random.default_rng(0)
    net = Net(x=("batch", 32, 4, 4))
    end = net.add("Relu", net.add("Conv", "x", normal(rng, 16, 32, 1, 1), np.geomspace(0.1, 1000, 16).astype("f")))
    model = net.model(end, rank=4)
    x = rng.standard_normal((8, 32, 4, 4)).astype(np.float32)
    plan = plan_static(StaticConfig(), model, _split(x))
    ((name, got),) = sensitivity(plan.model, plan.ranges, _split(x), placement=plan.placement)
    reference = run(model, {"x": x})[0]
    step = plan.ranges["relu1"].high / 255
    noise = np.square(np.rint(reference / step) * step - reference).sum() / np.square(reference).sum()
    assert name == "conv0"
    assert got > 0.8 * noise


def _split(x: Array):  # type: ignore[no-untyped-def]
    from edgekit.data.split import Split

    return Split("x", {"x": x})
