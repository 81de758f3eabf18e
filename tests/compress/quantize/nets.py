"""Small seeded networks for the tests of static quantisation."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.data.split import Split
from edgekit.specs import Array


class Net:
    """Builds a graph node by node; every float array given becomes an initializer."""

    def __init__(self, **inputs: tuple[object, ...]) -> None:
        self.inputs = [helper.make_tensor_value_info(k, TensorProto.FLOAT, list(v)) for k, v in inputs.items()]
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str | Array, **attributes: object) -> str:
        """Add a node and return its output's name; the node is called like its output."""
        name = f"{op.lower()}{len(self.nodes)}"
        names = [i if isinstance(i, str) else self._weight(i) for i in inputs]
        self.nodes.append(helper.make_node(op, names, [name], name=name, **attributes))
        return name

    def model(self, *outputs: str, rank: int = 2, opset: int = 18) -> onnx.ModelProto:
        """The finished model; `rank` is that of its outputs."""
        dims = [f"dim{i}" for i in range(rank)]
        ends = [helper.make_tensor_value_info(o, TensorProto.FLOAT, dims) for o in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, ends, self.weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        onnx.checker.check_model(made)
        return made

    def _weight(self, value: Array) -> str:
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name


def normal(rng: np.random.Generator, *shape: int) -> Array:
    """Weights whose outputs keep the size of their inputs."""
    fan_in = max(int(np.prod(shape[1:])), 1)
    return (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)


def mobile_block(seed: int = 0, spread: float = 0.0, activation: str = "Relu") -> onnx.ModelProto:
    """Stem, expansion, depthwise, projection, residual sum, mean and classes; `spread` makes channels uneven.

    Input `image` (batch, 3, 12, 12), output (batch, 10). Rescaled channels leave the function as it is.
    """
    rng = np.random.default_rng(seed)
    s, t = np.exp(spread * rng.standard_normal((2, 64))).astype(np.float32)
    expand, depth, project = normal(rng, 64, 24, 1, 1), normal(rng, 64, 1, 3, 3), normal(rng, 24, 64, 1, 1)
    net = Net(image=("batch", 3, 12, 12))

    def act(name: str) -> str:
        if activation == "Clip":
            return net.add("Clip", name, np.array(0, np.float32), np.array(6, np.float32))
        return net.add(activation, name)

    stem = act(net.add("Conv", "image", normal(rng, 24, 3, 3, 3), normal(rng, 24), pads=[1] * 4))
    wide = act(net.add("Conv", stem, expand * s[:, None, None, None], normal(rng, 64) * s))
    deep_weight = depth * (t / s)[:, None, None, None]
    deep = act(net.add("Conv", wide, deep_weight, normal(rng, 64) * t, pads=[1] * 4, group=64))
    flat = net.add("Conv", deep, project / t[None, :, None, None], normal(rng, 24))
    total = net.add("Add", flat, stem)
    mean = net.add("ReduceMean", total, np.array([2, 3], np.int64), keepdims=1)
    rows = net.add("Reshape", mean, np.array([-1, 24], np.int64))
    return net.model(net.add("Gemm", rows, normal(rng, 10, 24), normal(rng, 10), transB=1))


def images(count: int, seed: int = 1) -> Split:
    """Samples for `mobile_block`."""
    rng = np.random.default_rng(seed)
    return Split("images", {"image": rng.standard_normal((count, 3, 12, 12)).astype(np.float32)})


def run(model: onnx.ModelProto, feeds: dict[str, Array], *, optimise: bool = True) -> list[Array]:
    """The outputs of a model."""
    from edgekit.ort import Session

    return Session(model.SerializeToString(), threads=1, graph_optimization=optimise).run(feeds)


def snr_db(reference: Array, got: Array) -> float:
    """Signal over noise."""
    return float(10 * np.log10(np.square(reference).mean() / max(np.square(reference - got).mean(), 1e-30)))
