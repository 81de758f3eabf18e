"""Energy of a run, where the hardware counts it: RAPL for the CPU, NVML for a GPU.

Both count whole devices, so a figure holds what they draw when idle, and what else runs on them meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from edgekit.bench.streams import Run, Streams
from edgekit.nvidia import gpus

POWERCAP = Path("/sys/class/powercap")
# `psys` is the whole board and holds the packages; `core` and `uncore` are parts of a package; dram is beside it.
_COUNTED = ("package", "dram")
_UNIT_J = 1e-6


@dataclass(frozen=True)
class Meter:
    """A counter of energy.

    Attributes:
        name: What it counts.
        read_j: Joules since some time in the past.
        range_j: After so many joules it starts again at 0; None where it never does.
    """

    name: str
    read_j: Callable[[], float]
    range_j: float | None = None

    def spent_j(self, before: float) -> float:
        """Joules since it stood at `before`, if it has started again at most once meanwhile."""
        grown = self.read_j() - before
        return grown + self.range_j if grown < 0 and self.range_j is not None else grown


@dataclass(frozen=True)
class Energy:
    """What a run takes.

    Attributes:
        joules_per_run: None where it cannot be measured; `source` then says why.
        source: The devices that were counted.
        runs: How many runs it is the mean of.
        seconds: How long they took together.
    """

    joules_per_run: float | None
    source: str
    runs: int = 0
    seconds: float = 0.0


NOT_MEASURED = Energy(None, "not measured")


@dataclass(frozen=True)
class Meters:
    """The counters that can be read here, or why there are none."""

    found: tuple[Meter, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def lacking(self) -> Energy:
        """What is said where nothing can be read."""
        return Energy(None, f"not measurable here: {'; '.join(self.reasons)}")


def find_meters(provider: str = "cpu", device: int | None = None) -> Meters:
    """The CPU's counters, and a GPU's where the provider runs there."""
    cpu = _rapl(POWERCAP)
    if provider not in ("cuda", "tensorrt"):
        return cpu
    gpu = _nvml(device or 0)
    # a GPU's run without the GPU's energy would be a figure of something else
    return Meters(gpu.found + cpu.found, cpu.reasons) if gpu.found else gpu


def measure_energy(run: Run, meters: Meters, seconds: float = 1.0) -> Energy:
    """Run alone for so long, at least once, and share what was counted meanwhile among the runs."""
    if not meters.found:
        return meters.lacking
    before = [meter.read_j() for meter in meters.found]
    start = perf_counter()
    runs = _run_for(run, seconds)
    taken = perf_counter() - start
    spent = sum(m.spent_j(b) for m, b in zip(meters.found, before, strict=True))
    names = " + ".join(m.name for m in meters.found)
    if spent <= 0:  # some virtual machines show counters that stand still
        return Energy(None, f"not measurable here: {names} did not count")
    return Energy(spent / runs, names, runs, taken)


def _run_for(run: Run, seconds: float) -> int:
    if isinstance(run, Streams):
        return len(run.load(seconds).taken_ns)
    runs, until = 0, perf_counter() + seconds
    while runs == 0 or perf_counter() < until:
        run()
        runs += 1
    return runs


def _rapl(powercap: Path) -> Meters:
    """Source: the kernel's documentation of the power capping framework, Documentation/power/powercap."""
    domains = [d for d in sorted(powercap.glob("*rapl*:*")) if (d / "energy_uj").exists()]
    named = [(d, (d / "name").read_text().strip()) for d in domains if (d / "name").exists()]
    # the interface through memory-mapped registers counts the same packages once more
    wanted = [(d, n) for d, n in named if n.startswith(_COUNTED) and "mmio" not in d.name]
    if not wanted:
        return Meters(reasons=(f"the CPU has no RAPL counter in {powercap}",))
    if not all(os.access(d / "energy_uj", os.R_OK) for d, _ in wanted):
        return Meters(reasons=(f"only root may read {wanted[0][0] / 'energy_uj'}",))
    return Meters(tuple(_rapl_meter(d, n) for d, n in wanted))


def _rapl_meter(domain: Path, name: str) -> Meter:
    counter, whole = domain / "energy_uj", domain / "max_energy_range_uj"
    return Meter(
        f"RAPL {name}",
        lambda: int(counter.read_text()) * _UNIT_J,
        int(whole.read_text()) * _UNIT_J if whole.exists() else None,
    )


def _nvml(device: int) -> Meters:
    """Source: NVML's nvmlDeviceGetTotalEnergyConsumption, millijoules since the driver was loaded, since Volta."""
    present = gpus()
    if device >= len(present):
        return Meters(reasons=(f"there is no GPU {device}",))
    try:
        nvml: Any = import_module("pynvml")
    except ModuleNotFoundError:
        return Meters(reasons=("the package nvidia-ml-py, which reads a GPU's counter, is not installed",))
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(present[device].uuid)
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError as error:
        return Meters(reasons=(f"NVML cannot read GPU {device}: {error}",))
    return Meters((Meter(present[device].name, lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000),))
