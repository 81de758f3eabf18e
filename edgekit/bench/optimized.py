"""A model as ONNX Runtime optimised it, kept in a file: sessions on it start sooner, on machines like this one alone.

ONNX Runtime lays weights out for the instruction sets at hand and names kernels that other versions may lack, so each
file has a record of what it was made for, and is refused elsewhere.
Source: onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html, offline mode.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from onnx import external_data_helper
from pydantic import BaseModel, ConfigDict, Field

from edgekit import machine
from edgekit.errors import ModelError
from edgekit.files import digest, replacing, sha256_of
from edgekit.graph.read import data_files, read_structure, size_bytes
from edgekit.ort import Session, SessionOptions, require_ort
from edgekit.specs import Feeds

_MOST_BYTES = 2_000_000_000  # what protobuf can hold, less what optimisation may add


class OptimizedFile(BaseModel):
    """What an optimised file was made of and for.

    Attributes:
        file: Its name, in the directory of the session options.
        sha256: Of its bytes.
        original_sha256: Of the model that it was made of and that one's external data.
        onnxruntime: The version that made it, and the only one that may load it.
        architecture: Of the machine, such as "x86_64".
        cpu_features: The instruction sets that kernels look at, of the CPU that it was made on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    file: Annotated[str, Field(pattern=r"^[^/\\\x00]*[^/\\\x00.][^/\\\x00]*$")]
    sha256: str
    size_bytes: int
    original_sha256: str
    onnxruntime: str
    architecture: str
    cpu_features: list[str]


def save_optimized(model: Path, place: Path, *, threads: int, feeds: Callable[[Session], Feeds]) -> None:
    """Have the CPU's optimised graph written to `place`, and run both.

    Raises:
        ModelError: if it cannot be written or loaded, or answers in other bits than the model.
    """
    if size_bytes(model) > _MOST_BYTES:
        raise ModelError(f"{model} has {size_bytes(model):,} bytes, and one file holds at most {_MOST_BYTES:,}")
    original = Session(model, threads=threads, save_optimized=place)
    _embed_data(place, model)
    optimised = Session(model, threads=threads, tuned=SessionOptions(optimized_model=str(place)))
    used = feeds(original)
    if not all(_alike(a, b) for a, b in zip(original.run(used), optimised.run(used), strict=True)):
        raise ModelError("its outputs differ from the model's")


def _embed_data(place: Path, model: Path) -> None:
    """Take in the external data that ONNX Runtime left with the original: weights that it did not rearrange."""
    if data_files(place):
        held = read_structure(place)
        external_data_helper.load_external_data_for_model(held, str(model.parent))
        place.write_bytes(held.SerializeToString())


def _alike(one: Any, other: Any) -> bool:
    """The same bits, NaN included; sequences and maps as they print."""
    if not isinstance(one, np.ndarray) or one.dtype == object:
        return repr(one) == repr(other)
    return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())


def keep_optimized(draft: Path, model: Path, place: Path) -> OptimizedFile:
    """Move an optimised file to where it stays, in one step, and record what it was made for.

    Raises:
        OutputError: if it cannot be written there.
    """
    with replacing(place) as temporary:
        shutil.copyfile(draft, temporary)
    return OptimizedFile(
        file=place.name,
        sha256=sha256_of(place),
        size_bytes=place.stat().st_size,
        original_sha256=_content(model),
        onnxruntime=_version(),
        architecture=platform.machine(),
        cpu_features=_features(),
    )


def find_optimized(record: OptimizedFile, options: Path, models: Sequence[Path], providers: Sequence[str]) -> Path:
    """The optimised file beside a file of session options, if it is right for these models, here.

    Args:
        record: What `options` says of it.
        options: The file of session options.
        models: What is to be measured.
        providers: And where.

    Raises:
        ModelError: if it is not there, was changed, or was made of another model, by another ONNX Runtime, for another
            CPU or provider.
    """
    place = options.parent / record.file
    for reason in _objections(record, place, models, providers):
        raise ModelError(
            f"{options}: its optimised file {record.file} {reason}; make both again on this machine: edgekit bench "
            f"MODEL --tune --objective session_ms --out {options}"
        )
    return place.resolve()


def _objections(record: OptimizedFile, place: Path, models: Sequence[Path], providers: Sequence[str]) -> Iterator[str]:
    if not place.is_file():
        yield "is not there"
    elif sha256_of(place) != record.sha256:
        yield "was changed since it was proven: its sha256 is not the recorded one"
    for provider in providers:
        if provider != "cpu":
            yield f"was made for the provider cpu, not for {provider}"
    if record.onnxruntime != _version():
        yield f"was made by ONNX Runtime {record.onnxruntime}, and this is {_version()}"
    if (record.architecture, record.cpu_features) != (platform.machine(), _features()):
        made = " with ".join(filter(None, (record.architecture, ", ".join(record.cpu_features))))
        here = " with ".join(filter(None, (platform.machine(), ", ".join(_features()))))
        yield f"was made for another CPU: {made}, and this is {here}"
    for model in models:
        if _content(model) != record.original_sha256:
            yield f"was made of another model than {model}"


def _content(model: Path) -> str:
    return digest([sha256_of(file) for file in (model, *data_files(model))])


def _version() -> str:
    return str(require_ort().__version__)


def _features() -> list[str]:
    return [name for name, there in machine.cpu_features().items() if there]
