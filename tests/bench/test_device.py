from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgekit.bench import device as module
from edgekit.bench.device import NO_DEVICE, DeviceMemoryMeter, DeviceMemoryUse
from edgekit.nvidia import DeviceMemory, Gpu

GPU = Gpu(0, "NVIDIA L4", "GPU-1", "8.9", 24 << 30, "13.0", "580.65.06")


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[DeviceMemory]:
    """What the driver says at each look; the first is before the session."""
    held: list[DeviceMemory] = []
    monkeypatch.setattr(module, "gpus", lambda: (GPU,))
    answers: Iterator[DeviceMemory] = iter(held)
    monkeypatch.setattr(module, "used_memory", lambda gpu: next(answers))
    return held


def _looked(count: int) -> DeviceMemoryUse:
    meter = DeviceMemoryMeter("cuda", 0)
    for _ in range(count):
        meter.look()
    return meter.found


def test_the_drivers_count_for_this_process(readings: list[DeviceMemory]) -> None:
    readings += [DeviceMemory(None, 100), DeviceMemory(30, 140), DeviceMemory(70, 190), DeviceMemory(50, 150)]
    assert _looked(3) == DeviceMemoryUse(70, "the driver's count for this process")


def test_the_whole_device_where_the_driver_does_not_know_the_process(readings: list[DeviceMemory]) -> None:
    readings += [DeviceMemory(None, 100), DeviceMemory(None, 140), DeviceMemory(None, 190)]
    assert _looked(2) == DeviceMemoryUse(90, "growth of what the whole device uses, others included")


def test_nothing_tells(readings: list[DeviceMemory]) -> None:
    readings += [DeviceMemory(None, None)] * 3
    assert _looked(2) == DeviceMemoryUse(None, "not measurable here: no NVIDIA driver tells")


def test_no_device() -> None:
    meter = DeviceMemoryMeter("cpu", 0)
    meter.look()
    assert meter.found == NO_DEVICE
