"""Every node that is put between Q/DQ pairs has to become one int8 kernel: a pair that stays costs time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.compress.quantize.qdq import write_qdq
from edgekit.compress.quantize.qoperator import to_qoperator
from edgekit.compress.quantize.static import StaticConfig, plan_static, quantize_static
from edgekit.compress.technique import OnnxStep
from edgekit.data.split import Split
from edgekit.errors import CompressError
from edgekit.ort import require_ort
from tests.compress.quantize.nets import Net, images, mobile_block, normal, run, snr_db

RNG = np.random.default_rng(0)


def conv(net: Net, x: str, channels: int = 32, size: int = 3) -> str:
    return net.add("Conv", x, normal(RNG, 32, channels, size, size), normal(RNG, 32), pads=[size // 2] * 4)


def hard_swish(net: Net, x: str) -> str:
    """As exporters spell it."""
    clipped = net.add("Clip", net.add("Add", x, np.float32(3)), np.float32(0), np.float32(6))
    return net.add("Div", net.add("Mul", x, clipped), np.float32(6))


BETWEEN: dict[str, tuple[Callable[[Net, str], str], set[str]]] = {
    "maximum": (lambda n, x: n.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), {"NhwcMaxPool"}),
    "average": (lambda n, x: n.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), {"QLinearAveragePool"}),
    "leaky": (lambda n, x: n.add("LeakyRelu", x, alpha=0.1), {"QLinearLeakyRelu"}),
    "silu": (lambda n, x: n.add("Mul", x, n.add("Sigmoid", x)), {"QLinearSigmoid", "QLinearMul"}),
    "sum": (lambda n, x: n.add("Relu", n.add("Add", x, conv(n, x))), {"QLinearAdd"}),
    "concat": (lambda n, x: conv(n, n.add("Concat", x, conv(n, x), axis=1), 64), {"QLinearConcat"}),
    "relu": (lambda n, x: n.add("Relu", x), set()),
    "relu6": (lambda n, x: n.add("Clip", x, np.float32(0), np.float32(6)), set()),
    "hard swish": (lambda n, x: hard_swish(n, x), {"QLinearAdd", "QLinearMul"}),
    "shifted hard swish": (
        lambda n, x: n.add("Add", n.add("Mul", hard_swish(n, x), np.float32(1.5)), np.float32(-0.7)),
        {"QLinearAdd", "QLinearMul"},
    ),
    "hard gate": (
        lambda n, x: n.add("Mul", x, n.add("HardSigmoid", conv(n, n.add("GlobalAveragePool", x), size=1))),
        {"QLinearGlobalAveragePool", "QLinearAdd", "QLinearMul"},
    ),
    "reshape": (lambda n, x: n.add("Reshape", x, np.array([0, 32, 4, 16])), {"Reshape"}),
    "slice": (lambda n, x: n.add("Slice", x, np.array([0]), np.array([4]), np.array([2])), {"Slice"}),
    "gate": (
        lambda n, x: n.add("Mul", x, n.add("Sigmoid", conv(n, n.add("GlobalAveragePool", x), size=1))),
        {"QLinearGlobalAveragePool", "QLinearSigmoid", "QLinearMul"},
    ),
}
EDGES = {"QuantizeLinear": 1, "DequantizeLinear": 1}


def written_both_ways(model: onnx.ModelProto, data: Split) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    plan = plan_static(StaticConfig(), model, data)
    pairs = write_qdq(plan.model, plan.placement, plan.ranges, plan.scheme, plan.means)
    return pairs, to_qoperator(pairs)


def kernels(model: onnx.ModelProto, path: Path) -> Counter[str]:
    ort = require_ort()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(path).graph.node if n.op_type not in ("QLinearConv", "Transpose"))


@pytest.mark.parametrize("name", BETWEEN)
def test_between_convolutions(name: str, tmp_path: Path) -> None:
    between, fused = BETWEEN[name]
    net = Net(x=("batch", 32, 8, 8))
    model = net.model(conv(net, between(net, conv(net, "x"))), rank=4)
    x = RNG.standard_normal((16, 32, 8, 8)).astype(np.float32)
    pairs, operators = written_both_ways(model, Split("x", {"x": x}))
    expected = run(model, {"x": x})[0]
    for written in (pairs, operators):
        assert kernels(written, tmp_path / "optimised.onnx") == Counter(fused) + Counter(EDGES)
        assert snr_db(expected, run(written, {"x": x})[0]) > 28


@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
def test_between_matrix_products(op: str, tmp_path: Path) -> None:
    net = Net(x=("batch", 32))
    hidden = net.add("Relu", net.add(op, "x", normal(RNG, 32, 32)))
    model = net.model(net.add(op, hidden, normal(RNG, 32, 32)))
    x = RNG.standard_normal((16, 32)).astype(np.float32)
    fused = {"Gemm": {"QGemm": 2}, "MatMul": {"QLinearMatMul": 1, "MatMulIntegerToFloat": 1}}[op]
    for written in written_both_ways(model, Split("x", {"x": x})):
        assert kernels(written, tmp_path / "optimised.onnx") == {"QuantizeLinear": 1, **fused}


def test_operators_give_the_numbers_of_the_pairs_in_a_smaller_file() -> None:
    feeds = dict(images(4).arrays)
    pairs, operators = written_both_ways(mobile_block(), images(16))
    onnx.checker.check_model(operators)
    np.testing.assert_array_equal(run(pairs, feeds)[0], run(operators, feeds)[0])
    assert operators.ByteSize() < pairs.ByteSize()
    assert "DequantizeLinear" not in {n.op_type for n in operators.graph.node}


def test_the_format_is_a_setting_and_refused_where_it_cannot_run(tmp_path: Path) -> None:
    source, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    source.write_bytes(mobile_block().SerializeToString())
    config = StaticConfig(format="qoperator")
    quantize_static(config, OnnxStep(source, out, images(16)))
    assert "QLinearConv" in {n.op_type for n in onnx.load(out).graph.node}
    with pytest.raises(CompressError, match="use format: qdq"):
        quantize_static(config, OnnxStep(source, out, images(16), target="tensorrt"))
