"""A shorter longest text: positions beyond it go, and longer texts are refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compress.prune.vocabulary import compare_files, keep_rows
from edgekit.errors import CompressError
from edgekit.files import check_output
from edgekit.graph.read import proto_bytes, read_model
from edgekit.graph.scopes import attribute
from edgekit.graph.write import write_model
from edgekit.specs import TEXT_INPUTS

if TYPE_CHECKING:
    import onnx

_IDS = (*TEXT_INPUTS["ids"], "letters")
_PASSED = ("Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze")
_LONGEST = "edgekit.longest"


def limit_length(model: Path, out: Path, length: int) -> dict[str, Any]:
    """Write a model of text that takes shorter texts only.

    Args:
        model: An .onnx file that says its longest text.
        out: The file to write.
        length: Tokens, at most.

    Returns:
        `before` and `after` in tokens, `size_before` and `size_after` in bytes, `tables` that were cut.

    Raises:
        CompressError: if the model says no limit, or a lower one; if a text of that length changes.
    """
    check_output(out, model)
    proto = read_model(model)
    told = {p.key: p.value for p in proto.metadata_props}
    longest = int(told.get(_LONGEST, "0") or 0)
    if not 2 <= length < (longest or length + 1):
        allowed = f"2 to {longest - 1:,}" if longest else "2 or more"
        raise CompressError(
            f"{model} takes texts of at most {longest:,} tokens; a lower limit is {allowed}, got {length:,}"
        )
    size = proto_bytes(proto)
    tables = _cut_positions(proto, longest, length) if longest else []
    del proto.metadata_props[:]
    for key, value in {**told, _LONGEST: str(length)}.items():
        proto.metadata_props.add(key=key, value=value)
    write_model(proto, out)
    compare_files(model, out, lambda rows: np.random.default_rng(0).integers(0, rows, (1, length)))
    return {
        "before": longest or None,
        "after": length,
        "size_before": size,
        "size_after": proto_bytes(proto),
        "tables": tables,
    }


def _cut_positions(model: onnx.ModelProto, longest: int, length: int) -> list[str]:
    """Leave the first rows of tables of positions; names of the tables."""
    graph = model.graph
    ids = {v.name for v in graph.input if v.name in _IDS}
    weights = {w.name: w for w in graph.initializer if w.dims and w.dims[0] == longest}
    read = {name: [n for n in graph.node if name in n.input] for name in weights}
    for node in graph.node:
        if node.op_type in _PASSED and node.input[0] in ids:
            ids.add(node.output[0])
    found = [name for name, nodes in read.items() if nodes and all(_is_lookup(n, name, ids) for n in nodes)]
    for name in found:
        keep_rows(weights[name], np.arange(length), 0)
    return found


def _is_lookup(node: onnx.NodeProto, table: str, ids: set[str]) -> bool:
    """Whether a node looks rows of a table up by something other than ids."""
    return (
        node.op_type == "Gather"
        and node.input[0] == table
        and attribute(node, "axis", 0) == 0
        and node.input[1] not in ids
    )
