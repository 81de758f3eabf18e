"""Built engines, kept between processes; one that was built for anything else is never used.

ONNX Runtime itself keys its cache by the model's file name and node names, so two versions of a model can meet. Here
each key has a directory of its own, with a manifest that says what it was built for and what it holds.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.files import digest, make_directory, output_errors, sha256_of, sweep, write_json

_MANIFEST = "engine.json"


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on.

    Attributes:
        model_sha256: Of the model's file and its external data.
        onnxruntime: Version.
        tensorrt: Version.
        driver: The NVIDIA driver's version.
        gpu: Its name.
        compute_capability: Its SM, such as "9.0".
        options: Provider options, those of the caches left out.
        shapes: Range of each dynamic input, as text.
    """

    model_sha256: str
    onnxruntime: str
    tensorrt: str
    driver: str
    gpu: str
    compute_capability: str
    options: Mapping[str, str]
    shapes: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Names the engine's directory."""
        return digest(asdict(self))

    @property
    def machine_digest(self) -> str:
        """Names the directory of kernel timings, which hold for all models on this GPU and these versions."""
        facts = (self.onnxruntime, self.tensorrt, self.driver, self.gpu, self.compute_capability)
        return digest(list(facts))


@dataclass(frozen=True)
class KeptEngine:
    """An engine that was built before.

    Attributes:
        directory: Where ONNX Runtime finds it.
        build_ms: How long it took to build.
    """

    directory: Path
    build_ms: float


@dataclass(frozen=True)
class Engine:
    """A model compiled for a provider, and the options that make a session use it.

    Attributes:
        options: Provider options.
        build_ms: Creation of the session and one run of each batch, in a process of its own, with an empty cache.
        cached: Whether it was built earlier, and `build_ms` measured then.
        shapes: Range of each dynamic input, as LEAST:BEST:MOST.
    """

    options: Mapping[str, str]
    build_ms: float
    cached: bool
    shapes: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        return {"build_ms": self.build_ms, "engine_cached": self.cached, "engine_shapes": dict(self.shapes)}


def engines_home() -> Path:
    """Where engines are kept: the user's cache directory."""
    import platformdirs

    return platformdirs.user_cache_path("edgekit") / "tensorrt"


def find_engine(key: EngineKey, home: Path) -> KeptEngine | None:
    """The engine of exactly this key; one that is incomplete, changed or of another key is removed instead.

    Args:
        key: What it must have been built for.
        home: Where engines are kept.
    """
    directory = home / key.digest
    manifest = _read_manifest(directory)
    build_ms = manifest.get("build_ms")
    if manifest.get("key") == asdict(key) and manifest.get("files") == _hashes(directory) and build_ms is not None:
        return KeptEngine(directory, float(build_ms))
    shutil.rmtree(directory, ignore_errors=True)
    return None


@contextmanager
def building(key: EngineKey, home: Path) -> Iterator[Path]:
    """A directory to build an engine in; it is thrown away unless `keep` takes it.

    Raises:
        OutputError: where the cache cannot be written.
    """
    make_directory(home)
    sweep(home)
    staging = home / f".{key.digest}.{os.getpid()}.tmp"
    try:
        with output_errors(home):
            staging.mkdir()
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def keep(staging: Path, key: EngineKey, build_ms: float, home: Path) -> KeptEngine:
    """Keep what was built in `staging`; where another process was first, its engine stays.

    Raises:
        OutputError: where the cache cannot be written.
    """
    target = home / key.digest
    manifest = {"key": asdict(key), "files": _hashes(staging), "build_ms": build_ms}
    write_json(staging / _MANIFEST, manifest)  # last, so that a directory with a manifest is whole
    with output_errors(home):
        try:
            staging.rename(target)
        except OSError:
            if find_engine(key, home) is None:
                staging.rename(target)
    return KeptEngine(target, build_ms)


def _hashes(directory: Path) -> dict[str, str]:
    files = sorted(p for p in directory.rglob("*") if p.is_file() and p.name != _MANIFEST)
    return {p.relative_to(directory).as_posix(): sha256_of(p) for p in files}


def _read_manifest(directory: Path) -> dict[str, Any]:
    """What a directory says of its engine; nothing where there is none, or where it is no manifest."""
    try:
        manifest = json.loads((directory / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}
