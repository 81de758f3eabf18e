"""The shared libraries that providers load: finding them in Python packages, and naming those that are missing."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgekit.ort.providers import PROVIDERS, Provider
from edgekit.ort.runtime import require_ort
from edgekit.ort.trial import try_provider

_TENSORRT_PACKAGE = "tensorrt_libs"
_TENSORRT_FILES = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")
_UNRESOLVED = re.compile(r"(\S+): cannot open shared object file")


def preload_libraries(provider: Provider) -> None:
    """Load what a GPU provider needs from NVIDIA's Python packages; the system's libraries are found without."""
    if not any(library.start == "libcuda." for library in provider.libraries):
        return
    preload = getattr(require_ort(), "preload_dlls", None)
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # what is missing is named when the session is not created
            preload()
    if provider.builds_engines:
        _preload_tensorrt()


def _preload_tensorrt() -> None:
    """Load TensorRT from its Python package, so that nobody has to set LD_LIBRARY_PATH."""
    found = importlib.util.find_spec(_TENSORRT_PACKAGE)
    for directory in (found.submodule_search_locations or ()) if found else ():
        for name in _TENSORRT_FILES:
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(Path(directory) / name), mode=ctypes.RTLD_GLOBAL)


def brings(library: str) -> str:
    """What to install for a library that is missing; "" where nobody told us.

    >>> brings("libcuda.so.1")
    'an NVIDIA driver'
    """
    known = {known.start: known.brings for provider in PROVIDERS.values() for known in provider.libraries}
    starts = [start for start in known if library.startswith(start)]
    return known[max(starts, key=len)] if starts else ""


def why_not_loaded(provider: Provider, options: Mapping[str, str] | None = None) -> str:
    """Which libraries a provider misses and what brings them; what ONNX Runtime says, where it misses none.

    Args:
        provider: One that is compiled in, and whose session was not created.
        options: The provider options that it was given.
    """
    missing = missing_libraries(provider)
    if missing:
        return f"{', '.join(missing)} not found; {remedy(provider, missing)}"
    said = try_provider(provider.name, options).complaint
    return f"{said}; {remedy(provider, ())}" if said else remedy(provider, ())


def remedy(provider: Provider, missing: Sequence[str]) -> str:
    """What to install for a provider that misses these libraries."""
    known = list(dict.fromkeys(filter(None, map(brings, missing))))
    otherwise = f"it needs {provider.needs}" if provider.needs else f"it comes with {provider.package}"
    return "; ".join(known) or otherwise


def missing_libraries(provider: Provider, log: str = "") -> list[str]:
    """The shared libraries that a provider wants and the loader does not find, after preloading.

    Args:
        provider: One whose session was not created.
        log: What the loader said meanwhile; it names the first.
    """
    wanted = [*_UNRESOLVED.findall(log), *_unresolved_by_ldd(provider)]
    if any(library.start == "libcuda." for library in provider.libraries):
        wanted.append("libcuda.so.1")  # CUDA opens the driver's library by itself, so that ldd does not list it
    return [library for library in dict.fromkeys(wanted) if not _loads(library)]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)  # preloaded libraries are there although ldd cannot see them
    except OSError:
        return False
    return True


def _unresolved_by_ldd(provider: Provider) -> Iterator[str]:
    stem = f"libonnxruntime_providers_{provider.ort_name.removesuffix('ExecutionProvider').lower()}.so"
    library = Path(require_ort().__file__).parent / "capi" / stem
    if not library.exists() or shutil.which("ldd") is None:
        return
    done = subprocess.run(["ldd", str(library)], capture_output=True, text=True, timeout=20)
    for line in done.stdout.splitlines():
        if line.endswith("not found"):
            yield line.split()[0]
