"""Checkpoints whose architecture is an ONNX graph beside the weights, as training in quantised form leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from edgekit.errors import ModelError
from edgekit.files import replacing, sha256_of
from edgekit.graph.read import every_weight, read_structure

if TYPE_CHECKING:
    from edgekit.graph.trainable import GraphModule

GRAPH = "graph.onnx"


def keep_graph(model: onnx.ModelProto, directory: Path) -> str:
    """Write the graph that a checkpoint's weights are for; its hash, which is the card's `architecture["graph"]`."""
    with replacing(directory / GRAPH) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return sha256_of(directory / GRAPH)


def build_graph(directory: Path, sha256: str) -> GraphModule:
    """The module of a checkpoint's graph, as it was before training.

    Args:
        directory: Of the checkpoint.
        sha256: Of the graph, from the card.

    Raises:
        ModelError: if the graph is missing, was changed, or cannot be trained through.
    """
    from edgekit.graph.trainable import GraphModule

    path = directory / GRAPH
    if not path.is_file() or sha256_of(path) != sha256:
        state = "was changed" if path.is_file() else "is missing"
        raise ModelError(f"{path} {state}, and the checkpoint's weights are for it; copy the whole directory again")
    model = read_structure(path)
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in every_weight(model)):
        raise ModelError(f"{path} keeps weights in other files; a checkpoint's graph holds its own, train again")
    return GraphModule(model)
