"""Memory taken on a device."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.nvidia import gpus, used_memory
from edgekit.ort.providers import find_provider


@dataclass(frozen=True)
class DeviceMemoryUse:
    """What was taken on the device.

    Attributes:
        peak_bytes: The most that was seen; None where it cannot be measured.
        source: How it was measured, or why it was not.
    """

    peak_bytes: int | None
    source: str


NO_DEVICE = DeviceMemoryUse(None, "no device: the provider runs on the CPU")


class DeviceMemoryMeter:
    """Looks at a GPU's memory now and then.

    ONNX Runtime's arena gives nothing back while a session lives, so that a look after the runs sees the peak, but for
    what kernels took and gave back within a run.

    Args:
        provider: Short name.
        device: Index of the device.
    """

    def __init__(self, provider: str, device: int) -> None:
        memory = find_provider(provider).memory
        found = gpus() if memory == "cuda" else ()
        self._gpu = found[device] if device < len(found) else None
        self._lacking = DeviceMemoryUse(None, "not measurable here: no NVIDIA driver tells") if memory else NO_DEVICE
        self._before = used_memory(self._gpu).all_bytes if self._gpu else None
        self._own: list[int] = []
        self._all: list[int] = []

    def look(self) -> None:
        """Read what is in use now."""
        if self._gpu is None:
            return
        used = used_memory(self._gpu)
        if used.own_bytes is not None:
            self._own.append(used.own_bytes)
        if used.all_bytes is not None:
            self._all.append(used.all_bytes)

    @property
    def found(self) -> DeviceMemoryUse:
        """The most that was seen."""
        if self._own:
            return DeviceMemoryUse(max(self._own), "the driver's count for this process")
        if self._all and self._before is not None:
            return DeviceMemoryUse(
                max(0, max(self._all) - self._before), "growth of what the whole device uses, others included"
            )
        return self._lacking
