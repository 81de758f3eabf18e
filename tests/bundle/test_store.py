from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.bundle import Candidate, PackOptions, pack_bundle, verify_bundle
from edgekit.errors import BundleError
from edgekit.runtime import load
from tests.conftest import Answer, dense

pytest.importorskip("cryptography", reason="needs cryptography")
KEY = bytes(range(32))


def test_a_sealed_model_answers_in_memory_alone(variants: tuple[Candidate, ...], tmp_path: Path) -> None:
    place = tmp_path / "sealed.zip"
    pack_bundle(variants[:1], place, PackOptions(data="digits", key=KEY))
    content = place.read_bytes()
    assert variants[0].path.read_bytes()[:200] not in content
    assert KEY not in content
    assert KEY.hex().encode() not in content
    feeds = {"image": np.ones((1, 1, 8, 8), np.float32)}
    with load(place, key=KEY) as model:
        answer = model.run(feeds)["logits"]
    from edgekit.ort import Session

    assert np.array_equal(answer, Session(variants[0].path, threads=1).run(feeds)[0])
    with pytest.raises(BundleError, match=r"model\.onnx\.enc is encrypted; give its key"):
        load(place)
    with pytest.raises(BundleError, match="does not open with this key"):
        load(place, key=bytes(32))


def test_a_sealed_bundle_is_verified_with_its_key(variants: tuple[Candidate, ...], tmp_path: Path) -> None:
    place = tmp_path / "sealed"
    pack_bundle(variants[:1], place, PackOptions(data="digits", key=KEY))
    passed = verify_bundle(place, key=KEY)
    assert [c.passed for c in passed.checks] == [True, True, None, True]
    unasked = verify_bundle(place)
    assert (unasked.faults, unasked.checks[-1].passed) == ((), None)
    assert "it is encrypted; give --key-file or --key-env" in unasked.checks[-1].detail
    (fault,) = verify_bundle(place, key=bytes(32)).faults
    assert "does not open with this key" in fault.detail


def test_external_data_is_sealed_inside(tmp_path: Path) -> None:
    model = dense(np.random.default_rng(0).standard_normal((64, 10)))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    pack_bundle([Candidate("ext", tmp_path / "m.onnx")], tmp_path / "B", PackOptions(key=KEY))
    assert [p.name for p in (tmp_path / "B" / "models" / "ext").iterdir()] == ["model.onnx.enc"]
    with load(tmp_path / "B", key=KEY) as opened:
        assert opened.run({"image": np.ones((1, 1, 8, 8), np.float32)})["logits"].shape == (1, 10)


@pytest.mark.parametrize("key", [None, bytes(32)])
def test_the_same_bytes_are_stored_once(dense_onnx: Path, tmp_path: Path, key: bytes | None) -> None:
    """Under two names, which an app may choose by, and in ORT format too."""
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(dense_onnx.read_bytes())
    two = [Candidate("one", dense_onnx), Candidate("two", copy)]
    pack_bundle(two, tmp_path / "B", PackOptions(ort=True, key=key))
    files = sorted(
        p.relative_to(tmp_path / "B").as_posix() for p in (tmp_path / "B" / "models").rglob("*") if p.is_file()
    )
    suffix = "" if key is None else ".enc"
    assert files == [f"models/one-ort/model.ort{suffix}", f"models/one/model.onnx{suffix}"]
    assert not verify_bundle(tmp_path / "B", key=key).faults
    for name in ("one", "two", "two-ort"):
        with load(tmp_path / "B", variant=name, key=key) as model:
            assert model.variant.name == name


def test_what_no_app_could_open_is_not_written(tmp_path: Path) -> None:
    model = dense(np.ones((64, 10)))
    (tmp_path / "m").mkdir()
    onnx.save(model, tmp_path / "m" / "m.onnx", save_as_external_data=True, location="con.bin", size_threshold=0)
    with pytest.raises(
        BundleError, match=r"no app could open this bundle: .*'models/ext/con.bin' is not the same name"
    ):
        pack_bundle([Candidate("ext", tmp_path / "m" / "m.onnx")], tmp_path / "B")
    assert not (tmp_path / "B").exists()


def test_a_model_that_hangs_on_its_inputs_last_bits_has_no_golden_answer(tmp_path: Path) -> None:
    source, target = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy")
    nodes = [helper.make_node("Mul", ["x", "large"], ["z"]), helper.make_node("Sin", ["z"], ["y"])]
    large = helper.make_tensor("large", TensorProto.FLOAT, [1], [1e7])
    graph = helper.make_graph(nodes, "chaos", [source], [target], [large])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "n.onnx")
    with pytest.raises(BundleError, match="variant 'n' answers one input otherwise from run to run"):
        pack_bundle([Candidate("n", tmp_path / "n.onnx")], tmp_path / "B")


def test_encryption_on_the_command_line(dense_onnx: Path, tmp_path: Path, cli: Callable[..., Answer]) -> None:
    out, key = tmp_path / "B", tmp_path / "key"
    answer = cli("pack", dense_onnx, "--out", out, "--encrypt")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "--encrypt needs a key: --key-file FILE or --key-env NAME" in answer.err
    key.write_text(KEY.hex())
    assert cli("pack", dense_onnx, "--out", out, "--key-file", key).code == 2
    assert not out.exists()
    answer = cli("pack", dense_onnx, "--out", out, "--encrypt", "--key-file", key)
    assert answer.code == 0, answer.err
    entry = json.loads((out / "manifest.json").read_text())["variants"][0]
    assert entry["file"] == "models/dense/model.onnx.enc"
    assert entry["encrypted"]["algorithm"] == "AES-256-GCM"
    assert "sealed by AES-256-GCM" in (out / "README.md").read_text()


def test_a_bundle_is_signed_when_it_is_packed(dense_onnx: Path, tmp_path: Path) -> None:
    from tests.bundle.test_sign import make_pair

    private, public = make_pair(tmp_path, "own")
    pack_bundle([Candidate("a", dense_onnx)], tmp_path / "B.zip", PackOptions(signer=private))
    signature = next(c for c in verify_bundle(tmp_path / "B.zip", public_key=public).checks if c.what == "signature")
    assert signature.passed is True
