from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from edgekit.errors import BundleError
from edgekit.runtime import read_manifest
from edgekit.specs import TensorSpec
from tests.runtime.bundles import IMAGE, manifest, variant

FILES = {"models/base/model.onnx": {"sha256": "0" * 64, "bytes": 5}}
WHOLE = {**manifest([variant(metric={"name": "top1", "value": 1.0})], preprocessing=IMAGE), "files": FILES}


def content(told: Any) -> bytes:
    return json.dumps(told).encode()


def test_a_manifest_is_read_whole() -> None:
    found = read_manifest(content(WHOLE))
    assert (found.name, found.task, found.classes[:2]) == ("tiny", "classification", ("0", "1"))
    assert found.inputs == (TensorSpec("image", "float32", ("batch", 1, 8, 8)),)
    assert found.variants[0].providers == ("CPUExecutionProvider",)
    assert found.variants[0].session.intra_op_threads == 1
    assert found.variants[0].folder == "models/base/"
    assert found.variants[0].metric == {"name": "top1", "value": 1.0}
    assert found.files["models/base/model.onnx"].size_bytes == 5
    assert found.preprocessing == IMAGE


@pytest.mark.parametrize(
    "key", ["schema_version", "edgekit", "name", "version", "created", "task", "inputs", "outputs", "variants", "files"]
)
def test_what_is_missing_is_named(key: str) -> None:
    told = {k: v for k, v in WHOLE.items() if k != key}
    with pytest.raises(BundleError, match=f"^manifest.json: {key} is missing; the bundle is damaged"):
        read_manifest(content(told))


