from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from edgekit import machine
from edgekit.nvidia import Gpu


def test_cores_are_at_most_what_affinity_gives() -> None:
    assert 1 <= machine.available_cores() <= (os.cpu_count() or 1)


def test_affinity_limits_the_cores() -> None:
    code = "import os, edgekit.machine as m; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    code += "print(m.available_cores())"
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "1"


@pytest.mark.parametrize(
    ("file", "text", "cores"),
    [
        ("cpu.max", "max 100000", None),
        ("cpu.max", "150000 100000", 1.5),
        ("cpu/cpu.cfs_quota_us", "-1", None),
        ("cpu/cpu.cfs_quota_us", "50000", 0.5),
    ],
)
def test_a_cgroups_quota_is_read(tmp_path: Path, file: str, text: str, cores: float | None) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / file).write_text(text + "\n")
    assert machine.cgroup_cores(tmp_path) == cores


def test_the_least_quota_of_nested_cgroups_counts(tmp_path: Path) -> None:
    inner = tmp_path / "pod/container"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (tmp_path / "pod/cpu.max").write_text("200000 100000\n")
    (tmp_path / "pod/memory.max").write_text("5000\n")
    membership = tmp_path / "membership"
    membership.write_text("1:name=systemd:/\n0::/pod/container\n")
    assert machine.cgroup_cores(tmp_path, membership) == 2.0
    assert machine.memory_bytes(tmp_path, membership) == 5000
    membership.write_text("0::/not/mounted/here\n")
    assert machine.cgroup_cores(tmp_path, membership) is None
    membership.write_text("0::/../elsewhere\n")
    assert machine.cgroup_directories("cpu", tmp_path, membership) == [tmp_path]


def test_the_governor_is_read_where_there_is_one(tmp_path: Path) -> None:
    assert machine.governor(tmp_path) is None
    for core, name in enumerate(("performance", "powersave", "performance")):
        (tmp_path / f"cpu{core}/cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{core}/cpufreq/scaling_governor").write_text(f"{name}\n")
    assert machine.governor(tmp_path) == "performance, powersave"


def test_gpus_are_among_the_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(0, "NVIDIA L4", "GPU-1", "8.9", 24_000_000_000, "12.4", "550.54.15")
    monkeypatch.setattr(machine, "gpus", lambda: (gpu,))
    assert machine.facts()["gpus"] == [
        {
            "name": "NVIDIA L4",
            "driver": "550.54.15",
            "cuda": "12.4",
            "compute_capability": "8.9",
            "memory_bytes": 24_000_000_000,
        }
    ]


def test_a_quota_below_one_core_is_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cgroup_cores", lambda: 0.5)
    assert machine.available_cores() == 1


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_memory_is_the_machines_or_the_cgroups(tmp_path: Path, file: str) -> None:
    total = psutil.virtual_memory().total
    assert machine.memory_bytes(tmp_path) == total
    (tmp_path / "memory").mkdir()
    (tmp_path / file).write_text("1000000\n")
    assert machine.memory_bytes(tmp_path) == 1_000_000
    (tmp_path / file).write_text("max\n")
    assert machine.memory_bytes(tmp_path) == total


def test_the_peak_of_memory_grows_and_stays() -> None:
    before = machine.peak_rss_bytes()
    held = np.ones(60_000_000, np.uint8)
    during = machine.peak_rss_bytes()
    del held
    jitter = 4_000_000  # the kernel counts pages per CPU and sums them up now and then
    assert during >= before - jitter
    assert machine.peak_rss_bytes() >= during - jitter
    assert during >= 60_000_000


def test_a_child_does_not_inherit_its_parents_peak() -> None:
    held = np.ones(300_000_000, np.uint8)
    code = "import edgekit.machine as m; print(m.peak_rss_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert int(done.stdout) < 200_000_000 < held.nbytes


def test_facts_hold_what_a_figure_must_carry() -> None:
    facts = machine.facts()
    assert facts["cpu"]
    assert {"governor", "cgroup_cores", "gpus", "distribution", "python", "virtual"} <= facts.keys()
    assert facts == machine.facts()
    assert facts["cores"] == machine.available_cores()
    assert "numpy" in facts["versions"]  # type: ignore[operator]
    assert set(facts["cpu_features"]) <= set(machine.cpu_features())  # type: ignore[call-overload]
