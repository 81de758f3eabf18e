"""A smaller vocabulary for a model of text: rows of its embedding and of its last layer go, nothing else changes.

Source: Abdaoui et al. 2020, Load What You Need, arXiv:2010.05609.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compress.prune.tokens import TrimmedTokenizer, trim_tokenizer
from edgekit.data import named_for
from edgekit.data.split import Split
from edgekit.data.text.beside import find_tokenizer, put_tokenizer, told_of
from edgekit.errors import CompressError
from edgekit.files import check_output, write_json
from edgekit.graph.clean import remove_dead
from edgekit.graph.read import proto_bytes, read_model
from edgekit.graph.scopes import attribute
from edgekit.graph.vocabulary import vocabularies
from edgekit.graph.write import write_model
from edgekit.specs import TEXT_INPUTS, Array, Feeds, TensorSpec

if TYPE_CHECKING:
    import onnx

    from edgekit.ort import Session

_PASSED = ("Identity", "Cast")
_TOLERANCE = 1e-4
_CONFIGS = ("config.json", "generation_config.json")
_PROOF = (2, 16)  # batch and length


@dataclass(frozen=True)
class VocabularyTrim:
    """What was left of a vocabulary.

    Attributes:
        before: Tokens of the model.
        after: Those that are left.
        size_before: Of the file, in bytes.
        size_after: Of the new one.
        tokenizer: Path of the new tokeniser.
        max_rel: Largest difference of the outputs over the largest output, for texts of kept tokens.
    """

    before: int
    after: int
    size_before: int
    size_after: int
    tokenizer: str
    max_rel: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        return asdict(self)


def trim_vocabulary(model: Path, out: Path, texts: Sequence[str], tokenizer: Path | None = None) -> VocabularyTrim:
    """Write a model that knows fewer tokens, and its tokeniser beside it.

    For a text of kept tokens, embedding and hidden values are the same, and the logits are those of the kept tokens.
    Its probabilities are a little higher, since what was left out had some too.

    Args:
        model: An .onnx file in float, its tokenizer.json beside it.
        out: The file to write.
        texts: What it is used on.
        tokenizer: Where it lies, if not beside.

    Raises:
        CompressError: if the vocabulary cannot be followed through the graph, or an output changes.
        ModelError: if the tokeniser is missing or of another model.
    """
    check_output(out, model)
    proto = read_model(model)
    told = {p.key: p.value for p in proto.metadata_props}
    trimmed = trim_tokenizer(find_tokenizer(model, told_of(told), tokenizer), texts)
    size, before = proto_bytes(proto), vocabulary_of(proto)
    if trimmed.tokenizer.vocabulary >= before:
        raise CompressError(
            f"{model} has {before:,} tokens and the texts use all of them; there is nothing to leave out"
        )
    cut_vocabulary(proto, trimmed.kept, before)
    _retell(proto, trimmed)
    write_model(proto, out)
    rng = np.random.default_rng(0)
    max_rel = compare_files(model, out, lambda rows: rng.integers(0, rows, _PROOF), lambda new: trimmed.kept[new])
    place = put_tokenizer(trimmed.tokenizer, out)
    _carry_configs(model.parent, out.parent, trimmed.kept)
    return VocabularyTrim(before, len(trimmed.kept), size, proto_bytes(proto), str(place), max_rel)


def vocabulary_of(model: onnx.ModelProto) -> int:
    """Rows of the table that the ids look up.

    Raises:
        CompressError: if there is none in float.
    """
    found = vocabularies(model)
    rows = next((found[name] for name in TEXT_INPUTS["ids"] if name in found), 0)
    if not rows:
        inputs = ", ".join(v.name for v in model.graph.input)
        raise CompressError(
            f"no table of tokens in float was found behind the inputs {inputs}; cut the vocabulary of a model of "
            "text, before quantising it"
        )
    return rows


def cut_vocabulary(model: onnx.ModelProto, kept: Array, rows: int) -> None:
    """Leave rows of the table of tokens, and of the last layer that gives a logit each, in place.

    Args:
        model: Changed.
        kept: Rows to keep, int64 (tokens,).
        rows: There are, of the table.

    Raises:
        CompressError: if the graph does something else with them.
    """
    weights = {w.name: w for w in model.graph.initializer}
    axes: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in weights and weights[node.input[0]].dims[0] == rows:
            axes[node.input[0]] = attribute(node, "axis", 0)
    if not axes:
        raise CompressError("the table of tokens is not stored in float; cut the vocabulary before quantising")
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim
        if len(dims) and dims[-1].dim_value == rows:
            axes |= _head(model.graph, output.name, rows)
            dims[-1].dim_value = len(kept)
    for name, axis in axes.items():
        keep_rows(weights[name], kept, axis)
    del model.graph.value_info[:]
    remove_dead(model)


def _head(graph: onnx.GraphProto, output: str, rows: int) -> dict[str, int]:
    """Weights that an output's last dimension comes from, each with its axis."""
    makers = {name: node for node in graph.node for name in node.output}
    weights = {w.name: w for w in graph.initializer}
    found: dict[str, int] = {}
    name = output
    while name in makers:
        node = makers[name]
        stored = [i for i in node.input if i in weights and list(weights[i].dims)[-1:] == [rows]]
        if node.op_type in _PASSED:
            name = node.input[0]
        elif node.op_type == "Add" and len(stored) == 1 and len(weights[stored[0]].dims) == 1:
            found[stored[0]] = 0
            name = next(i for i in node.input if i != stored[0])
        else:
            return found | _of_product(node, makers, weights)
    raise CompressError(f"output {output!r} has a value a token that no weight gives; its vocabulary cannot be cut")


