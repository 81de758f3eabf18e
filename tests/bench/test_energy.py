from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from edgekit.bench import BenchRequest, bench_models, energy, steady
from edgekit.bench.cold import cold_start
from edgekit.bench.energy import Meter, Meters, find_meters, measure_energy
from edgekit.bench.streams import Streams
from edgekit.nvidia import Gpu
from edgekit.ort import Execution

from .conftest import Maker

Domain = Callable[..., Path]


@pytest.fixture
def domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Domain:
    """Add a RAPL domain to a powercap tree that stands where the kernel's is looked for."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)

    def make(folder: str, name: str, microjoules: int = 0, whole: int = 262_143_328_850) -> Path:
        place = tmp_path / folder
        place.mkdir()
        for file, value in {"name": name, "energy_uj": microjoules, "max_energy_range_uj": whole}.items():
            (place / file).write_text(f"{value}\n")
        return place / "energy_uj"

    return make


def _spending(counter: Path, microjoules: int, whole: int = 1 << 60) -> Callable[[], None]:
    """A run that takes so much."""

    def run() -> None:
        counter.write_text(f"{(int(counter.read_text()) + microjoules) % whole}\n")
        time.sleep(0.001)

    return run


def test_packages_and_memory_are_counted_and_nothing_twice(domain: Domain) -> None:
    package = domain("intel-rapl:0", "package-0", 500)
    domain("intel-rapl:0:0", "core")
    domain("intel-rapl:0:1", "dram", 7)
    domain("intel-rapl:1", "psys")
    domain("intel-rapl-mmio:0", "package-0")
    meters = find_meters()
    assert [m.name for m in meters.found] == ["RAPL package-0", "RAPL dram"]
    found = measure_energy(_spending(package, 2500), meters, 0.02)
    assert found.joules_per_run == pytest.approx(0.0025)
    assert found.source == "RAPL package-0 + RAPL dram"
    assert 2 <= found.runs <= 20
    assert found.seconds >= 0.02


def test_a_counter_that_starts_again_at_0_is_followed(domain: Domain) -> None:
    whole = 1_000_000
    package = domain("intel-rapl:0", "package-0", whole - 1, whole)
    found = measure_energy(_spending(package, 1000, whole), find_meters(), 0.01)
    assert found.joules_per_run == pytest.approx(0.001)


def test_streams_share_what_was_spent(domain: Domain) -> None:
    package = domain("intel-rapl:0", "package-0")
    found = measure_energy(Streams([_spending(package, 1000), lambda: time.sleep(0.001)]), find_meters(), 0.05)
    assert found.joules_per_run == pytest.approx(int(package.read_text()) / 1e6 / found.runs)
    assert int(package.read_text()) / 1000 < found.runs


def test_a_counter_that_stands_still_is_no_energy(domain: Domain) -> None:
    domain("intel-rapl:0", "package-0", 12345)
    found = measure_energy(lambda: None, find_meters(), 0.001)
    assert (found.joules_per_run, found.source) == (None, "not measurable here: RAPL package-0 did not count")


def test_without_a_counter_there_is_no_figure_and_the_reason(
    chain: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "none")
    request = BenchRequest(min_seconds=0.02, min_runs=5, warmup_seconds=0.01, threads=1, guard=False)
    row = bench_models([chain(16)], request).rows[0].as_dict()
    assert row["energy"]["joules_per_run"] is None
    assert row["energy"]["source"] == f"not measurable here: the CPU has no RAPL counter in {tmp_path}/none"


def test_a_counter_that_only_root_may_read_is_named(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = domain("intel-rapl:0", "package-0")
    monkeypatch.setattr(energy.os, "access", lambda *_: False)
    assert find_meters().lacking.source == f"not measurable here: only root may read {counter}"


def test_rows_hold_the_energy_of_a_run(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    joules = iter((10.0, 15.0))
    meters = Meters((Meter("socket", lambda: next(joules)),))
    monkeypatch.setattr(steady, "find_meters", lambda *_: meters)
    request = BenchRequest(min_seconds=0.02, min_runs=5, warmup_seconds=0.01, threads=1, guard=False)
    found = bench_models([chain(16)], request).rows[0].energy
    assert found.joules_per_run == pytest.approx(5 / found.runs)


def test_the_energy_of_the_device_that_runs_is_read(chain: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(steady, "find_meters", lambda *args: asked.append(args) or Meters())
    request = BenchRequest(providers=("cuda",), execution=Execution(device=1), threads=1)
    case = steady.Case(chain(16), "cuda", cold_start(chain(16), "cpu", 1, BenchRequest(threads=1)), 1)
    fallen = replace(case, cold=replace(case.cold, fallback=True))
    assert steady._energy(case, request, lambda: None).joules_per_run is None
    assert steady._energy(fallen, request, lambda: None).joules_per_run is None
    assert asked == [("cuda", 1), ("cpu", 1)]


@pytest.fixture
def _gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs."""
    made = [Gpu(i, name, f"GPU-{i}", "8.9", 1 << 34, "12.4", "550") for i, name in enumerate(("T4", "L4"))]
    monkeypatch.setattr(energy, "gpus", lambda: tuple(made))


def _nvml(millijoules: Callable[[], int]) -> ModuleType:
    """NVIDIA's module, as far as it is used."""
    error = type("NVMLError", (Exception,), {})
    return SimpleNamespace(  # type: ignore[return-value]
        NVMLError=error,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: millijoules(),
    )


@pytest.mark.usefixtures("_gpus")
def test_a_gpus_energy_is_added_where_the_provider_runs_there(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    package = domain("intel-rapl:0", "package-0")
    spent = [100]
    monkeypatch.setitem(sys.modules, "pynvml", _nvml(lambda: spent[0]))
    run = _spending(package, 500)

    def both() -> None:
        run()
        spent[0] += 3

    found = measure_energy(both, find_meters("cuda", 1), 0.005)
    assert found.joules_per_run == pytest.approx(0.0035)
    assert found.source == "L4 + RAPL package-0"
    assert [m.name for m in find_meters("cpu").found] == ["RAPL package-0"]


@pytest.mark.usefixtures("_gpus")
def test_a_gpu_without_a_counter_gives_no_figure_of_the_cpu_alone(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain("intel-rapl:0", "package-0")
    assert find_meters("tensorrt", 2).lacking.source == "not measurable here: there is no GPU 2"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_meters("cuda").lacking.joules_per_run is None
    assert "nvidia-ml-py" in find_meters("cuda").lacking.source
    nvml = _nvml(lambda: 1)

    def refuse(handle: int) -> int:
        raise nvml.NVMLError("Not Supported")

    nvml.nvmlDeviceGetTotalEnergyConsumption = refuse
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert find_meters("cuda").lacking.source == "not measurable here: NVML cannot read GPU 0: Not Supported"
