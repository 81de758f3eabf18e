"""The networks that are measured on GPUs, on the CPU; and the script on a machine without a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.nvidia import gpus
from edgekit.ort import Session
from tests.conftest import ROOT

HOME = ROOT / "benchmarks" / "gpu"


def test_the_precisions_are_one_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HOME))
    models = __import__("models")
    x = np.random.default_rng(1).standard_normal((4, 64))
    found = {}
    for precision in models.PRECISIONS:
        session = Session(models.build(tmp_path / f"{precision}.onnx", precision, 64), threads=1)
        found[precision] = session.run({"x": x.astype(session.inputs[0].dtype)})[0].astype(np.float64)
    largest = np.abs(found["fp32"]).max()
    assert np.abs(found["fp16"] - found["fp32"]).max() < 0.01 * largest
    assert np.abs(found["int8"] - found["fp32"]).max() < 0.15 * largest


def test_without_a_gpu_the_script_says_so_and_prints_no_figure() -> None:
    if gpus():
        pytest.skip("this machine has an NVIDIA GPU")
    done = subprocess.run([sys.executable, str(HOME / "run.py")], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "no NVIDIA GPU on this machine: nothing was measured\n"
