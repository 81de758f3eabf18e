from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from edgekit.bundle import Candidate, PackOptions, pack_bundle
from edgekit.errors import BundleError, DataError, ModelError, OutputError
from tests.conftest import dense


@pytest.fixture
def manifest(packed: Path) -> dict[str, Any]:
    return dict(json.loads((packed / "manifest.json").read_text()))


def read_tensor(bundle: Path, entry: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.fromfile(bundle / entry["file"], entry["dtype"]).reshape(entry["shape"])


def test_every_file_is_listed_with_its_hash(packed: Path, manifest: dict[str, Any]) -> None:
    there = {p.relative_to(packed).as_posix() for p in packed.rglob("*") if p.is_file()}
    assert there - {"manifest.json"} == set(manifest["files"])
    for name, entry in manifest["files"].items():
        content = (packed / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def test_the_manifest_says_what_goes_in_and_comes_out(manifest: dict[str, Any]) -> None:
    assert manifest["schema_version"] == 1
    assert (manifest["name"], manifest["task"], manifest["family"]) == ("digits", "classification", "cnn")
    assert manifest["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}]
    assert [o["name"] for o in manifest["outputs"]] == ["logits"]
    assert manifest["classes"] == list("0123456789")
    assert manifest["postprocessing"] == {"kind": "softmax", "output": "logits"}
    assert [v["name"] for v in manifest["variants"]] == ["small", "base"]
    small, base = manifest["variants"]
    assert (small["precision"], base["precision"]) == ("int8 weights", "float32")
    assert base["providers"] == ["CPUExecutionProvider", "CUDAExecutionProvider"]
    assert (base["opsets"], base["ir_version"], base["minimum_onnxruntime"]) == ({"ai.onnx": 18}, 10, "1.18")


def test_pictures_have_white_at_255_and_give_the_golden_inputs(packed: Path, manifest: dict[str, Any]) -> None:
    entry = manifest["preprocessing"]
    assert (entry["scale"], entry["resize"], entry["input"]) == (1 / 255, [8, 8], "image")
    samples = manifest["golden"]["samples"]
    assert len(samples) == 3
    for sample in samples:
        pixels = np.asarray(Image.open(packed / sample["raw"])).astype(np.float32)
        assert pixels.max() > 230
        prepared = (pixels * np.float32(entry["scale"]) - np.float32(0.3053)) / np.float32(0.376)
        assert np.array_equal(read_tensor(packed, sample["inputs"]["image"])[0, 0], prepared)


def test_golden_answers_are_those_of_plain_onnx_runtime(packed: Path, manifest: dict[str, Any]) -> None:
    golden = manifest["golden"]
    for variant in manifest["variants"]:
        session = onnxruntime.InferenceSession(packed / variant["file"])
        tolerance = golden["tolerance"][variant["name"]]
        assert 0 < tolerance["absolute"] < 0.5
        assert tolerance["relative"] == 0.00098
        for sample, outputs in zip(golden["samples"], golden["outputs"][variant["name"]], strict=True):
            (logits,) = session.run(None, {"image": read_tensor(packed, sample["inputs"]["image"])})
            want = read_tensor(packed, outputs["logits"])
            assert np.all(np.abs(logits - want) <= tolerance["absolute"] + tolerance["relative"] * np.abs(want))


def test_golden_samples_are_of_different_classes(packed: Path, manifest: dict[str, Any]) -> None:
    firsts = [read_tensor(packed, o["logits"]).argmax() for o in manifest["golden"]["outputs"]["base"]]
    assert len(set(firsts)) == 3


def test_the_guard_has_the_range_of_calibration_data(manifest: dict[str, Any]) -> None:
    from edgekit.data.digits import load

    seen = load().splits["calibration"].arrays["image"]
    assert manifest["guard"]["inputs"] == {"image": {"low": float(seen.min()), "high": float(seen.max())}}


def test_the_cards_say_how_it_is_used_and_what_it_is(packed: Path) -> None:
    readme, card = ((packed / name).read_text() for name in ("README.md", "MODEL_CARD.md"))
    assert 'model.predict("picture.png")' in readme
    assert "(pixel * 0.00392156862745098 - mean) / std" in readme
    assert card.startswith('---\nlicense: "mit"\n')
    assert "Reads digits." in card
    assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in card


def test_a_zip_is_the_same_tree_and_the_same_bytes_again(
    variants: tuple[Candidate, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first, second = tmp_path / "a" / "digits.zip", tmp_path / "b" / "digits.zip"
    for place in (first, second):
        pack_bundle(variants[:1], place, PackOptions(data="digits", samples=1))
    assert first.read_bytes() == second.read_bytes()
    assert [p.name for p in first.parent.iterdir()] == ["digits.zip"]
    with zipfile.ZipFile(first) as packed:
        names = packed.namelist()
        assert names[-1] == "manifest.json"
        assert json.loads(packed.read("manifest.json"))["created"] == "2023-11-14T22:13:20Z"
        Image.open(io.BytesIO(packed.read("golden/0.raw.png"))).verify()


def test_without_data_samples_are_made_up(dense_onnx: Path, tmp_path: Path) -> None:
    pack_bundle([Candidate("only", dense_onnx)], tmp_path / "B")
    manifest = json.loads((tmp_path / "B" / "manifest.json").read_text())
    assert manifest["preprocessing"] is None
    assert manifest["postprocessing"] == {"kind": "none", "output": "logits"}
    assert manifest["guard"] == {"inputs": {}, "score": None, "energy": None, "tokens": None}
    assert len(manifest["golden"]["samples"]) == 1
    assert "no data was given" in (tmp_path / "B" / "README.md").read_text()


def test_external_data_comes_along(tmp_path: Path) -> None:
    model = dense(np.random.default_rng(0).standard_normal((64, 10)))
    (tmp_path / "m").mkdir()
    onnx.save(model, tmp_path / "m" / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    pack_bundle([Candidate("ext", tmp_path / "m" / "m.onnx")], tmp_path / "B")
    assert (tmp_path / "B" / "models" / "ext" / "w.bin").stat().st_size == 2560
    assert "models/ext/w.bin" in json.loads((tmp_path / "B" / "manifest.json").read_text())["files"]


def test_external_data_outside_is_refused(tmp_path: Path) -> None:
    model = dense(np.ones((64, 10)))
    (tmp_path / "m").mkdir()
    onnx.save(model, tmp_path / "m" / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    proto = onnx.load(tmp_path / "m" / "m.onnx", load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../w.bin"
    (tmp_path / "m" / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="points outside its directory"):
        pack_bundle([Candidate("ext", tmp_path / "m" / "m.onnx")], tmp_path / "B")
    assert not (tmp_path / "B").exists()


def test_models_that_take_other_inputs_are_refused(variants: tuple[Candidate, ...], tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(dense(np.ones((64, 10)), name="pixels"), other)
    with pytest.raises(BundleError, match=r"'small' and 'other' have different inputs: image.* and pixels"):
        pack_bundle([variants[0], Candidate("other", other)], tmp_path / "B")


def test_models_that_give_other_outputs_are_refused(variants: tuple[Candidate, ...], tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(dense(np.ones((64, 3))), other)
    with pytest.raises(BundleError, match="have different outputs"):
        pack_bundle([variants[0], Candidate("other", other)], tmp_path / "B")


def test_a_name_twice_and_a_name_that_is_none_are_refused(variants: tuple[Candidate, ...], tmp_path: Path) -> None:
    one = variants[0].path
    with pytest.raises(BundleError, match="variant 'a' comes twice"):
        pack_bundle([Candidate("a", one), Candidate("a", one)], tmp_path / "B")
    with pytest.raises(BundleError, match=r"cannot be called '../x'; .* --variant x=PATH"):
        pack_bundle([Candidate("../x", one)], tmp_path / "B")
    with pytest.raises(BundleError, match="no model to pack"):
        pack_bundle([], tmp_path / "B")


def test_what_is_no_bundle_is_not_replaced(variants: tuple[Candidate, ...], tmp_path: Path) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    (place / "thesis.txt").write_text("mine")
    zipped = tmp_path / "mine.zip"
    with zipfile.ZipFile(zipped, "w") as packed:
        packed.writestr("thesis.txt", "mine")
    for out in (place, zipped):
        with pytest.raises(OutputError, match="it is there and is no bundle"):
            pack_bundle(variants[:1], out)
    assert [p.name for p in place.iterdir()] == ["thesis.txt"]


def test_a_bundle_is_replaced_as_a_whole(bundle: Path, dense_onnx: Path) -> None:
    (bundle / "left-over").write_text("old")
    pack_bundle([Candidate("only", dense_onnx)], bundle)
    assert not (bundle / "left-over").exists()
    assert [p.name for p in (bundle / "models").iterdir()] == ["only"]
    assert {p.name for p in bundle.parent.iterdir()} == {bundle.name, dense_onnx.name}


def test_a_full_disk_leaves_nothing(
    bundle: Path, dense_onnx: Path, monkeypatch: pytest.MonkeyPatch, tree: Callable[[Path], dict[str, str]]
) -> None:
    import errno

    from edgekit.bundle import write

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    before = tree(bundle.parent)
    monkeypatch.setattr(write.shutil, "copyfile", full)
    for out in (bundle, bundle.parent / "new.zip"):
        with pytest.raises(OutputError, match="the disk is full"):
            pack_bundle([Candidate("only", dense_onnx)], out)
    assert tree(bundle.parent) == before


def test_a_model_that_answers_with_nan_is_refused(tmp_path: Path) -> None:
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    nodes = [helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node("Div", ["z", "z"], ["y"])]
    graph = helper.make_graph(nodes, "nan", [source], [target])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "nan.onnx")
    with pytest.raises(BundleError, match="'nan' answers golden sample 0 with NaN in output 'y'"):
        pack_bundle([Candidate("nan", tmp_path / "nan.onnx")], tmp_path / "B")


def test_data_that_does_not_fit_is_refused(dense_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not fit"):
        pack_bundle([Candidate("only", dense_onnx)], tmp_path / "B", PackOptions(data="diabetes"))


def test_a_wrong_source_date_is_refused(dense_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(BundleError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        pack_bundle([Candidate("only", dense_onnx)], tmp_path / "B")


def test_the_runtime_goes_in_as_one_file(dense_onnx: Path, tmp_path: Path) -> None:
    pack_bundle([Candidate("only", dense_onnx)], tmp_path / "B", PackOptions(loader=True))
    text = (tmp_path / "B" / "loader.py").read_text()
    compile(text, "loader.py", "exec")
    assert "loader.py" in json.loads((tmp_path / "B" / "manifest.json").read_text())["files"]


@pytest.mark.parametrize(("target", "features"), [("cpu", ["vnni"]), ("cpu-no-vnni", []), ("arm", [])])
def test_int8_sums_need_a_cpu_that_does_not_saturate_them(
    pico_onnx: Path, tmp_path: Path, target: str, features: list[str]
) -> None:
    from edgekit.compress import OnnxStep
    from edgekit.compress.quantize.static import StaticConfig, quantize_static
    from edgekit.data import digits

    data = digits.load().splits["calibration"].take(16)
    quantize_static(StaticConfig(), OnnxStep(pico_onnx, tmp_path / "int8.onnx", data))
    bundle = tmp_path / "b"
    pack_bundle([Candidate("int8", tmp_path / "int8.onnx", target=target)], bundle, PackOptions(data="digits"))
    (variant,) = json.loads((bundle / "manifest.json").read_text())["variants"]
    assert (variant["precision"], variant["cpu_features"]) == ("int8", features)
