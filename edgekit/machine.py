"""The machine as edgekit may use it: cores by affinity and cgroup, CPU features, memory, versions."""

from __future__ import annotations

import math
import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

import psutil

from edgekit.nvidia import Gpu, gpus
from edgekit.runtime.choose import cpu_flags

# Linux flag -> the name people use; what int8 and bf16 kernels look at.
_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX512F",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "asimddp": "NEON-DOTPROD",
    "i8mm": "NEON-I8MM",
}
_PACKAGES = ("edgekit", "onnxruntime", "onnxruntime-gpu", "onnx", "onnx-ir", "torch", "lightning", "numpy")


def available_cores() -> int:
    """Cores that this process may use: the smaller of its affinity and its cgroup's quota, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_cores()
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def cgroup_directories(
    controller: str, root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> list[Path]:
    """Directories that limit this process: its cgroup and all above it, in version 2 and in version 1.

    Inside a container the path of `membership` may be the host's, of which only the top is mounted.
    """
    lines = membership.read_text().splitlines() if membership.exists() else []
    found = [root, root / controller]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        top = root if not controllers else root / controller
        if ".." not in Path(path).parts and (not controllers or controller in controllers.split(",")):
            below = top / path.lstrip("/")
            found += [d for d in (below, *below.parents) if d.is_relative_to(top)]
    return [d for d in dict.fromkeys(found) if d.is_dir()]


def cgroup_cores(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """CPU quota in cores, the least of all cgroups that this process is in; None where there is no limit."""
    quotas = [_quota(d) for d in cgroup_directories("cpu", root, membership)]
    return min((q for q in quotas if q is not None), default=None)


def _quota(directory: Path) -> float | None:
    v2, v1 = directory / "cpu.max", directory / "cpu.cfs_quota_us"
    if v2.exists():
        quota, period = v2.read_text().split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    if v1.exists():
        quota_us = int(v1.read_text())
        return None if quota_us < 0 else quota_us / int((directory / "cpu.cfs_period_us").read_text())
    return None


def memory_bytes(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Memory that this process may use: the machine's, or its cgroups' least limit where that is lower."""
    total = int(psutil.virtual_memory().total)
    held = cgroup_directories("memory", root, membership)
    limits = [_limit(d / file) for d in held for file in ("memory.max", "memory.limit_in_bytes")]
    return min([total, *filter(None, limits)])


def _limit(file: Path) -> int | None:
    text = file.read_text().strip() if file.exists() else ""
    return int(text) if text.isdigit() else None


def cpu_features() -> dict[str, bool]:
    """Which of the instruction sets that matter to quantised kernels this CPU has."""
    flags, arm = cpu_flags(), is_arm()
    wanted = [f for f in _FEATURES if f.startswith(("asimd", "i8mm")) == arm]
    return {_FEATURES[f]: f in flags for f in wanted}


def is_arm() -> bool:
    """Whether this is a 64-bit ARM machine."""
    return platform.machine().lower() in ("aarch64", "arm64")


def has_vnni() -> bool:
    """Whether this x86 CPU adds products of 8-bit integers in 32 bits, by any of the three extensions that do."""
    return bool({"avx512_vnni", "avx_vnni", "amx_int8"} & cpu_flags())


@cache
def cpu_model() -> str:
    """The CPU's name."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def peak_rss_bytes() -> int:
    """The most resident memory that this process has had.

    Linux's `ru_maxrss` is no use here: a child inherits its parent's peak through exec.
    """
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that can change a result."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def governor(root: Path = Path("/sys/devices/system/cpu")) -> str | None:
    """What sets the CPU's clock, such as "performance"; None where the system does not tell, as in most containers."""
    found = sorted({f.read_text().strip() for f in root.glob("cpu[0-9]*/cpufreq/scaling_governor")})
    return ", ".join(found) or None


def system_name() -> str:
    """The distribution or system, as its makers call it."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _about(gpu: Gpu) -> dict[str, object]:
    kept = ("name", "driver", "cuda", "compute_capability", "memory_bytes")
    return {name: getattr(gpu, name) for name in kept}


def facts() -> dict[str, object]:
    """What a figure must carry to be read later: CPU, cores, memory, GPUs, system and versions.

    Nothing in it changes from run to run. None is what this system does not tell.
    """
    return {
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "cores": available_cores(),
        "machine_cores": os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "cgroup_cores": cgroup_cores(),
        "governor": governor(),
        "virtual": "hypervisor" in cpu_flags(),
        "cpu_features": [name for name, there in cpu_features().items() if there],
        "memory_bytes": memory_bytes(),
        "gpus": [_about(gpu) for gpu in gpus()],
        "system": f"{platform.system()} {platform.release()}",
        "distribution": system_name(),
        "python": platform.python_version(),
        "versions": package_versions(),
    }
