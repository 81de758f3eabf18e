"""Small language-like models for the tests of block-wise weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCABULARY, WIDTH, HIDDEN = 300, 64, 96
Array = np.ndarray


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, Array],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    opset: int = 17,
) -> Path:
    initializers = [numpy_helper.from_array(v, k) for k, v in weights.items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, {"author": "somebody"})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def layer(i: int, source: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", [source, f"up{i}"], [f"u{i}"], f"up_{i}"),
        helper.make_node("Sigmoid", [f"u{i}"], [f"s{i}"]),
        helper.make_node("Mul", [f"u{i}", f"s{i}"], [f"a{i}"]),
        helper.make_node("MatMul", [f"a{i}", f"down{i}"], [f"d{i}"], f"down_{i}"),
        helper.make_node("Add", [source, f"d{i}"], [f"h{i}"]),
    ]


def language_model(
    path: Path, *, layers: int = 2, head: str = "transpose", dtype: type = np.float32, opset: int = 17
) -> Path:
    """ids (1, length) -> logits (1, length, VOCABULARY); the head is the embedding's transpose, its copy, or apart."""
    rng = np.random.default_rng(0)
    weights = {"table": rng.standard_normal((VOCABULARY, WIDTH)).astype(dtype)}
    for i in range(layers):
        weights[f"up{i}"] = (rng.standard_normal((WIDTH, HIDDEN)) / 8).astype(dtype)
        weights[f"down{i}"] = (rng.standard_normal((HIDDEN, WIDTH)) / 10).astype(dtype)
    nodes = [helper.make_node("Gather", ["table", "ids"], ["h"], "embed", axis=0)]
    for i in range(layers):
        nodes += layer(i, f"h{i - 1}" if i else "h")
    last = f"h{layers - 1}" if layers else "h"
    if head == "transpose":
        nodes.append(helper.make_node("Transpose", ["table"], ["turned"], "turn", perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", [last, "turned"], ["logits"], "head"))
    else:
        apart = rng.standard_normal((WIDTH, VOCABULARY)).astype(dtype)
        weights["head"] = np.ascontiguousarray(weights["table"].T) if head == "copy" else apart
        nodes.append(helper.make_node("MatMul", [last, "head"], ["logits"], "head"))
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return save(
        path,
        nodes,
        weights,
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "length"])],
        [helper.make_tensor_value_info("logits", element, [1, "length", VOCABULARY])],
        opset,
    )


def token_ids(samples: int = 4, length: int = 12) -> Array:
    return np.random.default_rng(1).integers(0, VOCABULARY, (samples, length))
