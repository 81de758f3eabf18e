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

import numpy as np
import pytest

from edgekit.data import ImagePreprocessing
from tests.samples.bundles import Size, write_echo, write_products
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


def test_what_is_transparent_is_laid_on_the_background(browser_sample: Program, tmp_path: Path) -> None:
    """A canvas keeps colours multiplied by their alpha, so that a level is lost here and there."""
    two_levels = 2 / 255 / 0.224
    bundle = write_echo(tmp_path / "bundle", _COLOUR, [Size(31, 17), Size(20, 12)], alpha=True, absolute=two_levels)
    page = json.loads(browser_sample(bundle, "--json").out)
    assert page["verdict"] == "All 4 agree within the bundle's tolerance."


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
        ("?variant=half", "bundle echo has no variant 'half'; it has echo"),
    ],
)
def test_what_cannot_be_had_is_said(browser_sample: Program, echo_bundle: Path, address: str, message: str) -> None:
    said = browser_sample(echo_bundle, "--json", "--address", address)
    page = json.loads(said.out)
    assert said.code == 3
    assert page["ready"] == "failed"
    assert page["message"].startswith(message)


def test_what_does_not_run_here_is_said(browser_sample: Program, echo_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(echo_bundle, tmp_path / "bundle"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    variant = manifest["variants"][0]
    reasons = {"newer": {"minimum_onnxruntime": "99.1"}, "wider": {"cpu_features": ["vnni", "avx512f"]}}
    reasons |= {"sealed": {"encrypted": {"algorithm": "AES-256-GCM", "bundle_id": "0"}}}
    manifest["variants"] = [variant | {"name": name} | fields for name, fields in reasons.items()]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    page = json.loads(browser_sample(bundle, "--json").out)
    newer, wider, sealed = page["message"].removeprefix("bundle echo does not run here: ").split("; ", 2)
    assert newer.startswith("newer: it needs ONNX Runtime 99.1 or newer, and 1.")
    assert wider == "wider: WebAssembly has no avx512f"
    assert sealed == "sealed: it is encrypted, and there is no key"


def test_a_zip_is_read(browser_sample: Program, echo_bundle: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "echo"), "zip", echo_bundle)
    page = json.loads(browser_sample(packed, "--json").out)
    assert page["verdict"] == "All 4 agree within the bundle's tolerance."
    page = json.loads(browser_sample(packed, "--json", "--address", "?bundle=gone.zip").out)
    assert page["message"] == "/gone.zip cannot be fetched: 404 File not found"


def test_sums_of_int8_do_not_saturate(browser_sample: Program, tmp_path: Path) -> None:
    """Why a variant that wants VNNI may run in WebAssembly: without it, x86 stops pairs of products at 32767."""
    products = np.full((1, 64), 255) @ np.full((64, 32), 127)
    assert products.max() == 64 * 255 * 127
    bundle = write_products(tmp_path / "bundle", np.full((64, 32), 127, np.int8), np.full((1, 64), 255, np.uint8))
    page = json.loads(browser_sample(bundle, "--json").out)
    assert page["verdict"] == "All 1 agree within the bundle's tolerance."
    assert page["golden"][0]["outputs"]["sums"] == products.ravel().tolist()


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
    assert "has no manifest.json; name a bundle's directory, or a .zip" in said.err
