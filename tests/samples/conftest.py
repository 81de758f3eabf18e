"""The samples as programs that tests start, and why one cannot be started here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgekit.data import ImagePreprocessing
from tests.bundle.texts import write_text_model
from tests.conftest import ROOT
from tests.samples.bundles import Size, write_echo

if TYPE_CHECKING:
    from tests.samples.services import Service

SAMPLES = ROOT / "samples"
_INSTALL = "npm ci --prefix samples/"


@dataclass(frozen=True)
class Said:
    """What a sample printed and how it ended."""

    code: int
    out: str
    err: str


Program = Callable[..., Said]


def run(*command: object, timeout_s: float = 120, **environment: str) -> Said:
    done = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **environment},
    )
    return Said(done.returncode, done.stdout, done.stderr)


def need_node(sample: str) -> str:
    """The path of node; skips the test where the sample cannot run."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (SAMPLES / sample / "node_modules").is_dir():
        pytest.skip(f"samples/{sample} is not installed: {_INSTALL}{sample}")
    return node


@pytest.fixture(scope="session")
def node_sample() -> Program:
    """samples/node."""
    node = need_node("node")
    return lambda *args: run(node, SAMPLES / "node/predict.mjs", *args)


@pytest.fixture(scope="session")
def browser_site() -> Path:
    """The files of samples/browser's page, with what npm brings."""
    made = run(need_node("browser"), SAMPLES / "browser/vendor.mjs")
    assert made.code == 0, made.err
    return SAMPLES / "browser/site"


@pytest.fixture(scope="session")
def browser_sample(browser_site: Path) -> Program:
    """samples/browser: its page in headless Chromium."""
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("Chromium is not installed")
    return lambda *args: run("node", browser_site.parent / "check.mjs", *args)


def build_c(place: Path, *more: str) -> Path:
    """Build samples/c; gives the program, or skips the test where it cannot be built."""
    missing = next((tool for tool in ("make", "cc") if shutil.which(tool) is None), None)
    if missing:
        pytest.skip(f"{missing} is not installed")
    if sys.platform != "linux":
        pytest.skip("the sample links the library of ONNX Runtime's Linux wheel")
    made = run("make", "-s", "-C", SAMPLES / "c", f"PYTHON={sys.executable}", f"OUT={place}", *more)
    assert made.code == 0, made.err
    assert made.err == "", "the sample compiles without a warning"
    return place / "predict"


@pytest.fixture(scope="session")
def c_sample(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """samples/c."""
    program = build_c(tmp_path_factory.mktemp("c"))
    return lambda *args: run(program, *args)


@pytest.fixture(scope="session", params=["node", "c"])
def sample(request: pytest.FixtureRequest) -> Program:
    """Each of the samples that are no Python and take the same arguments."""
    return request.getfixturevalue(f"{request.param}_sample")


@pytest.fixture(scope="session")
def digits_bundle(pico_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed bundle of digits: a pico CNN in static int8, and as it is."""
    from edgekit.bundle import Candidate, PackOptions, pack_bundle
    from edgekit.compress.quantize.static import CalibrationConfig, StaticConfig, quantize_static
    from edgekit.compress.technique import OnnxStep
    from edgekit.data import load_split

    place = tmp_path_factory.mktemp("digits")
    config = StaticConfig(calibration=CalibrationConfig(method="minmax", samples=64))
    quantize_static(config, OnnxStep(pico_onnx, place / "int8.onnx", load_split("digits", "calibration")))
    variants = [Candidate("int8", place / "int8.onnx"), Candidate("base", pico_onnx)]
    return pack_bundle(variants, place / "bundle", PackOptions(data="digits", samples=4)).path


@pytest.fixture(scope="session")
def echo_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle whose model answers with the pixels that preprocessing made."""
    grey = ImagePreprocessing(8, 8, 1, 1 / 255, (0.3,), (0.37,), (8, 8))
    return write_echo(tmp_path_factory.mktemp("echo") / "bundle", grey, [Size(8, 8), Size(20, 30)])


@pytest.fixture(scope="session")
def http_sample() -> None:
    """Skips a test where samples/http-service cannot be started."""
    for package in ("fastapi", "uvicorn", "python_multipart"):
        pytest.importorskip(package, reason=f"samples/http-service needs {package}")


@pytest.fixture(scope="module")
def service(http_sample: None, echo_bundle: Path) -> Iterator[Service]:
    """samples/http-service with a bundle that echoes pictures, impatient and for small bodies."""
    from tests.samples.services import PATIENCE_S, started

    with started(echo_bundle, "--patience-s", PATIENCE_S, "--max-body-mb", 0.1) as running:
        yield running


@pytest.fixture(scope="module")
def text_service(http_sample: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The same of a model of texts."""
    pytest.importorskip("tokenizers")
    from edgekit.bundle import Candidate, PackOptions, pack_bundle
    from tests.samples.services import started

    place = tmp_path_factory.mktemp("texts")
    pack_bundle([Candidate("base", write_text_model(place / "m"))], place / "bundle", PackOptions())
    with started(place / "bundle") as running:
        yield running


@pytest.fixture(scope="session")
def picture(echo_bundle: Path) -> bytes:
    """A PNG file of 20 x 30 pixels."""
    return (echo_bundle / "golden/1.raw.png").read_bytes()
