"""The graph that is trained is the graph that runs: torch, ONNX Runtime without fusing, and with it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edgekit.compress.quantize.observers import Range
from edgekit.compress.quantize.placement import place
from edgekit.compress.quantize.plan import Plan
from edgekit.compress.quantize.qdq import Scheme, write_qdq
from edgekit.compress.quantize.static import StaticConfig, plan_static
from edgekit.compress.quantize.thaw import thaw
from edgekit.compress.technique import Target
from edgekit.data.split import Split
from edgekit.errors import ModelError
from edgekit.export.torch_onnx import export_onnx
from edgekit.graph.fake import freeze
from edgekit.graph.read import read_model
from edgekit.graph.trainable import GraphModule
from edgekit.specs import Array, TensorSpec
from edgekit.training.checkpoint import ModelCard, TrainedModel
from tests.compress.quantize.nets import Net, images, mobile_block, normal, run

PICTURE = (TensorSpec("image", "float32", ("batch", 1, 16, 16)),)
TEXT = (
    TensorSpec("ids", "int64", ("batch", "length"), vocabulary=32),
    TensorSpec("mask", "int64", ("batch", "length")),
)
MODELS = [
    ("mlp", "pico"),
    ("cnn", "pico"),
    ("cnn", "pico-depthwise"),
    ("resnet", "pico"),
    ("resnet", "pico-bottleneck"),
    ("vgg", "pico"),
    ("vgg", "pico-plain"),
    ("vit", "pico"),
    ("bert", "pico"),
]


def thawed(plan: Plan) -> onnx.ModelProto:
    written = write_qdq(plan.model, plan.placement, plan.ranges, plan.scheme)
    return thaw(written, plan.model, plan.placement, plan.scheme)


def plan_of(model: onnx.ModelProto, data: Split, target: Target = "cpu") -> Plan:
    return plan_static(StaticConfig(), model, data, target)


@cache
def exported(family: str, size: str) -> tuple[onnx.ModelProto, Split]:
    """A model whose normalisations have seen data, as it is exported, and that data."""
    import tempfile
    from pathlib import Path

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    card = ModelCard(family, size, "classification", "d", ("a", "b", "c"), TEXT if family == "bert" else PICTURE, {})
    if family == "bert":
        data = {"ids": rng.integers(0, 32, (32, 12)), "mask": np.ones((32, 12), np.int64)}
    else:
        data = {"image": rng.standard_normal((32, 1, 16, 16)).astype(np.float32)}
    module = card.build().train()
    with torch.no_grad():
        for _ in range(20):
            module(*(torch.from_numpy(v) for v in data.values()))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.onnx"
        export_onnx(TrainedModel(module.eval(), card), path)
        return read_model(path), Split("data", data)


def answer(module: GraphModule, data: Split) -> Array:
    with torch.no_grad():
        return np.asarray(module(*(torch.from_numpy(data.arrays[name]) for name in module.inputs)).numpy())


def nudged(module: GraphModule) -> GraphModule:
    """The module after something was learnt: every weight and every step moved."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in module.parameters():
            value += 0.02 * torch.randn(value.shape, generator=generator)
    return module


@pytest.mark.parametrize(("family", "size"), MODELS)
def test_torch_and_onnx_runtime_agree_within_one_step(family: str, size: str) -> None:
    model, data = exported(family, size)
    plan = plan_of(model, data)
    module = nudged(GraphModule(thawed(plan)))
    ours, finished = answer(module, data), freeze(module.to_proto())
    onnx.checker.check_model(finished)
    step = (ours.max() - ours.min()) / 255
    (plain,) = run(finished, data.arrays, optimise=False)
    (fused,) = run(finished, data.arrays)
    assert np.abs(plain - ours).max() <= step
    assert np.abs(fused - ours).max() <= step
    assert np.abs(fused - ours).mean() <= 0.02 * step


@pytest.mark.parametrize(("family", "size"), [("cnn", "pico"), ("vit", "pico")])
def test_before_training_it_is_the_statically_quantised_file(family: str, size: str) -> None:
    model, data = exported(family, size)
    plan = plan_of(model, data)
    static = write_qdq(plan.model, plan.placement, plan.ranges, plan.scheme)
    back = freeze(GraphModule(thawed(plan)).to_proto())
    assert [n.op_type for n in back.graph.node] == [n.op_type for n in static.graph.node]
    (wanted,), (got,) = run(static, data.arrays), run(back, data.arrays)
    assert np.array_equal(wanted, got)


