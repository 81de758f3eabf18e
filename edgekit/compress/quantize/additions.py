"""New initializers and nodes that a technique puts in front of a model's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.graph.scopes import Names
from edgekit.specs import Array


class Additions:
    """Initializers and nodes of a model's main graph, from where its subgraphs read them too.

    Args:
        model: Changed in place; call `finish` once at the end.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._names = Names(model)
        self._nodes: list[onnx.NodeProto] = []
        self._shared: dict[tuple[str, bytes], str] = {}

    def add(self, wish: str, values: Array) -> str:
        """A new initializer's name."""
        name = self._names.fresh(wish)
        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def add_raw(self, wish: str, kind: int, shape: tuple[int, ...], raw: bytes) -> str:
        """The same for element types that NumPy has not."""
        name = self._names.fresh(wish)
        self._model.graph.initializer.append(helper.make_tensor(name, kind, shape, raw, raw=True))
        return name

    def constant(self, wish: str, value: Array | np.generic) -> str:
        """A small initializer that many nodes share."""
        key = (f"{wish} {value.dtype} {value.shape}", value.tobytes())
        if key not in self._shared:
            self._shared[key] = self.add(wish, np.asarray(value))
        return self._shared[key]

    def node(self, op_type: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        """The name of a new node's output."""
        name = self._names.fresh("unpacked")
        self._nodes.append(helper.make_node(op_type, inputs, [name], name, domain=domain, **attributes))
        return name

    def finish(self) -> None:
        """Put the nodes in front of all others."""
        rest = [onnx.NodeProto.FromString(n.SerializeToString()) for n in self._model.graph.node]
        del self._model.graph.node[:]
        self._model.graph.node.extend([*self._nodes, *rest])
