from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.runtime.bundles import write_bundle, zipped


def test_the_benchmark_measures_what_it_says(tmp_path: Path) -> None:
    bundle = zipped(write_bundle(tmp_path / "b"), tmp_path / "b.zip")
    words = [
        sys.executable,
        str(ROOT / "benchmarks/runtime.py"),
        str(bundle),
        "--rounds",
        "1",
        "--processes",
        "1",
        "--json",
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["overhead"]["plain_us"] > 0
    cold = found["cold_start_ms"]
    assert 0 < cold["runtime"]["parts"]["import edgekit.runtime"] < cold["runtime"]["python"]["median"]
    assert cold["runtime"]["python"]["median"] < cold["runtime"]["process"]
    assert cold["plain"]["parts"]["import edgekit.runtime"] == 0
    assert 0 < cold["nothing"]["process"] < cold["plain"]["process"]
