"""samples/python-app: with edgekit's runtime, and with nothing but the bundle's single file."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Candidate, PackOptions, pack_bundle
from edgekit.runtime.single import loader_source
from tests.samples.bundles import seal
from tests.samples.conftest import SAMPLES, Program, Said, run

APP = SAMPLES / "python-app/app.py"
# edgekit cannot be imported in this process
_ALONE = """
import runpy, sys
sys.modules["edgekit"], sys.argv = None, sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def loader_bundle(digits_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits with the single-file loader."""
    bundle = Path(shutil.copytree(digits_bundle, tmp_path_factory.mktemp("loader") / "bundle"))
    (bundle / "loader.py").write_text(loader_source())
    seal(bundle, json.loads((bundle / "manifest.json").read_text()))
    return bundle


@pytest.fixture(params=["edgekit", "loader"])
def app(request: pytest.FixtureRequest) -> Program:
    if request.param == "edgekit":
        return lambda *args: run(sys.executable, APP, *args)
    return lambda *args: run(sys.executable, "-c", _ALONE, APP, "--loader", *args)


def test_golden(app: Program, loader_bundle: Path) -> None:
    said = app(loader_bundle, "--golden")
    assert said.code == 0, said.out + said.err
    lines = said.out.splitlines()
    assert len(lines) == 2 * 2 * 4
    assert {line[:4] for line in lines} == {"ok  "}


def test_a_picture(app: Program, loader_bundle: Path) -> None:
    picture = loader_bundle / "golden/0.raw.png"
    said = app(loader_bundle, picture, "--variant", "base", "--top", 2)
    logits = np.fromfile(loader_bundle / "golden/base/0.logits.bin", np.float32)
    assert said.code == 0, said.err
    assert said.out.startswith(f"{picture}: {logits.argmax()} ")
    assert said.out.count(" %") == 2


def test_other_numbers_are_a_no(digits_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(digits_bundle, tmp_path / "bundle"))
    wanted = bundle / "golden/base/1.logits.bin"
    (np.fromfile(wanted, np.float32) + np.float32(3)).tofile(wanted)
    seal(bundle, json.loads((bundle / "manifest.json").read_text()))
    said = run(sys.executable, APP, bundle, "--golden")
    assert said.code == 3
    assert [line.split(":")[0] for line in said.out.splitlines() if line.startswith("FAIL")] == [
        "FAIL base input 1",
        "FAIL base raw 1",
    ]


def _wrong(*args: object) -> Said:
    said = run(sys.executable, APP, *args)
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    return said


def test_a_damaged_golden_part_is_one_line(app: Program, loader_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(loader_bundle, tmp_path / "bundle"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["golden"]["outputs"] = {}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    said = app(bundle, "--golden")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert said.err.startswith("error: the golden part of the manifest is damaged (KeyError: 'int8'); get the bundle")


def test_a_sealed_bundle_opens_with_its_key(pico_onnx: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    key = bytes(range(32))
    pack_bundle([Candidate("base", pico_onnx)], tmp_path / "b", PackOptions(data="digits", samples=1, key=key))
    (tmp_path / "key").write_bytes(key)
    said = run(sys.executable, APP, tmp_path / "b", "--golden", "--key-file", tmp_path / "key")
    assert said.code == 0, said.out + said.err
    assert "is encrypted; give its key" in _wrong(tmp_path / "b", tmp_path / "b/golden/0.raw.png").err


def test_errors_are_one_line(digits_bundle: Path, tmp_path: Path) -> None:
    assert _wrong(tmp_path, "x.png").code == 1
    assert "x.png is not there" in _wrong(digits_bundle, "x.png").err
    assert "loader.py is not there; pack the bundle" in _wrong(digits_bundle, "x.png", "--loader").err
    assert _wrong(digits_bundle, "x.png", "--provider", "cuda").code == 3
    assert run(sys.executable, APP, digits_bundle).code == 2


@pytest.mark.parametrize("sample", ["python-app", "http-service"])
def test_a_bundle_that_nobody_signed_is_refused(
    sample: str, http_sample: None, echo_bundle: Path, tmp_path: Path
) -> None:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "own.pub").write_bytes(public.public_bytes(serialization.Encoding.PEM, form))
    words = (echo_bundle / "golden/0.raw.png",) if sample == "python-app" else ()
    said = run(sys.executable, SAMPLES / sample / "app.py", echo_bundle, *words, "--key", tmp_path / "own.pub")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"error: bundle {echo_bundle}: it is not signed: manifest.sig is not there; ")
    assert said.err.count("\n") == 1
