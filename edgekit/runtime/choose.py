"""Which of a bundle's variants this machine runs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgekit.errors import BundleError, MissingPackageError, ProviderError, unknown
from edgekit.runtime.manifest import Manifest, Variant

_SUFFIX = "ExecutionProvider"
_SHORT = {"directml": "dml"}
_CPU_FLAGS = {"neon": "asimd", "neon_dotprod": "asimddp", "neon_i8mm": "i8mm"}
# A CPU has VNNI under either of these names, and ARM's int8 sums need none: they do not saturate.
_SAME_FLAG = {
    "vnni": ("avx512_vnni", "avx_vnni", "amx_int8", "asimd"),
    "avx512_vnni": ("avx512_vnni", "avx_vnni"),
}


@dataclass(frozen=True)
class Candidate:
    """A variant on a provider.

    Attributes:
        variant: Which.
        provider: ONNX Runtime's name.
    """

    variant: Variant
    provider: str

    def __str__(self) -> str:
        return f"{self.variant.name} on {short_provider(self.provider)}"


def import_ort() -> Any:
    """The onnxruntime package.

    Raises:
        MissingPackageError: if there is none.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise MissingPackageError("bundles run on ONNX Runtime; install it: pip install onnxruntime") from None
    return onnxruntime


def short_provider(name: str) -> str:
    """What people call a provider.

    >>> short_provider("CUDAExecutionProvider")
    'cuda'
    """
    short = name.removesuffix(_SUFFIX).lower()
    return next((ours for ours, theirs in _SHORT.items() if theirs == short), short)


def list_candidates(manifest: Manifest, provider: str | None, variant: str | None) -> list[Candidate]:
    """What may be tried, in the manifest's order.

    Args:
        manifest: Of the bundle.
        provider: Short or ONNX Runtime's name of the only one to try; None for any.
        variant: Name of the only one to try; None for any.

    Raises:
        BundleError: if the bundle has no such variant.
        ProviderError: if no such variant is for that provider.
    """
    variants = [v for v in manifest.variants if variant in (None, v.name)]
    if not variants:
        raise BundleError(unknown("variant", variant, [v.name for v in manifest.variants]))
    wanted = None if provider is None else short_provider(provider)
    found = [Candidate(v, p) for v in variants for p in v.providers if wanted in (None, short_provider(p))]
    if not found:
        there = ", ".join(f"{v.name} ({', '.join(map(short_provider, v.providers))})" for v in variants)
        raise ProviderError(f"bundle {manifest.name} has no variant for provider {wanted!r}; it has {there}")
    return found


def why_not(candidate: Candidate) -> str:
    """Why a variant cannot run here; "" if nothing speaks against a try."""
    ort, variant = import_ort(), candidate.variant
    if older_than(ort.__version__, variant.minimum_onnxruntime):
        return f"it needs ONNX Runtime {variant.minimum_onnxruntime} or newer, and {ort.__version__} is installed"
    if candidate.provider not in ort.get_available_providers():
        return f"the installed ONNX Runtime has no {short_provider(candidate.provider)}"
    lacking = missing_features(variant.cpu_features) if short_provider(candidate.provider) == "cpu" else []
    return f"this CPU has no {', '.join(lacking)}" if lacking else ""


def older_than(installed: str, wanted: str) -> bool:
    """Whether a version is below another, by their numbers.

    >>> older_than("1.9.0", "1.17")
    True
    """
    numbers = [[int(n) for n in re.findall(r"\d+", version)[:2]] for version in (installed, wanted)]
    return numbers[0] < numbers[1]


def missing_features(wanted: Sequence[str]) -> list[str]:
    """Which CPU features are not there; none where the system does not tell."""
    flags = cpu_flags() if wanted else frozenset()
    return [name for name in wanted if flags and not flags.intersection(_flags_of(name))]


def _flags_of(feature: str) -> tuple[str, ...]:
    flag = feature.lower().replace("-", "_")
    return _SAME_FLAG.get(flag, (_CPU_FLAGS.get(flag, flag),))


@cache
def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What Linux says that the CPU has; empty on other systems."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split() if found else ())


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may use, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit, period = quota.read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(limit) / int(period))))
    except (OSError, ValueError):  # no such file, or "max"
        return cores
