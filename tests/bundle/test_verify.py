from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.bundle import Check, verify_bundle
from edgekit.bundle import verify as module
from edgekit.bundle.check import _checked, _text, within
from edgekit.bundle.expected import Tolerance
from edgekit.bundle.write import pack_tree
from edgekit.errors import BundleError, EdgekitError, ModelError
from tests.conftest import Answer, dense


@pytest.fixture
def unrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are not run: what is tested is found before."""
    monkeypatch.setattr(module, "_variant", lambda *args: Check("variant", True, "not run in this test"))


def faults_of(bundle: Path) -> list[str]:
    return [c.detail for c in verify_bundle(bundle).faults]


def rewrite(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest as somebody who makes it fit again would."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    for name in list(manifest["files"]):
        content = (bundle / name).read_bytes()
        manifest["files"][name] = {"sha256": sha256(content).hexdigest(), "bytes": len(content)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def zipped(bundle: Path) -> Path:
    out = bundle.with_suffix(".zip")
    pack_tree(bundle, out)
    return out


def test_a_whole_bundle_passes(packed: Path, cli: Callable[..., Answer]) -> None:
    answer = cli("verify", packed, "--json")
    assert answer.code == 0, answer.err
    content = answer.json()
    assert content["ok"] is True
    found = {c["what"]: c for c in content["checks"]}
    assert list(found) == ["structure", "files", "signature", "variant small", "variant base"]
    assert found["signature"]["passed"] is None
    assert "3 golden answers" in found["variant small"]["detail"]
    assert "3 raw samples become the golden inputs" in found["variant small"]["detail"]


def test_a_zip_passes_too(bundle: Path) -> None:
    assert not faults_of(zipped(bundle))


@pytest.mark.usefixtures("unrun")
def test_a_changed_byte_in_any_file_is_found(bundle: Path) -> None:
    names = sorted(p for p in bundle.rglob("*") if p.is_file())
    assert len(names) > 15
    for file in names:
        content = file.read_bytes()
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        found = verify_bundle(bundle).faults
        file.write_bytes(content)
        if file.name != "manifest.json":  # a letter of its own is what a signature is for
            name = file.relative_to(bundle).as_posix()
            assert [c.what for c in found] == ["files"], name
            assert f"{name} was changed" in found[0].detail
    assert not faults_of(bundle)


@pytest.mark.usefixtures("unrun")
def test_extra_and_missing_files_are_found(bundle: Path) -> None:
    (bundle / "models" / "virus.onnx").write_bytes(b"x")
    (bundle / "README.md").unlink()
    extra, missing = faults_of(bundle)
    assert "models/virus.onnx is not in its manifest; remove it" in extra
    assert "README.md" in missing


@pytest.mark.usefixtures("unrun")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(schema_version=2), "has schema version 2"),
        (lambda m: m.update(schema_version="1"), "schema_version must be a whole number"),
        (lambda m: m.pop("variants"), "variants is missing"),
        (lambda m: m["variants"][0].update(file="../x"), "which `files` does not list"),
        (lambda m: m.pop("golden"), "golden.samples is missing"),
        (lambda m: m["golden"]["outputs"].pop("base"), "golden.outputs.base is missing"),
        (lambda m: m["golden"]["outputs"]["base"].pop(), "has answers to 2 of 3 samples"),
        (
            lambda m: m["golden"]["outputs"].update(base=[{}, {}, {}]),
            "golden.outputs.base has answers to 0 of 3 samples",
        ),
        (
            lambda m: m["golden"]["outputs"]["base"][0].update(x=m["golden"]["outputs"]["base"][0]["logits"]),
            "golden.outputs.base[0].x is none of the models'; they have logits",
        ),
        (lambda m: m["golden"]["tolerance"]["base"].update(relative=1), "relative must be below 1, got 1"),
        (lambda m: m["guard"]["energy"].update(output="x"), "guard.energy.output names 'x', which is no output of"),
        (lambda m: m["golden"]["tolerance"].pop("small"), "golden.tolerance.small is missing"),
        (lambda m: m["golden"]["tolerance"]["small"].update(absolute=-1), "must be 0 or more"),
        (lambda m: m["golden"]["samples"][0].update(raw="/etc/passwd"), "which `files` does not list"),
        (lambda m: m["golden"]["samples"][0]["inputs"]["image"].update(dtype="object"), "must be one of bool"),
        (lambda m: m["golden"]["samples"][0]["inputs"]["image"].update(shape=[-1]), "must be a whole number"),
    ],
)
def test_a_wrong_manifest_is_named(bundle: Path, change: Callable[[dict[str, Any]], object], reason: str) -> None:
    rewrite(bundle, change)
    (fault,) = verify_bundle(bundle).faults
    assert fault.what == "structure"
    assert reason in fault.detail
    assert "\n" not in fault.detail


@pytest.mark.usefixtures("unrun")
def test_a_truncated_zip_is_found(bundle: Path) -> None:
    out = zipped(bundle)
    content = out.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        out.write_bytes(content[:length])
        (fault,) = verify_bundle(out).faults
        assert fault.what == "structure"
        assert "no whole zip file" in fault.detail


@pytest.mark.usefixtures("unrun")
def test_a_zip_with_a_way_out_is_refused(bundle: Path) -> None:
    out = zipped(bundle)
    with zipfile.ZipFile(out, "a") as packed:
        packed.writestr("../evil", "x")
    assert "leads out of the bundle" in faults_of(out)[0]


def test_nothing_is_run_of_what_is_not_whole(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ask_child", lambda *args, **options: pytest.fail("it was run"))
    (bundle / "extra").write_text("x")
    checks = {c.what: c.passed for c in verify_bundle(bundle).checks}
    assert (checks["files"], checks["variant small"]) == (False, None)


def test_a_newer_onnx_runtime_is_asked_for(bundle: Path, cli: Callable[..., Answer]) -> None:
    rewrite(bundle, lambda m: [v.update(minimum_onnxruntime="99.0") for v in m["variants"]])
    answer = cli("verify", bundle)
    assert answer.code == 3
    lines = answer.err.strip().splitlines()
    assert lines[-2].startswith("failed: variant small: it needs ONNX Runtime 99.0 or newer, and")
    assert len([line for line in lines if line.startswith("failed:")]) == 2


def test_a_model_that_fails_its_golden_answers_is_found(bundle: Path) -> None:
    """Another model in its place, the hashes made to fit: only running it tells."""
    onnx.save(dense(np.random.default_rng(3).standard_normal((64, 10))), bundle / "models" / "base" / "model.onnx")
    rewrite(bundle, lambda m: None)
    found = verify_bundle(bundle).faults
    assert [c.what for c in found] == ["variant base"]
    assert "golden sample 0, output 'logits' is up to" in found[0].detail
    assert "it computes something else" in found[0].detail


def test_a_picture_that_is_prepared_otherwise_is_found(bundle: Path) -> None:
    rewrite(bundle, lambda m: m["preprocessing"].update(mean=[0.5]))
    answer = _checked(bundle, "small", "cpu", None)
    assert answer["faults"][0] == "golden sample 0: golden/0.raw.png does not become the golden input 'image'"


def test_a_golden_file_of_another_size_is_found(bundle: Path) -> None:
    (bundle / "golden" / "small" / "0.logits.bin").write_bytes(b"\0" * 8)
    rewrite(bundle, lambda m: None)
    with pytest.raises(BundleError, match=r"0\.logits\.bin has 8 bytes, which are no float32 \(1, 10\)"):
        _checked(bundle, "small", "cpu", None)


def test_golden_answers_that_prove_nothing_are_found(bundle: Path) -> None:
    rewrite(bundle, lambda m: m["golden"]["tolerance"]["small"].update(absolute=1e9))
    fault = _checked(bundle, "small", "cpu", None)["faults"][0]
    assert "its tolerance of 1e+09 is as large as its largest golden answer" in fault
    (bundle / "golden" / "base" / "0.logits.bin").write_bytes(np.full(10, np.nan, np.float32).tobytes())
    rewrite(bundle, lambda m: None)
    assert "has a golden answer with NaN in it" in _checked(bundle, "base", "cpu", None)["faults"][0]


def test_a_golden_answer_of_another_type_is_found(bundle: Path) -> None:
    rewrite(bundle, lambda m: m["golden"]["outputs"]["base"][0]["logits"].update(dtype="int32"))
    fault = _checked(bundle, "base", "cpu", None)["faults"][0]
    assert fault == "golden sample 0, output 'logits' is float32 (1, 10), and the golden one int32 (1, 10)"


def test_a_raw_text_that_is_none_is_named() -> None:
    with pytest.raises(BundleError, match=r"0\.raw\.txt is no UTF-8 text \(byte 1\)"):
        _text("0.raw.txt", b"a\xff")


def test_external_data_outside_is_refused(bundle: Path) -> None:
    place = bundle / "models" / "base"
    onnx.save(
        dense(np.ones((64, 10))), place / "model.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    proto = onnx.load(place / "model.onnx", load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../../w"
    (place / "model.onnx").write_bytes(proto.SerializeToString())
    shutil.move(place / "w", bundle / "w")
    rewrite(bundle, lambda m: m["files"].update({"w": {}}))
    with pytest.raises(EdgekitError) as error:
        _checked(bundle, "base", "cpu", None)
    assert isinstance(error.value, (BundleError, ModelError))


def test_a_provider_that_no_variant_is_for(packed: Path) -> None:
    found = verify_bundle(packed, provider="openvino").faults
    assert [c.detail for c in found] == ["no variant is for openvino; see `providers` in manifest.json"]


def test_what_is_not_there_is_an_error(tmp_path: Path, cli: Callable[..., Answer]) -> None:
    answer = cli("verify", tmp_path / "nothing.zip")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "is not there; name a directory or a .zip" in answer.err
    assert cli("verify", tmp_path).code == 3


def test_within() -> None:
    tolerance = Tolerance(0.1, 0.01, False)
    golden = np.array([0.0, 10.0, np.inf, np.nan])
    assert within(np.array([0.1, 10.2, np.inf, np.nan]), golden, tolerance)
    assert not within(np.array([0.1, 10.21, np.inf, np.nan]), golden, tolerance)
    assert not within(np.array([0.1, 10.2, 1e30, np.nan]), golden, tolerance)
    assert not within(np.array([0.1, np.nan, np.inf, np.nan]), golden, tolerance)
