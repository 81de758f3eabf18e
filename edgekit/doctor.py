"""What is installed, what the machine has, which providers really create a session, and what to do about the rest."""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from edgekit import machine, nvidia
from edgekit.errors import MissingPackageError, brief
from edgekit.ort import PROVIDERS, require_ort
from edgekit.ort.libraries import missing_libraries, remedy
from edgekit.ort.providers import short_name
from edgekit.ort.trial import try_provider

_PACKAGES = (
    *("edgekit", "numpy", "onnx", "onnx-ir", "onnxslim", "onnxscript", "pydantic", "typer", "rich"),
    *("torch", "lightning", "torchmetrics", "scikit-learn", "safetensors"),
    *("transformers", "optimum", "optimum-onnx", "neural-compressor", "torch-pruning"),
)
_INT8_SUMS = ("AVX512-VNNI", "AVX-VNNI", "AMX-INT8")


@dataclass(frozen=True)
class ProviderState:
    """Whether a provider that is compiled in works here.

    Attributes:
        works: A session on a tiny model was created, and ran on it.
        missing: Shared libraries that the loader does not find.
        reason: Why it does not work, in a line.
        fix: What to do.
    """

    name: str
    ort_name: str
    works: bool
    missing: tuple[str, ...] = ()
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Problem:
    """Something that will go wrong, and the line that mends it."""

    what: str
    fix: str


@dataclass(frozen=True)
class Diagnosis:
    """All that `edgekit doctor` knows.

    Attributes:
        packages: Version by name; None where it is not installed.
        ort_distributions: Version of each installed distribution that holds the `onnxruntime` package.
        gpus: NVIDIA's GPUs, as the driver counts them.
        cores: Cores that this process may use, by affinity and cgroup.
        cores_of_machine: All of them.
        memory_bytes: Memory that this process may use.
    """

    python: str
    executable: str
    system: str
    packages: dict[str, str | None]
    ort_distributions: dict[str, str]
    gpus: tuple[nvidia.Gpu, ...]
    cpu: str
    cpu_features: dict[str, bool]
    cores: int
    cores_of_machine: int
    memory_bytes: int
    providers: tuple[ProviderState, ...]
    problems: tuple[Problem, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing needs mending."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        return {
            **vars(self),
            "providers": [{**vars(p), "missing": list(p.missing)} for p in self.providers],
            "gpus": [vars(g) for g in self.gpus],
            "problems": [vars(p) for p in self.problems],
            "healthy": self.healthy,
        }


def examine() -> Diagnosis:
    """Look at Python, packages, ONNX Runtime, the CPU, memory, and try every provider in a child process."""
    distributions, features = ort_distributions(), machine.cpu_features()
    compiled, broken = _compiled_providers()
    providers = try_providers(compiled)
    problems = [
        *_runtime_problems(distributions, broken),
        *_provider_problems(providers),
        *_cpu_problems(features),
    ]
    return Diagnosis(
        python=platform.python_version(),
        executable=sys.executable,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        packages={name: _version(name) for name in _PACKAGES},
        ort_distributions=distributions,
        gpus=nvidia.gpus(),
        cpu=machine.cpu_model(),
        cpu_features=features,
        cores=machine.available_cores(),
        cores_of_machine=os.cpu_count() or 1,
        memory_bytes=machine.memory_bytes(),
        providers=providers,
        problems=tuple(problems),
    )


def ort_distributions() -> dict[str, str]:
    """Every installed distribution that brings files of the package `onnxruntime`, with its version."""
    found = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"] or ""
        # onnxruntime-extensions and -genai have packages of their own, so the name alone does not tell
        if name.startswith(("onnxruntime", "ort-nightly", "ort_nightly")) and _brings_runtime(distribution):
            found[name] = distribution.version
    return dict(sorted(found.items()))


def _brings_runtime(distribution: metadata.Distribution) -> bool:
    return any(file.parts[:2] == ("onnxruntime", "__init__.py") for file in distribution.files or ())


def _compiled_providers() -> tuple[list[str], str]:
    """ONNX Runtime's names of the providers compiled in, and why it does not import, if it does not."""
    try:
        return list(require_ort().get_available_providers()), ""
    except MissingPackageError:
        return [], ""
    except (ImportError, AttributeError) as error:  # files of two distributions mixed, or one of them removed
        return [], brief(error)


def _runtime_problems(distributions: dict[str, str], broken: str) -> list[Problem]:
    if not distributions:
        return [Problem("no ONNX Runtime is installed", "pip install onnxruntime-gpu  (or, with no GPU, onnxruntime)")]
    kept = _kept_distribution(list(distributions))
    # what is kept lost files to the others, so all go and it comes back
    fix = _reinstall(list(distributions), f"{kept}=={distributions[kept]}")
    listed = " and ".join(f"{name} {version}" for name, version in distributions.items())
    if len(distributions) > 1:
        return [Problem(f"{listed} are installed together and overwrite each other's files", fix)]
    return [Problem(f"{listed} is installed but does not import: {broken}", fix)] if broken else []


def _reinstall(gone: Sequence[str], back: str) -> str:
    """The line for this Python's environment, which pip need not be in: uv makes some without."""
    if importlib.util.find_spec("pip") is None:
        where = f"--python {shlex.quote(sys.executable)}"
        return f"uv pip uninstall {where} {' '.join(gone)} && uv pip install {where} --no-deps {back}"
    pip = f"{shlex.quote(sys.executable)} -m pip"
    return f"{pip} uninstall -y {' '.join(gone)} && {pip} install --no-deps {back}"


def _provider_problems(providers: Sequence[ProviderState]) -> list[Problem]:
    """Providers that should load here; without an NVIDIA driver nobody expects those for NVIDIA to."""
    expected = {p.name for p in providers} - (set() if nvidia.has_driver() else {"cuda", "tensorrt"})
    return [
        Problem(f"provider {p.name} does not load: {p.reason}", p.fix)
        for p in providers
        if not p.works and p.name in expected
    ]


def _kept_distribution(names: Sequence[str]) -> str:
    """The GPU build where there is an NVIDIA driver, else the plain one, else the first."""
    first = "onnxruntime-gpu" if nvidia.has_driver() else "onnxruntime"
    return next((n for n in (first, "onnxruntime-gpu", "onnxruntime") if n in names), names[0])


def _cpu_problems(features: dict[str, bool]) -> list[Problem]:
    if "AVX2" in features and not any(features.get(name) for name in _INT8_SUMS):
        return [
            Problem(
                "this CPU has no VNNI: sums of uint8 times int8 saturate and int8 models lose accuracy",
                "quantise with --target cpu-no-vnni",
            )
        ]
    return []


def try_providers(compiled: Sequence[str]) -> tuple[ProviderState, ...]:
    """Create a session on every provider of these, by ONNX Runtime's names, each in a child process."""
    # Azure runs remote models only; there is no local session to try
    wanted = [name for name in compiled if name != "AzureExecutionProvider"]
    with ThreadPoolExecutor(max_workers=4) as pool:
        return tuple(pool.map(_try_provider, wanted))


def _try_provider(ort_name: str) -> ProviderState:
    name = short_name(ort_name)
    provider = PROVIDERS.get(name)
    if provider is None:
        return ProviderState(ort_name, ort_name, False, reason="edgekit does not know this provider", fix="use another")
    trial = try_provider(name)
    if trial.works:
        return ProviderState(name, ort_name, True)
    missing = tuple(missing_libraries(provider, trial.log))
    reason = f"not found: {', '.join(missing)}" if missing else trial.complaint or trial.reason
    return ProviderState(name, ort_name, False, missing, reason, remedy(provider, missing))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