def _of_product(
    node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], weights: dict[str, onnx.TensorProto]
) -> dict[str, int]:
    """The weight of a last product, and its bias."""
    second = node.input[1] if len(node.input) > 1 else ""
    turned = makers.get(second)
    if node.op_type == "MatMul" and second in weights:
        return {second: 1}
    if node.op_type == "MatMul" and turned is not None and turned.op_type == "Transpose" and turned.input[0] in weights:
        return {turned.input[0]: 0}
    if node.op_type == "Gemm" and second in weights:
        bias = {node.input[2]: 0} if len(node.input) > 2 and node.input[2] in weights else {}
        return {second: 0 if attribute(node, "transB", 0) else 1, **bias}
    raise CompressError(
        f"the last layer {node.name!r} is a {node.op_type}, whose vocabulary cannot be cut; quantise later"
    )


def keep_rows(tensor: onnx.TensorProto, kept: Array, axis: int) -> None:
    """Leave some rows of a tensor, or columns, in place."""
    from onnx import numpy_helper

    values = np.take(numpy_helper.to_array(tensor), kept, axis=axis)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def _retell(model: onnx.ModelProto, trimmed: TrimmedTokenizer) -> None:
    """What the file says of its tokeniser."""
    new = {"edgekit.vocabulary": str(trimmed.tokenizer.vocabulary), "edgekit.tokenizer": trimmed.tokenizer.sha256}
    told = {p.key: p.value for p in model.metadata_props}
    if told.get("edgekit.preprocessing"):
        said = json.loads(told["edgekit.preprocessing"])
        said |= {"vocabulary": trimmed.tokenizer.vocabulary, "tokenizer_sha256": trimmed.tokenizer.sha256}
        new["edgekit.preprocessing"] = json.dumps(said)
    del model.metadata_props[:]
    for key, value in (told | new).items():
        model.metadata_props.add(key=key, value=value)


def _carry_configs(source: Path, place: Path, kept: Array) -> None:
    """Put Hugging Face's configurations beside the new file with the new ids; what lies there already stays."""
    new = {int(old): number for number, old in enumerate(kept)}
    for name in _CONFIGS:
        if not (source / name).is_file() or (place / name).exists():
            continue
        said = json.loads((source / name).read_text(encoding="utf-8"))
        for key, value in said.items():
            if key == "vocab_size":
                said[key] = len(kept)
            elif key.endswith("_token_id") and value is not None:
                said[key] = [new[i] for i in value if i in new] if isinstance(value, list) else new.get(value)
        write_json(place / name, said)


def compare_files(
    before: Path, after: Path, draw: Callable[[int], Array], old_of: Callable[[Array], Array] = np.asarray
) -> float:
    """The largest difference of any output between a file and what was made of it, relative to the largest value.

    Args:
        before: The file.
        after: What was made of it; taken away again if it differs.
        draw: Number of tokens of the new one -> ids for it, int64 (n, length).
        old_of: Those ids or outputs' last axis -> what they are in the old one.

    Raises:
        CompressError: if it is more than rounding.
    """
    from edgekit.ort import Session

    old, new = Session(before), Session(after)
    ids = draw(vocabulary_of(read_model(after)))
    worst = 0.0
    for wanted, got in zip(old.run(_feeds(old, old_of(ids))), new.run(_feeds(new, ids)), strict=True):
        expected = wanted if wanted.shape == got.shape else wanted[..., old_of(np.arange(got.shape[-1]))]
        largest = max(1.0, float(np.abs(expected).max(initial=0.0)))
        worst = max(worst, float(np.abs(expected - got).max(initial=0.0)) / largest)
    if not worst <= _TOLERANCE:
        after.unlink()
        raise CompressError(f"an output of {before} differs by {worst:.2g} once it is cut; leave it whole")
    return worst


def _feeds(session: Session, ids: Array) -> Feeds:
    """One batch of ids with all else that a model wants beside them."""
    made: dict[str, Array] = {"ids": ids, "mask": np.ones_like(ids), "segments": np.zeros_like(ids)}
    made["lengths"] = np.full(len(ids), ids.shape[1])
    taken = {s.name for s in session.inputs}
    arrays = {name: array for name, array in made.items() if name in taken} or {"ids": ids}
    split: Split = named_for(Split("proof", arrays), session.inputs).matched(session.inputs)
    specs: tuple[TensorSpec, ...] = session.inputs
    return next(iter(split.batches(specs, len(ids)))).feeds
