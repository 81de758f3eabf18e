"""Where a target's latency can be measured: on this machine with its provider, or nowhere here."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from edgekit.compress import Target
from edgekit.errors import ProviderError
from edgekit.machine import has_vnni, is_arm
from edgekit.ort.tiny_run import run_tiny

_PROVIDERS: dict[Target, str] = {"cuda": "cuda", "tensorrt": "tensorrt"}


@dataclass(frozen=True)
class Place:
    """What of a target this machine can tell.

    Attributes:
        provider: Short name of the provider that latency is measured with.
        absence: Why latency cannot be measured here; "" where it can.
        caveat: In what this machine differs from the target although latency is measured; "" where in nothing.
    """

    provider: str = "cpu"
    absence: str = ""
    caveat: str = ""

    @property
    def verdict(self) -> str:
        """What stands in the place of a verdict on latency."""
        return f"not measured: {self.absence}" if self.absence else ""

    @property
    def said(self) -> str:
        """What a reader of the figures must know; "" where they are the target's own."""
        if self.absence:
            return (
                f"latency was not measured, since {self.absence}; chosen by size among files that compute on integers, "
                "and by accuracy computed on the CPU"
            )
        return self.caveat


def place_of(target: Target) -> Place:
    """Where the latency of a target is measured."""
    if target in _PROVIDERS:
        provider = _PROVIDERS[target]
        absence = "" if provider_runs(provider) else f"provider {provider} is not on this machine"
        return Place(provider, absence)
    if target == "arm" and not is_arm():
        return Place(absence=f"target arm is not this machine ({platform.machine()})")
    if target == "web":
        return Place(caveat="latency was measured by ONNX Runtime on this CPU, not in a browser")
    if target == "cpu-no-vnni" and has_vnni():
        return Place(caveat="latency was measured on a CPU with VNNI, which is faster in int8 than the target")
    return Place()


def provider_runs(provider: str) -> bool:
    """Whether a session of one addition runs on a provider here."""
    try:
        run_tiny(provider)
    except ProviderError:
        return False
    return True