@pytest.mark.parametrize("activation", ["Relu", "Clip", "HardSwish", "LeakyRelu", "Sigmoid"])
@pytest.mark.parametrize("target", ["cpu", "tensorrt", "arm", "cpu-no-vnni"])
def test_mobile_blocks_on_every_target(activation: str, target: Target) -> None:
    data = images(24)
    plan = plan_of(mobile_block(activation=activation), data, target)
    module = nudged(GraphModule(thawed(plan)))
    ours = answer(module, data)
    step = (ours.max() - ours.min()) / 255
    (fused,) = run(freeze(module.to_proto()), data.arrays)
    assert np.abs(fused - ours).max() <= 2 * step
    assert np.abs(fused - ours).mean() <= 0.25 * step


def test_learnt_steps_are_written_exactly() -> None:
    plan = plan_of(mobile_block(), images(24))
    module = nudged(GraphModule(thawed(plan)))
    wanted = {module.step(name).detach().numpy().tobytes() for name in module.steps}
    written = {numpy_helper.to_array(i).tobytes() for i in freeze(module.to_proto()).graph.initializer}
    assert len(wanted) > 8
    assert wanted <= written


def test_seven_bits_stay_seven_bits() -> None:
    plan = plan_of(mobile_block(), images(24), "cpu-no-vnni")
    module = nudged(GraphModule(thawed(replace(plan, scheme=replace(plan.scheme, weight_bits=7)))))
    weights = [numpy_helper.to_array(i) for i in freeze(module.to_proto()).graph.initializer]
    peaks = [int(np.abs(w.astype(np.int32)).max()) for w in weights if w.dtype == np.int8 and w.ndim > 1]
    assert max(peaks) == 63


def test_gates_keep_the_steps_that_their_bounds_give_them() -> None:
    plan = plan_of(mobile_block(activation="HardSwish"), images(24))
    module = GraphModule(thawed(plan))
    written = [n for n in module.model.graph.node if n.op_type == "QuantizeLinear"]
    free = [n for n in written if n.input[1] in module.steps]
    assert 0 < len(free) < len(written)


def test_what_is_trained() -> None:
    model, data = exported("vit", "pico")
    module = GraphModule(thawed(plan_of(model, data)))
    names = {name for name, _ in module.named_parameters()}
    assert any("norm" in name for name in names)
    assert not any("positions" in name or "class_token" in name for name in names)
    assert all(float(getattr(module, module.held[name]).detach().abs().max()) == 0 for name in module.steps)


def test_a_weight_that_two_nodes_read_stays_one() -> None:
    net, weight = Net(x=("batch", 4)), normal(np.random.default_rng(0), 4, 4)
    first = net.add("Gemm", "x", weight, transB=1)
    net.nodes.append(onnx.helper.make_node("Gemm", [first, net.nodes[0].input[1]], ["again"], name="again", transB=1))
    model = net.model("again")
    placement = place(model)
    ranges = dict.fromkeys(placement.observed, Range(-3.0, 3.0))
    module = GraphModule(thaw(write_qdq(model, placement, ranges, Scheme()), model, placement, Scheme()))
    assert [name for name, p in module.named_parameters() if p.ndim == 2] == ["weight0_trained_4x4"]


def test_an_operator_that_nothing_can_be_trained_through_is_named() -> None:
    net = Net(x=("batch", 4))
    model = net.model(net.add("Hardmax", net.add("Gemm", "x", normal(np.random.default_rng(0), 4, 4))))
    with pytest.raises(
        ModelError, match="operator Hardmax of node 'hardmax1' cannot be trained through; use `quantize:"
    ):
        GraphModule(model)


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0])
def test_a_step_that_is_none_is_refused(value: float) -> None:
    plan = plan_of(mobile_block(), images(24))
    graph = thawed(plan)
    steps = GraphModule(graph).steps
    for stored in graph.graph.initializer:
        if stored.name in steps:
            bad = np.full(tuple(stored.dims), value, np.float32)
            stored.CopyFrom(numpy_helper.from_array(bad, stored.name))
    with pytest.raises(ModelError, match="must be a number above 0"):
        GraphModule(graph)


@pytest.mark.parametrize("where", ["step", "weight"])
def test_what_training_ruined_is_not_written(where: str) -> None:
    module = GraphModule(thawed(plan_of(mobile_block(), images(24))))
    name = sorted(module.steps)[0] if where == "step" else "weight0.trained.24x4x3x3"
    with torch.no_grad():
        getattr(module, module.held[name]).fill_(torch.nan)
    with pytest.raises(ModelError, match="is not finite; train again with a lower `learning_rate`"):
        freeze(module.to_proto())