def changed(change: Callable[[Any], object]) -> bytes:
    told = copy.deepcopy(WHOLE)
    change(told)
    return content(told)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda m: m.update(schema_version=2),
            "has schema version 2, written by edgekit 0.1.0; this edgekit reads 1: install",
        ),
        (lambda m: m.update(schema_version="1"), "schema_version must be a whole number, got '1'"),
        (lambda m: m.update(schema_version=True), "schema_version must be a whole number, got True"),
        (lambda m: m.update(schema_version=0), "schema_version must be 1 or more, got 0"),
        (lambda m: m.update(name=7), "name must be text, got 7"),
        (lambda m: m.update(classes="abc"), "classes must be a list, got 'abc'"),
        (lambda m: m.update(classes=["a", 1]), r"classes\[1\] must be text, got 1"),
        (lambda m: m.update(variants=[]), "variants is empty"),
        (lambda m: m.update(variants=[1]), r"variants\[0\] must be an object, got 1"),
        (lambda m: m["variants"].append(m["variants"][0]), "variants has 'base' twice"),
        (lambda m: m["inputs"].append(m["inputs"][0]), "inputs has 'image' twice"),
        (lambda m: m["variants"][0].pop("providers"), r"variants\[0\].providers is missing"),
        (lambda m: m["variants"][0].update(file="a"), r"variants\[0\].file names 'a', which `files` does not list"),
        (lambda m: m["variants"][0].update(format="tf"), r"variants\[0\].format must be one of onnx, ort, got 'tf'"),
        (
            lambda m: m["variants"][0]["session"].update(config={"a": "1"}),
            r"session.config.a is none that a bundle may",
        ),
        (
            lambda m: m["variants"][0]["session"].update(config={"session.disable_prepacking": 1}),
            r"session.config.session.disable_prepacking must be text, got 1",
        ),
        (
            lambda m: m["variants"][0]["session"].update(config={"session.dynamic_block_base": "x" * 3000}),
            r"session.config.session.dynamic_block_base must be digits, got 'xxx",
        ),
        (
            lambda m: m["variants"][0]["session"].update(intra_op_threads=10**20),
            "intra_op_threads must be 1024 or less",
        ),
        (lambda m: m["variants"][0].update(providers=[]), r"variants\[0\].providers is empty"),
        (
            lambda m: m["variants"][0].update(providers=["CPUExecutionProvider"] * 2),
            r"variants\[0\].providers has 'CPUExecutionProvider' twice",
        ),
        (lambda m: m.update(name="a\nb"), r"name must be one line, got 'a\\nb'"),
        (lambda m: m.update(name="\x1b[2J"), r"'\\x1b\[2J' holds a control character"),
        (lambda m: m["classes"].append("\ud800"), r"'\\ud800' holds a control character, or half a character"),
        (lambda m: m.update(license="\u202eevil"), r"'\\u202eevil' holds a control character"),
        (lambda m: m.update(classes=["a", "b"]), r"postprocessing.output names logits.*, and `classes` has 2 names"),
        (lambda m: m["inputs"][0].update(vocabulary="x"), r"inputs\[0\].vocabulary must be a whole number, got 'x'"),
        (
            lambda m: m["preprocessing"].update(resize=[60000, 60000]),
            r"preprocessing.height or `resize` is more than 67,108,864 pixels",
        ),
        (
            lambda m: m["postprocessing"].update(kind="image", mean=[0.0], std=[1.0]),
            r"postprocessing.output names logits.*, which must have 4 dimensions",
        ),
        (
            lambda m: m["postprocessing"].update(kind="regression", mean=[0.0, 1.0], std=1.0),
            r"postprocessing.mean must be a number, or one for each of logits",
        ),
        (
            lambda m: m["outputs"][0].update(dtype="object"),
            r"output names logits.*, which must hold numbers",
        ),
        (lambda m: m["outputs"][0].update(shape=["n"]), r"postprocessing.output names logits.*, which must have 2 dim"),
        (lambda m: m["inputs"][0].update(dtype="f"), r"inputs\[0\].dtype must be one of float16"),
        (
            lambda m: m["inputs"][0].update(shape=[0]),
            r"inputs\[0\].shape\[0\] must be a name or a whole number above 0",
        ),
        (lambda m: m["preprocessing"].update(input="x"), "preprocessing.input names 'x', and the models have image"),
        (lambda m: m["preprocessing"].update(height=9), "gives 1x9x8, and the models take image: float32 batchx1x8x8"),
        (lambda m: m["preprocessing"].update(height=10**9), "must be a whole number of pixels up to 65,536"),
        (lambda m: m["preprocessing"].update(std=[0]), "preprocessing.std must not hold 0"),
        (lambda m: m["preprocessing"].update(mean=[1, 2]), "must have a number for each channel, got 2 and 1"),
        (
            lambda m: m["preprocessing"].update(resize=[[1]]),
            r"preprocessing.resize\[0\] must be a whole number of pixels",
        ),
        (lambda m: m["preprocessing"].update(resample="x"), "preprocessing.resample must be one of nearest"),
        (lambda m: m["preprocessing"].update(channels=2), "preprocessing.channels must be 1 or 3"),
        (
            lambda m: m["postprocessing"].update(output="x"),
            "postprocessing.output names 'x', and the models have logits",
        ),
        (lambda m: m["inputs"][0].update(shape=[2**31]), r"shape\[0\] must be a name or a whole number above 0"),
        (lambda m: m["preprocessing"].update(kind="x"), "preprocessing.kind must be one of image, text, series, pairs"),
        (lambda m: m["postprocessing"].update(kind="x"), "postprocessing.kind must be one of softmax"),
        (lambda m: m["files"].update({"../a": FILES["models/base/model.onnx"]}), "'../a' leads out of the bundle"),
        (lambda m: m["files"]["models/base/model.onnx"].update(sha256="0"), "sha256 must be 64 hexadecimal digits"),
        (lambda m: m["files"]["models/base/model.onnx"].update(bytes=-1), "bytes must be 0 or more, got -1"),
        (lambda m: m["files"]["models/base/model.onnx"].update(bytes=1.5), "bytes must be a whole number, got 1.5"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(change: Callable[[Any], object], said: str) -> None:
    with pytest.raises(BundleError, match=said) as caught:
        read_manifest(changed(change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is no JSON"),
        (b"\xff{}", "is no JSON"),
        (b'{"a": 1, "a": 2}', "a key is there twice"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": [1e999]}', "1e999 is too large a number"),
        (b'{"a": {"\\u0007": 1}}', r"'\\x07' holds a control character"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", r"its content must be an object, got \[\]"),
    ],
)
def test_what_is_no_manifest_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        read_manifest(raw)


def test_unknown_keys_are_no_mistake() -> None:
    assert read_manifest(changed(lambda m: m.update(later={"a": 1}))).name == "tiny"
