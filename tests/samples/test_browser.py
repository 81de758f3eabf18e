"""samples/browser: the page in headless Chromium, and the server of its files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.data import ImagePreprocessing
from tests.samples.bundles import Size, write_echo
from tests.samples.conftest import SAMPLES, Program, run

_COLOUR = ImagePreprocessing(12, 20, 3, 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (16,), "bicubic")


def test_pixels_are_pillows_to_the_bit(browser_sample: Program, tmp_path: Path) -> None:
    bundle = write_echo(tmp_path / "bundle", _COLOUR, [Size(31, 17), Size(23, 64), Size(5, 3)])
    said = browser_sample(bundle, "--json")
    assert said.code == 0, said.out + said.err
    page = json.loads(said.out)
    assert page["verdict"] == "All 6 agree within the bundle's tolerance."
    assert page["isolated"], "ONNX Runtime's threads need it"
    assert page["errors"] == []


def test_webgpu_runs_or_is_refused(browser_sample: Program, digits_bundle: Path, tmp_path: Path) -> None:
    """Chromium's GPU in software; where it has none, the page must say so and not answer from the CPU."""
    bundle = Path(shutil.copytree(digits_bundle, tmp_path / "bundle"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    next(v for v in manifest["variants"] if v["name"] == "base")["providers"] = ["WebGpuExecutionProvider"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    said = browser_sample(bundle, "--json", "--address", "?ep=webgpu", "--software-gpu")
    page = json.loads(said.out)
    if page["ready"] == "failed":
        assert page["message"].startswith("this browser has no WebGPU adapter; open the page without ?ep=webgpu")
        pytest.skip("this Chromium has no WebGPU adapter in software")
    assert said.code == 0, said.out + said.err
    assert page["facts"].startswith("Variant base")
    assert "runs on webgpu" in page["facts"]
    assert page["verdict"] == "All 8 agree within the bundle's tolerance."


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("?ep=webgpu", "this browser has no WebGPU adapter; open the page without ?ep=webgpu to run on the CPU"),
        ("?variant=half", "the bundle has no variant 'half' for CPUExecutionProvider"),
    ],
)
def test_what_cannot_be_had_is_said(browser_sample: Program, echo_bundle: Path, address: str, message: str) -> None:
    said = browser_sample(echo_bundle, "--json", "--address", address)
    page = json.loads(said.out)
    assert said.code == 3
    assert page["ready"] == "failed"
    assert page["message"].startswith(message)


@pytest.fixture
def server(browser_site: Path, echo_bundle: Path) -> Iterator[str]:
    """serve.py on a free port; its URL."""
    started = subprocess.Popen(
        [sys.executable, str(browser_site.parent / "serve.py"), str(echo_bundle), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    yield started.stdout.readline().strip()
    started.kill()
    started.communicate()


def test_types_and_headers(server: str) -> None:
    wanted = {"": "text/html", "app.mjs": "text/javascript", "bundle/manifest.json": "application/json"}
    for path, kind in {**wanted, "vendor/ort/ort-wasm-simd-threaded.wasm": "application/wasm"}.items():
        with urllib.request.urlopen(server + path) as answer:
            assert answer.headers["Content-Type"] == kind
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"


@pytest.mark.parametrize("path", ["bundle/", "bundle/../../serve.py", "%2e%2e/serve.py", "bundle/%2e%2e/package.json"])
def test_nothing_else_is_served(server: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(server + path)
    assert refused.value.code == 404
    refused.value.close()


def test_serve_wants_a_bundle(tmp_path: Path) -> None:
    said = run(sys.executable, SAMPLES / "browser/serve.py", tmp_path)
    assert said.code == 2
    assert "has no manifest.json; name a bundle's directory, and unzip a .zip first" in said.err
