"""One small network in three precisions: fp32, fp16, and int8 in symmetric Q/DQ, as TensorRT wants it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PRECISIONS = ("fp32", "fp16", "int8")
_ACTIVATION_SCALE = 4.0 / 127  # inputs are standard normal, and the layers keep their variance


def build(path: Path, precision: str, width: int = 256, layers: int = 4) -> Path:
    """A chain of square MatMul and Relu, (batch, width) in and out, with the same weights in every precision."""
    rng, kind = np.random.default_rng(0), np.float16 if precision == "fp16" else np.float32
    nodes: list[onnx.NodeProto] = []
    tensors = [numpy_helper.from_array(np.array(_ACTIVATION_SCALE, np.float32), "scale")]
    tensors.append(numpy_helper.from_array(np.array(0, np.int8), "zero"))
    last = "x"
    for i in range(layers):
        weight = rng.standard_normal((width, width)) * np.sqrt(2 / width)
        if precision == "int8":
            last = _quantised(nodes, tensors, last, weight, i)
        else:
            tensors.append(numpy_helper.from_array(weight.astype(kind), f"w{i}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"], name=f"matmul{i}"))
        nodes.append(helper.make_node("Relu", [f"m{i}"], [f"r{i}"], name=f"relu{i}"))
        last = f"r{i}"
    used = {name for node in nodes for name in node.input}
    element = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.FLOAT
    x, y = (helper.make_tensor_value_info(name, element, ["batch", width]) for name in ("x", last))
    graph = helper.make_graph(nodes, precision, [x], [y], [t for t in tensors if t.name in used])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _quantised(
    nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], source: str, weight: np.ndarray, i: int
) -> str:
    """Add Q/DQ of a layer's input, and its weight in int8 with one scale; gives the input's new name."""
    scale = np.float32(np.abs(weight).max() / 127)
    tensors.append(numpy_helper.from_array(np.rint(weight / scale).astype(np.int8), f"q{i}"))
    tensors.append(numpy_helper.from_array(np.array(scale, np.float32), f"s{i}"))
    nodes.append(helper.make_node("DequantizeLinear", [f"q{i}", f"s{i}", "zero"], [f"w{i}"], name=f"weight{i}"))
    nodes.append(helper.make_node("QuantizeLinear", [source, "scale", "zero"], [f"xq{i}"], name=f"quantize{i}"))
    nodes.append(helper.make_node("DequantizeLinear", [f"xq{i}", "scale", "zero"], [f"xd{i}"], name=f"dequantize{i}"))
    return f"xd{i}"
