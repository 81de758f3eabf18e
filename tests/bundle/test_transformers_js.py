from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.bundle import Candidate, PackOptions, pack_bundle, verify_bundle
from edgekit.errors import BundleError
from edgekit.runtime import load
from tests.bundle.texts import write_text_model, write_texts
from tests.conftest import Answer


@pytest.fixture
def text_model(tmp_path: Path) -> Path:
    return write_text_model(tmp_path / "m")


def told(bundle: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((bundle / name).read_text()))


def test_files_lie_where_transformers_js_looks(text_model: Path, tmp_path: Path, cli: Callable[..., Answer]) -> None:
    data = write_texts(tmp_path / "texts.csv")
    out = tmp_path / "B"
    answer = cli("pack", text_model, "--layout", "transformers.js", "--data", data, "--out", out)
    assert answer.code == 0, answer.err
    for name in ("onnx/model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (out / name).is_file()
    assert not (out / "preprocessing").exists()
    assert told(out, "config.json") == {
        "model_type": "bert",
        "id2label": {"0": "kind", "1": "mean"},
        "label2id": {"kind": 0, "mean": 1},
    }
    assert told(out, "tokenizer_config.json")["model_max_length"] == 12
    manifest = told(out, "manifest.json")
    assert [i["name"] for i in manifest["inputs"]] == ["input_ids", "attention_mask"]
    assert manifest["preprocessing"]["tokenizer"] == "tokenizer.json"
    assert not verify_bundle(out).faults


def test_the_runtime_reads_such_a_bundle(text_model: Path, tmp_path: Path) -> None:
    data = write_texts(tmp_path / "texts.csv")
    plain, other = tmp_path / "plain", tmp_path / "other"
    pack_bundle([Candidate("base", text_model)], plain, PackOptions(data=data))
    pack_bundle([Candidate("base", text_model)], other, PackOptions(data=data, layout="transformers.js"))
    with load(plain) as first, load(other) as second:
        one, two = first.predict("so kind"), second.predict("so kind")
    assert np.array_equal(one.outputs["logits"], two.outputs["logits"])
    assert (plain / "golden" / "0.raw.txt").read_text() == (other / "golden" / "0.raw.txt").read_text()


def test_a_config_beside_the_model_is_taken_along(text_model: Path, tmp_path: Path) -> None:
    config = {"model_type": "distilbert", "id2label": {"0": "a", "1": "b"}}
    (text_model.parent / "config.json").write_text(json.dumps(config))
    pack_bundle([Candidate("base", text_model)], tmp_path / "B", PackOptions(layout="transformers.js"))
    assert told(tmp_path / "B", "config.json") == config


def test_precisions_have_their_names(variants: tuple[Candidate, ...], tmp_path: Path) -> None:
    small, base = variants
    coloured = tmp_path / "coloured.onnx"
    onnx.save(_coloured(), coloured)
    pack_bundle([Candidate("c", coloured)], tmp_path / "B", PackOptions(layout="transformers.js"))
    assert [p.name for p in (tmp_path / "B" / "onnx").iterdir()] == ["model.onnx"]
    assert told(tmp_path / "B", "config.json")["model_type"] == "resnet"
    assert told(tmp_path / "B", "manifest.json")["inputs"][0]["name"] == "pixel_values"
    processor = told(tmp_path / "B", "preprocessor_config.json")
    assert (processor["rescale_factor"], processor["image_mean"]) == (1 / 255, [0.5, 0.5, 0.5])
    assert processor["size"] == {"height": 4, "width": 4}
    with pytest.raises(BundleError, match="gives models colour pictures only, and this one takes grey"):
        pack_bundle([small, base], tmp_path / "C", PackOptions(layout="transformers.js"))


def test_two_of_one_precision_are_refused(text_model: Path, tmp_path: Path) -> None:
    twice = [Candidate("a", text_model), Candidate("b", text_model)]
    with pytest.raises(BundleError, match=r"'b' \(float32\) has no name left .* onnx/model\.onnx is another variant"):
        pack_bundle(twice, tmp_path / "B", PackOptions(layout="transformers.js"))


def test_what_it_cannot_run_is_refused(text_model: Path, tmp_path: Path) -> None:
    model = onnx.load(text_model)
    for change, reason in (
        (("edgekit.task", "regression"), "not regression; leave --layout out"),
        (("edgekit.family", "lstm"), r"needs the config\.json of Hugging Face beside it"),
    ):
        other = onnx.ModelProto()
        other.CopyFrom(model)
        for entry in other.metadata_props:
            entry.value = change[1] if entry.key == change[0] else entry.value
        onnx.save(other, text_model)
        with pytest.raises(BundleError, match=reason):
            pack_bundle([Candidate("a", text_model)], tmp_path / "B", PackOptions(layout="transformers.js"))
    assert not (tmp_path / "B").exists()


def _coloured() -> onnx.ModelProto:
    """Pictures (batch, 3, 4, 4) -> their mean (batch, 3), as logits."""
    source = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 4, 4])
    target = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Mul", ["flat", "factor"], ["logits"]),
    ]
    factor = helper.make_tensor("factor", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    graph = helper.make_graph(nodes, "coloured", [source], [target], [factor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    numbers = {"height": 4, "width": 4, "channels": 3, "scale": 1 / 255, "mean": [0.5] * 3, "std": [0.5] * 3}
    model.metadata_props.add(key="edgekit.preprocessing", value=json.dumps({"kind": "image", **numbers}))
    model.metadata_props.add(key="edgekit.task", value="classification")
    return model
