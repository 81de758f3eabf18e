"""Execution providers by their short names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import ProviderError, unknown


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        name: Short name in recipes and on the command line.
        ort_name: ONNX Runtime's name.
        package: The package that brings an ONNX Runtime with it.
        needs: Libraries outside that package that it loads when a session is created.
    """

    name: str
    ort_name: str
    package: str
    needs: str = ""


PROVIDERS: dict[str, Provider] = {
    p.name: p
    for p in (
        Provider("cpu", "CPUExecutionProvider", "onnxruntime"),
        Provider("cuda", "CUDAExecutionProvider", "onnxruntime-gpu[cuda,cudnn]", "an NVIDIA driver, CUDA, cuDNN"),
        Provider(
            "tensorrt",
            "TensorrtExecutionProvider",
            "onnxruntime-gpu[cuda,cudnn]",
            "CUDA and TensorRT (libnvinfer)",
        ),
        Provider("openvino", "OpenVINOExecutionProvider", "onnxruntime-openvino"),
        Provider("dnnl", "DnnlExecutionProvider", "an ONNX Runtime built with oneDNN"),
        Provider("coreml", "CoreMLExecutionProvider", "onnxruntime (on macOS)"),
        Provider("directml", "DmlExecutionProvider", "onnxruntime-directml"),
        Provider("qnn", "QNNExecutionProvider", "onnxruntime-qnn"),
        Provider("xnnpack", "XnnpackExecutionProvider", "an ONNX Runtime built with XNNPACK"),
        Provider("webgpu", "WebGpuExecutionProvider", "an ONNX Runtime built with WebGPU"),
    )
}


def find_provider(name: str) -> Provider:
    """The provider of this short name.

    Raises:
        ProviderError: if there is no such name; the message holds the nearest.
    """
    try:
        return PROVIDERS[name]
    except KeyError:
        raise ProviderError(unknown("provider", name, PROVIDERS)) from None


def require_provider(name: str) -> Provider:
    """The provider of this short name, if the installed ONNX Runtime was built with it.

    Raises:
        ProviderError: if there is no such name, or it is not in this build; the message says which package brings it.
    """
    from edgekit.ort.session import require_ort

    found = find_provider(name)
    if found.ort_name not in require_ort().get_available_providers():
        raise ProviderError(f"provider {name!r} is not in the installed ONNX Runtime; it comes with {found.package}")
    return found


def preload_libraries(provider: Provider) -> None:
    """Load what a GPU provider needs from NVIDIA's Python packages; the system's libraries are found without."""
    if provider.name not in ("cuda", "tensorrt"):
        return
    from edgekit.ort.session import require_ort

    preload = getattr(require_ort(), "preload_dlls", None)
    if preload is not None:
        preload()


# What brings a library that a provider misses, by the beginning of its name.
_BRINGS = {
    "libcuda.": "an NVIDIA driver",
    "libnvinfer": "TensorRT 10: pip install 'tensorrt<11', and its directory on LD_LIBRARY_PATH",
    "libnvonnxparser": "TensorRT 10: pip install 'tensorrt<11', and its directory on LD_LIBRARY_PATH",
    "libcu": "pip install 'onnxruntime-gpu[cuda,cudnn]'",
    "libopenvino": "pip install onnxruntime-openvino",
}


def brings(library: str) -> str:
    """What to install for a library that is missing; "" where nobody told us.

    >>> brings("libcuda.so.1")
    'an NVIDIA driver'
    """
    return next((what for start, what in _BRINGS.items() if library.startswith(start)), "")


def why_not_loaded(provider: Provider) -> str:
    """Which libraries a provider misses, and what brings them."""
    missing = missing_libraries(provider)
    if not missing:
        return f"{remedy(provider, ())}; `edgekit doctor` tells more"
    return f"{', '.join(missing)} not found; {remedy(provider, missing)}"


def remedy(provider: Provider, missing: Sequence[str]) -> str:
    """What to install for a provider that misses these libraries."""
    known = list(dict.fromkeys(filter(None, map(brings, missing))))
    return "; ".join(known) or f"it needs {provider.needs or provider.package}"


def missing_libraries(provider: Provider, log: str = "") -> list[str]:
    """The shared libraries that a provider wants and the loader does not find, after preloading.

    Args:
        provider: One whose session was not created.
        log: What the loader said meanwhile; it names the first.
    """
    import ctypes

    found = _UNRESOLVED.findall(log)
    for library in _unresolved_by_ldd(provider):
        try:
            ctypes.CDLL(library)  # preloaded libraries are there although ldd cannot see them
        except OSError:
            found.append(library)
    return list(dict.fromkeys(found))


_UNRESOLVED = re.compile(r"(\S+): cannot open shared object file")


def _unresolved_by_ldd(provider: Provider) -> list[str]:
    import shutil
    import subprocess

    from edgekit.ort.session import require_ort

    stem = f"libonnxruntime_providers_{provider.ort_name.removesuffix('ExecutionProvider').lower()}.so"
    library = Path(require_ort().__file__).parent / "capi" / stem
    if not library.exists() or shutil.which("ldd") is None:
        return []
    done = subprocess.run(["ldd", str(library)], capture_output=True, text=True, timeout=20)
    return [line.split()[0] for line in done.stdout.splitlines() if line.endswith("not found")]
