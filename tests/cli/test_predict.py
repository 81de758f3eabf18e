"""edgekit predict as a person types it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgekit.runtime import load
from edgekit.runtime.guard import guard_statistics
from tests.conftest import Answer, dense
from tests.runtime.bundles import IMAGE, manifest, variant, write_bundle, zipped

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 17, (8, 8), dtype=np.uint8)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PIXELS).save("p.png")
    Path("text.png").write_text("text")
    place = write_bundle(tmp_path / "b", manifest([variant("int8")], preprocessing=IMAGE))
    return zipped(place, Path("b.zip"))


def test_a_table_and_a_document(cli: Callable[..., Answer], bundle: Path) -> None:
    answer = cli("predict", bundle, "p.png")
    wanted = load(bundle).predict(PIXELS)
    assert (answer.code, answer.err) == (0, "")
    assert "tiny: int8 on cpu" in answer.out
    assert f"{wanted.label} {wanted.score:.1%}, " in answer.out
    told = cli("predict", bundle, "p.png", "--top", "2", "--json").json()
    (one,) = told.pop("predictions")
    assert told == {"bundle": "b.zip", "name": "tiny", "version": "1", "variant": "int8", "provider": "cpu"}
    assert (one["input"], one["label"], one["score"]) == ("p.png", wanted.label, wanted.score)
    assert [c["label"] for c in one["top"]] == [c.label for c in wanted.top[:2]]


def test_one_wrong_input_has_its_line_and_the_others_their_answers(cli: Callable[..., Answer], bundle: Path) -> None:
    answer = cli("predict", bundle, "text.png", "p.png", "--json")
    assert answer.code == 1
    first, second = answer.json()["predictions"]
    assert first["error"].startswith("text.png is no picture that can be read")
    assert "label" in second
    (line,) = answer.err.splitlines()
    assert line == f"error: {first['error']}"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("gone.zip", "p.png"), 1, "error: bundle gone.zip is not there; name a directory or a .zip"),
        (("p.png", "p.png"), 1, "error: p.png is no whole zip file"),
        (
            ("b.zip", "p.png", "--provider", "cuda"),
            3,
            "error: bundle tiny has no variant for provider 'cuda'; it has int8",
        ),
        (("b.zip", "p.png", "--variant", "int9"), 1, "error: unknown variant 'int9'; did you mean 'int8'?"),
        (("b.zip", "gone.png"), 1, "error: gone.png is not there"),
        (("b.zip",), 2, "Missing argument"),
        (("b.zip", "p.png", "--guard", "no"), 2, "Invalid value"),
    ],
)
def test_what_is_wrong_is_one_line(
    cli: Callable[..., Answer], bundle: Path, args: tuple[str, ...], code: int, said: str
) -> None:
    answer = cli("predict", *args)
    assert answer.code == code
    assert said in answer.err


def test_a_bundle_for_something_newer_says_what_to_install(
    cli: Callable[..., Answer], bundle: Path, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "runtime", manifest([variant(minimum_onnxruntime="99.1")], preprocessing=IMAGE))
    answer = cli("predict", "runtime", "p.png")
    assert answer.code == 3
    assert "base on cpu: it needs ONNX Runtime 99.1 or newer, and 1." in answer.err
    write_bundle(tmp_path / "schema", manifest(schema_version=7))
    answer = cli("predict", "schema", "p.png")
    assert answer.code == 1
    assert "has schema version 7, written by edgekit 0.1.0; this edgekit reads 1: install a newer one" in answer.err


def test_unusual_inputs_are_told_or_refused(cli: Callable[..., Answer], bundle: Path, tmp_path: Path) -> None:
    seen = np.zeros((30, 1, 8, 8), np.float32) + np.arange(30).reshape(-1, 1, 1, 1).astype(np.float32)
    write_bundle(tmp_path / "guarded", manifest(preprocessing=IMAGE, guard=guard_statistics({"image": seen})))
    warned = cli("predict", "guarded", "p.png")
    assert warned.code == 0
    assert warned.err.startswith("warning: p.png: input 'image' ")
    assert cli("predict", "guarded", "p.png", "--guard", "off").err == ""
    refused = cli("predict", "guarded", "p.png", "--guard", "error")
    assert refused.code == 1
    assert "load with guard='warn'" in refused.err


def test_pictures_that_a_model_makes_are_written(cli: Callable[..., Answer], bundle: Path, tmp_path: Path) -> None:
    """The linear model's input taken for a picture: identity weights."""
    finishing = {"kind": "image", "output": "logits", "scale": 1 / 255, "mean": [0.5], "std": [0.5]}
    told = manifest(
        classes=[],
        outputs=[{"name": "logits", "dtype": "float32", "shape": ["batch", 1, 2, 5]}],
        postprocessing=finishing,
    )
    proto = dense(np.eye(64, 10, dtype=np.float32))
    proto.graph.node[1].output[0] = "flat_logits"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([-1, 1, 2, 5]), "shape"))
    proto.graph.node.append(helper.make_node("Reshape", ["flat_logits", "shape"], ["logits"]))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, 2, 5]))
    write_bundle(tmp_path / "maker", told, {"models/base/model.onnx": proto.SerializeToString()})
    x = np.zeros((1, 1, 8, 8), np.float32)
    x.reshape(-1)[:10] = np.linspace(-1.2, 1, 10)
    np.save(tmp_path / "x.npy", x)
    answer = cli("predict", "maker", "x.npy", "--out", "made")
    assert answer.code == 0, answer.err
    wanted = np.rint(np.clip((np.linspace(-1.2, 1, 10) * 0.5 + 0.5) * 255, 0, 255)).reshape(2, 5)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "made/0.png")), wanted)
    refused = cli("predict", bundle, "p.png", "--out", "made")
    assert (refused.code, refused.err) == (1, "error: --out is for pictures, and the model makes none; leave it out\n")


def test_a_name_that_no_encoding_holds_is_told(process: Callable[..., Answer], bundle: Path) -> None:
    content = Path("p.png").read_bytes()
    Path("\udcff.png").write_bytes(content)
    answer = process("predict", bundle, os.fsencode("\udcff.png"), "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.json()["predictions"][0]["input"] == "\udcff.png"
    table = process("predict", bundle, os.fsencode("\udcff.png"))
    assert (table.code, "\\udcff.png" in table.out) == (0, True)


def test_the_line_of_a_wrong_row_names_its_file(cli: Callable[..., Answer], bundle: Path) -> None:
    np.savez("a.npz", image=np.zeros((2, 1, 8, 8)))
    lines = cli("predict", bundle, "a.npz").err.splitlines()
    assert [line.split(" has dtype")[0] for line in lines] == [f"error: a.npz[{i}]: input 'image'" for i in (0, 1)]
