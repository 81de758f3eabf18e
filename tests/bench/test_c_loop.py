"""The loop in C, and the benchmark that prints what Python and edgekit add to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekit.errors import EdgekitError, MissingPackageError, ModelError
from edgekit.ort import Session, require_ort
from tests.conftest import ROOT

from .conftest import Maker

HOME = ROOT / "benchmarks"


@pytest.fixture
def c_loop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(HOME))
    return __import__("c_loop")


@pytest.fixture
def program(c_loop: ModuleType, tmp_path: Path) -> Path:
    if c_loop.why_not():
        pytest.skip(c_loop.why_not())
    built: Path = c_loop.build(tmp_path)
    return built


def test_it_runs_the_model_that_python_runs(c_loop: ModuleType, program: Path, chain: Maker) -> None:
    model = chain(16, 4)
    expected = Session(model, threads=1).run({"x": np.ones((3, 16), np.float32)})[0]
    with c_loop.CLoop(program, model, (3, 16)) as loop:
        assert loop.version == require_ort().__version__
        assert loop.output_count == expected.size
        assert loop.output_sum == pytest.approx(float(expected.sum(dtype=np.float64)), rel=1e-6)
        for _ in range(2):
            median_ms, runs = loop.median_ms(0.02)
            assert 0 < median_ms < 20
            assert runs >= 1


def test_what_the_library_refuses_is_told(c_loop: ModuleType, program: Path, chain: Maker, tmp_path: Path) -> None:
    with (
        pytest.raises(ModelError, match=r"loop in C failed: .*gone\.onnx"),
        c_loop.CLoop(program, tmp_path / "gone.onnx", (1, 16)),
    ):
        pass
    with (
        pytest.raises(ModelError, match=r"loop in C failed: .*index: 1 Got: 7"),
        c_loop.CLoop(program, chain(16), (1, 7)),
    ):
        pass


def test_without_a_compiler_the_reason_is_told(
    c_loop: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no C compiler" in c_loop.why_not()
    with pytest.raises(MissingPackageError, match="cannot be built: there is no C compiler"):
        c_loop.build(tmp_path)
    assert issubclass(MissingPackageError, EdgekitError)


def test_the_benchmark_prints_its_tables() -> None:
    command = [sys.executable, str(HOME / "bench_overhead.py"), "--model", "20 µs", "--rounds", "3", "--repeats", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| 20 µs"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 6
    assert all(float(cell) > 0 for cell in cells[2:5])
