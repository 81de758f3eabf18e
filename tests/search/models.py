"""Small models to search on, seeded; no training needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def conv_net(path: Path, *, width: int = 24, outlier: float = 1.0, seed: int = 0) -> Path:
    """Conv-Relu-Conv-Relu-pool-Gemm on (batch, 3, 16, 16); `outlier` scales one channel to make int8 hard."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        fan_in = int(np.prod(shape[1:]))
        return numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32), name)

    weights = [weight("w1", width, 3, 3, 3), weight("w2", width, width, 3, 3), weight("w3", 10, width)]
    first = numpy_helper.to_array(weights[0]).copy()
    first[0] *= outlier
    weights[0] = numpy_helper.from_array(first, "w1")
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="pool"),
        helper.make_node("Flatten", ["e"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3"], ["y"], name="head", transB=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 16, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="owner", value="somebody")
    onnx.save(model, str(path))
    return path


def elementwise(path: Path) -> Path:
    """A model without a weight: nothing can be gained."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def images(count: int, seed: int = 1) -> np.ndarray:
    """Float32 (count, 3, 16, 16)."""
    return np.random.default_rng(seed).standard_normal((count, 3, 16, 16)).astype(np.float32)


def classes_of(model: Path, inputs: np.ndarray) -> np.ndarray:
    """The model's own answers as labels, so that its accuracy is 1."""
    from edgekit.ort import Session

    return Session(model, threads=1).run({"x": inputs})[0].argmax(axis=1)
