"""A model of texts that is small enough to be written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.data.text.learn import train_tokenizer

TEXTS = ("good and kind", "bad and mean", "kind words", "mean words", "good", "bad", "so kind", "so mean")


def write_text_model(directory: Path, name: str = "texts.onnx", *, length: int = 12, texts: Sequence[str] = ()) -> Path:
    """Write logits = sum of embeddings of ids (batch, length), with a tokeniser of these texts, or ours, beside it."""
    tokenizer = train_tokenizer("wordpiece", (*(texts or TEXTS),) * 4, 200 if texts else 60)
    directory.mkdir(exist_ok=True)
    (directory / "tokenizer.json").write_text(tokenizer.content)
    ids, mask = (helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "length"]) for n in ("ids", "mask"))
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["found"]),
        helper.make_node("Cast", ["mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
        helper.make_node("Mul", ["found", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["logits"], keepdims=0),
    ]
    table = np.random.default_rng(0).standard_normal((tokenizer.vocabulary, 2)).astype(np.float32)
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.array([1]), "middle"),
    ]
    graph = helper.make_graph(nodes, "texts", [ids, mask], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    told = {"kind": "text", "tokenizer": "tokenizer.json", "tokenizer_sha256": tokenizer.sha256}
    told |= {"vocabulary": tokenizer.vocabulary, "length": length, "truncate": False}
    facts = {
        "edgekit.task": "classification",
        "edgekit.family": "bert",
        "edgekit.classes": '["kind", "mean"]',
        "edgekit.preprocessing": json.dumps(told),
        "edgekit.vocabulary": str(tokenizer.vocabulary),
        "edgekit.tokenizer": tokenizer.sha256,
    }
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, directory / name)
    return directory / name


def write_texts(path: Path) -> str:
    """Write labelled texts; gives the data as a command takes it."""
    rows = [f"{text} {i},{'mean' if 'mean' in text or 'bad' in text else 'kind'}" for i in range(8) for text in TEXTS]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return f"{{file: {path}, text: text, label: label, tokenizer: wordpiece, vocabulary: 60, length: 12}}"
