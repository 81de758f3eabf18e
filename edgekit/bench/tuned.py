"""The file of `bench --tune`, written for `bench --session-options`, bundles and any app."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekit.bench.optimized import OptimizedFile, find_optimized
from edgekit.errors import ModelError, unknown
from edgekit.ort import SessionOptions
from edgekit.runtime.manifest import SESSION_CONFIG

_MOST_BYTES = 10 << 20
Count = Annotated[int, Field(gt=0, le=1024)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SessionSettings(_Strict):
    """Attributes of `onnxruntime.SessionOptions`, by its own names."""

    graph_optimization_level: (
        Literal["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_LAYOUT", "ORT_ENABLE_ALL"]
        | None
    ) = None
    execution_mode: Literal["ORT_SEQUENTIAL", "ORT_PARALLEL"] | None = None
    enable_cpu_mem_arena: bool | None = None
    enable_mem_pattern: bool | None = None
    inter_op_num_threads: Count | None = None


class TunedFile(_Strict):
    """What the file holds; only the first four change a session, the others say where they come from."""

    session_options: SessionSettings = SessionSettings()
    config_entries: dict[str, str] = Field(default_factory=dict)
    threads: Count | None = None
    optimized_model: OptimizedFile | None = None
    speedup: float | None = None
    ci95: list[float] | None = None
    verdict: str | None = None
    objective: str = "latency"
    proof: dict[str, Any] | None = None
    trials: list[dict[str, Any]] = Field(default_factory=list)
    model: str = ""
    model_sha256: str = ""
    provider: str = "cpu"
    batch: int | None = None
    streams: int | None = None
    default_threads: int | None = None
    machine: dict[str, Any] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    complete: bool = True

    @property
    def options(self) -> SessionOptions:
        """What a session takes, the optimised file left out, which is for one model on one machine."""
        held = self.session_options.model_dump()
        return SessionOptions(**held, config_entries=dict(self.config_entries), threads=self.threads)


def read_options(path: Path, models: Sequence[Path], providers: Sequence[str] = ("cpu",)) -> SessionOptions:
    """What a file says of how sessions of these models are made.

    Raises:
        ModelError: as `read_tuned`, and if it holds an optimised file that is not for these models, here.
    """
    tuned = read_tuned(path)
    if tuned.optimized_model is None:
        return tuned.options
    place = find_optimized(tuned.optimized_model, path, models, providers)
    return replace(tuned.options, optimized_model=str(place))


def read_tuned(path: Path) -> TunedFile:
    """Read a file of session options.

    Raises:
        ModelError: if it is not there, is no JSON object, or holds a key or a value that is unknown; the nearest name
            is told.
    """
    content = _read_object(path)
    _known(path, "key", content, TunedFile.model_fields)
    parts: dict[str, Iterable[str]] = {
        "session_options": SessionSettings.model_fields,
        "config_entries": SESSION_CONFIG,
        "optimized_model": OptimizedFile.model_fields,
    }
    for part, allowed in parts.items():
        if isinstance(content.get(part), dict):
            _known(path, f"key of {part}", content[part], allowed)
    try:
        return TunedFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelError(f"{path}: {where}: {first['msg']}, got {first['input']!r}") from None


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"session options {path} are not there; `edgekit bench MODEL --tune --out {path}` makes them")
    if path.stat().st_size > _MOST_BYTES:
        raise ModelError(f"{path} is no file of session options: it has {path.stat().st_size:,} bytes")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is no file of session options: it is no JSON") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} is no file of session options: it holds no JSON object")
    return content


def _known(path: Path, kind: str, held: Mapping[str, Any], allowed: Iterable[str]) -> None:
    names = list(allowed)
    for key in held:
        if key not in names:
            raise ModelError(f"{path}: {unknown(kind, key, names)}")
