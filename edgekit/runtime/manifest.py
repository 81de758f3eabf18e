"""What a bundle says of itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from edgekit.errors import BundleError
from edgekit.runtime.archive import MANIFEST, FileEntry
from edgekit.runtime.entries import check_postprocessing, check_preprocessing
from edgekit.runtime.fields import Fields, read_json
from edgekit.runtime.names import check_name
from edgekit.specs import TensorSpec

SCHEMA_VERSION = 1
MOST_MANIFEST_BYTES = 16 << 20
_DTYPES = (
    *("float16", "bfloat16", "float32", "float64", "bool", "object"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
_LARGEST_DIM = (1 << 31) - 1
_MOST_THREADS = 1024
# Session config entries that change speed or memory alone: others name files, load code, or write what they see.
SESSION_CONFIG = (
    "session.disable_prepacking",
    "session.dynamic_block_base",
    "session.force_spinning_stop",
    "session.inter_op.allow_spinning",
    "session.intra_op.allow_spinning",
    "session.set_denormal_as_zero",
    "session.use_device_allocator_for_initializers",
)
_CONFIG_VALUE = re.compile("[0-9]{1,9}")
_LEVELS = ("all", "layout", "extended", "basic", "disable")
_EXECUTION_MODES = ("sequential", "parallel")


@dataclass(frozen=True)
class SessionSettings:
    """How ONNX Runtime opens a variant.

    Attributes:
        graph_optimization_level: all, layout, extended, basic or disable.
        intra_op_threads: 0 for what the machine has.
        config: Session config entries.
        execution_mode: sequential, or parallel where nodes run side by side.
        inter_op_threads: How many nodes run side by side; 0 for what the machine has.
        enable_mem_pattern: Whether the memory of a run is planned from the first run of the same shapes.
        enable_cpu_mem_arena: Whether memory is kept between runs rather than given back.
    """

    graph_optimization_level: str = "all"
    intra_op_threads: int = 0
    config: Mapping[str, str] = field(default_factory=dict)
    execution_mode: str = "sequential"
    inter_op_threads: int = 0
    enable_mem_pattern: bool = True
    enable_cpu_mem_arena: bool = True


@dataclass(frozen=True)
class Variant:
    """One of a bundle's models.

    Attributes:
        name: Such as int8.
        file: Its path in the bundle.
        format: onnx or ort.
        target: What it was made for, such as cpu.
        providers: ONNX Runtime's names of those that it may run on, the best first.
        session: How ONNX Runtime opens it.
        precision: Such as int8.
        opsets: Domain -> version.
        ir_version: Of the ONNX file.
        minimum_onnxruntime: The oldest that loads it, X.Y; "" where nobody knows.
        cpu_features: What the CPU must have, such as avx512_vnni.
        encrypted: How, or None.
        size_bytes: Of its files.
        metric: Name, value, n, interval and drop; None where it was not judged.
        bench: Measured latencies.
        lineage: The steps that made it.
    """

    name: str
    file: str
    format: str
    target: str
    providers: tuple[str, ...]
    session: SessionSettings
    precision: str
    opsets: Mapping[str, int]
    ir_version: int
    minimum_onnxruntime: str
    cpu_features: tuple[str, ...]
    encrypted: Mapping[str, Any] | None
    size_bytes: int
    metric: Mapping[str, Any] | None
    bench: tuple[Mapping[str, Any], ...]
    lineage: tuple[Mapping[str, Any], ...]

    @property
    def folder(self) -> str:
        """Of its files, with a / at the end."""
        return self.file.rpartition("/")[0] + "/"


@dataclass(frozen=True)
class Manifest:
    """A bundle's manifest.json.

    Attributes:
        edgekit: The version that wrote it.
        name: Of the model.
        version: Of the model.
        created: When, ISO 8601.
        description: One line.
        license: Of the model.
        task: Such as classification.
        family: Such as cnn.
        classes: Their names; of the targets, for numbers.
        inputs: Of every variant.
        outputs: Of every variant.
        preprocessing: From a picture, a text or a series to the inputs; None where arrays go in as they are.
        postprocessing: From the outputs to an answer.
        guard: What inputs and outputs looked like on calibration data; {} where nobody looked.
        variants: The first that runs on a machine is the one to take there.
        golden: Inputs, and the outputs that belong to them.
        files: Every file but this one and its signature.
    """

    edgekit: str
    name: str
    version: str
    created: str
    description: str
    license: str
    task: str
    family: str
    classes: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Mapping[str, Any] | None
    postprocessing: Mapping[str, Any]
    guard: Mapping[str, Any]
    variants: tuple[Variant, ...]
    golden: Mapping[str, Any]
    files: Mapping[str, FileEntry]


def read_manifest(content: bytes, file: str = MANIFEST) -> Manifest:
    """Read a manifest.json, strictly.

    Args:
        content: Its bytes.
        file: What to call it in messages.

    Raises:
        BundleError: if it is damaged, or of a newer edgekit; the message names the field.
    """
    root = Fields(read_json(content, file), file)
    _check_schema(root, file)
    files = {name: _entry(fields) for name, fields in _named(root, "files", file)}
    for name in files:
        check_name(name, file)
    variants = tuple(_variant(fields, files) for fields in root.children("variants"))
    _refuse_twice(root, "variants", [v.name for v in variants])
    inputs, outputs = _tensors(root, "inputs"), _tensors(root, "outputs")
    before, after, classes = root.child("preprocessing"), root.child("postprocessing"), root.texts("classes", ())
    return Manifest(
        **{key: root.text(key) for key in ("edgekit", "name", "version", "created", "task")},
        **{key: root.text(key, "") for key in ("license", "family")},
        description=root.text("description", "", lines=True),
        classes=classes,
        inputs=inputs,
        outputs=outputs,
        preprocessing=None if before is None else check_preprocessing(before, inputs, files),
        postprocessing={"kind": "none"} if after is None else check_postprocessing(after, outputs, classes),
        guard=root.raw.get("guard") or {},
        variants=variants,
        golden=root.raw.get("golden") or {},
        files=files,
    )


def _check_schema(root: Fields, file: str) -> None:
    found = root.whole("schema_version", least=1)
    if found > SCHEMA_VERSION:
        raise BundleError(
            f"{file} has schema version {found}, written by edgekit {root.raw.get('edgekit', '?')}; this edgekit reads "
            f"{SCHEMA_VERSION}: install a newer one"
        )


def _named(root: Fields, key: str, file: str) -> list[tuple[str, Fields]]:
    return [(name, Fields(value, file, f"{key}[{name!r}]")) for name, value in root.table(key).items()]


def _entry(fields: Fields) -> FileEntry:
    sha256 = fields.text("sha256")
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise fields.wrong("sha256", f"must be 64 hexadecimal digits in lower case, got {sha256[:80]!r}")
    return FileEntry(sha256, fields.whole("bytes"))


def _variant(fields: Fields, files: Mapping[str, FileEntry]) -> Variant:
    file, encrypted = fields.text("file"), fields.child("encrypted")
    if file not in files:
        raise fields.wrong("file", f"names {file!r}, which `files` does not list")
    metric = fields.child("metric")
    return Variant(
        name=fields.text("name"),
        file=file,
        format=fields.one_of("format", ("onnx", "ort"), "onnx"),
        target=fields.text("target", "cpu"),
        providers=_providers(fields),
        session=_session(fields.child("session")),
        precision=fields.text("precision", ""),
        opsets=fields.table("opsets", {}),
        ir_version=fields.whole("ir_version", 0),
        minimum_onnxruntime=fields.text("minimum_onnxruntime", ""),
        cpu_features=fields.texts("cpu_features", ()),
        encrypted=None if encrypted is None else encrypted.raw,
        size_bytes=fields.whole("size_bytes", 0),
        metric=None if metric is None else metric.raw,
        bench=_tables(fields, "bench"),
        lineage=_tables(fields, "lineage"),
    )


def _providers(fields: Fields) -> tuple[str, ...]:
    found = fields.texts("providers")
    _refuse_twice(fields, "providers", found)
    if not found:
        raise fields.wrong("providers", "is empty")
    return found


def _session(fields: Fields | None) -> SessionSettings:
    if fields is None:
        return SessionSettings()
    config = fields.child("config") or Fields({}, "")
    for key in config.raw:
        if key not in SESSION_CONFIG:
            raise config.wrong(key, f"is none that a bundle may set: {', '.join(SESSION_CONFIG)}")
        if not _CONFIG_VALUE.fullmatch(config.text(key)):
            raise config.wrong(key, f"must be digits, got {config.text(key)[:40]!r}")
    return SessionSettings(
        graph_optimization_level=fields.one_of("graph_optimization_level", _LEVELS, "all"),
        intra_op_threads=fields.whole("intra_op_threads", 0, most=_MOST_THREADS),
        config=config.raw,
        execution_mode=fields.one_of("execution_mode", _EXECUTION_MODES, "sequential"),
        inter_op_threads=fields.whole("inter_op_threads", 0, most=_MOST_THREADS),
        enable_mem_pattern=fields.truth("enable_mem_pattern", True),
        enable_cpu_mem_arena=fields.truth("enable_cpu_mem_arena", True),
    )


def _tables(fields: Fields, key: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(f.raw for f in fields.children(key)) if fields.raw.get(key) else ()


def _tensors(root: Fields, key: str) -> tuple[TensorSpec, ...]:
    found = tuple(
        TensorSpec(
            name=fields.text("name"),
            dtype=fields.one_of("dtype", _DTYPES),
            shape=fields.items("shape", partial(_dim, fields)),
            vocabulary=fields.whole("vocabulary", least=1) if fields.raw.get("vocabulary") is not None else None,
        )
        for fields in root.children(key)
    )
    _refuse_twice(root, key, [spec.name for spec in found])
    return found


def _dim(fields: Fields, value: Any, place: str) -> int | str:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_DIM):
        return value
    raise fields.wrong(place, f"must be a name or a whole number above 0, got {value!r}")


def _refuse_twice(fields: Fields, key: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise fields.wrong(key, f"has {Counter(names).most_common(1)[0][0]!r} twice")
