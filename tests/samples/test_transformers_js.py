"""samples/transformers-js: a bundle of texts that transformers.js opens with its own tokeniser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from edgekit.bundle import Candidate, PackOptions, pack_bundle
from edgekit.compress.quantize.dynamic import DynamicConfig, quantize_dynamic
from edgekit.compress.technique import OnnxStep
from edgekit.data import ImagePreprocessing
from edgekit.export import export_source
from edgekit.runtime import load
from tests.load.language_models import save_model
from tests.samples.conftest import SAMPLES, Program, need_node, run

_TEXTS = ("a b word3", "c d e word7", "f", "word1 word2 g h", "i j", "k word5", "l m n", "word9")


@pytest.fixture(scope="module")
def program() -> Program:
    node = need_node("transformers-js")
    return lambda *args: run(node, SAMPLES / "transformers-js/predict.mjs", *args)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer as it is and in dynamic int8."""
    place = tmp_path_factory.mktemp("bert")
    export_source(save_model("bert-classes", place), place / "base/model.onnx")
    shutil.copytree(place / "base", place / "int8", ignore=shutil.ignore_patterns("*.onnx"))
    quantize_dynamic(DynamicConfig(), OnnxStep(place / "base/model.onnx", place / "int8/model.onnx", None))
    rows = "".join(
        f"{text} {letter},{'ham' if letter in 'abcd' else 'spam'}\n" for letter in "abcdefgh" for text in _TEXTS
    )
    (place / "texts.csv").write_text(f"text,label\n{rows}")
    data = f"{{file: {place / 'texts.csv'}, text: text, label: label, length: 16}}"
    models = [Candidate(name, place / name / "model.onnx") for name in ("base", "int8")]
    return pack_bundle(models, place / "bundle", PackOptions(data=data, samples=3, layout="transformers.js")).path


def test_golden(program: Program, bundle: Path) -> None:
    """Both precisions, from stored ids and from texts through the other tokeniser."""
    said = program(bundle, "--golden", "--json")
    assert said.code == 0, said.out + said.err
    rows = json.loads(said.out)
    starts = [f"{variant} {start} {i}" for variant in ("base", "int8") for i in range(3) for start in ("input", "text")]
    assert [row["name"] for row in rows] == starts
    assert all(row["ok"] for row in rows)


def test_a_text_is_answered_as_in_python(program: Program, bundle: Path) -> None:
    said = program(bundle, "a b c", "--json", "--variant", "base")
    assert said.code == 0, said.err
    told = {row["label"]: row["score"] for row in json.loads(said.out)[0]["answer"]}
    with load(bundle, variant="base") as model:
        wanted = {c.label: c.score for c in model.predict("a b c").top}
    assert told == pytest.approx(wanted, abs=1e-5)


def _change(bundle: Path) -> None:
    tokenizer = bundle / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("word1", "word0"))


_BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (_change, "tokenizer.json is not the file that was packed"),
    "no manifest": (lambda bundle: (bundle / "manifest.json").unlink(), "manifest.json"),
}


@pytest.mark.parametrize("case", _BAD)
def test_a_bad_bundle_is_one_line(program: Program, bundle: Path, tmp_path: Path, case: str) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    spoil, words = _BAD[case]
    spoil(copy)
    said = program(copy, "a b c")
    assert said.code == 1, said.out + said.err
    assert said.err.startswith("error: ")
    assert words in said.err
    assert said.err.count("\n") == 1


def test_another_layout_is_refused(program: Program, digits_bundle: Path) -> None:
    said = program(digits_bundle, "--golden")
    assert said.code == 1
    assert "lies in models/int8/model.onnx; pack the bundle with --layout transformers.js" in said.err


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of colour pictures with 4 classes, the likeliest of which is the brightest of 3 channels, or none."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    place = tmp_path_factory.mktemp("pictures")
    ends = [("image", ["batch", 3, 8, 8]), ("logits", ["batch", 4])]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends]
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    weight = numpy_helper.from_array(np.eye(3, 4, dtype=np.float32), "weight")
    graph = helper.make_graph(nodes, "colours", tensors[:1], tensors[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    prepare = ImagePreprocessing(8, 8, 3, 1 / 255, (0.5,) * 3, (0.25,) * 3, (8, 8))
    told = {
        "edgekit.task": "classification",
        "edgekit.classes": json.dumps(["red", "green", "blue", "black"]),
        "edgekit.preprocessing": json.dumps(prepare.as_dict()),
    }
    helper.set_model_props(model, told)
    onnx.save(model, place / "model.onnx")
    given = [Candidate("base", place / "model.onnx")]
    return pack_bundle(given, place / "bundle", PackOptions(layout="transformers.js")).path


def test_a_picture_is_answered_as_in_python(program: Program, pictures: Path, tmp_path: Path) -> None:
    said = program(pictures, "--golden")
    assert said.code == 0, said.out + said.err
    Image.new("RGB", (8, 8), (40, 60, 230)).save(tmp_path / "blue.png")
    Image.new("RGB", (30, 20), (240, 90, 10)).save(tmp_path / "red.png")
    said = program(pictures, tmp_path / "blue.png", tmp_path / "red.png", "--json", "--top", 4)
    assert said.code == 0, said.err
    with load(pictures) as model:
        for answer, picture in zip(json.loads(said.out), ("blue", "red"), strict=True):
            assert answer["answer"][0]["label"] == picture
            told = {row["label"]: row["score"] for row in answer["answer"]}
            wanted = {c.label: c.score for c in model.predict(tmp_path / f"{picture}.png").top}
            assert told == pytest.approx(wanted, abs=1e-5)
    said = program(pictures, "gone.png")
    assert (said.code, said.err) == (1, "error: gone.png is not there; this bundle wants pictures\n")
