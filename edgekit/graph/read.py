"""Reading .onnx files that nobody vouches for: sizes and paths first, then the checker, then the runtime's limits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, numpy_helper

from edgekit.errors import ModelError
from edgekit.ort.compat import installed_ceiling

# Domains whose operators an installed ONNX Runtime can have; a model's own functions add theirs.
_DOMAINS = frozenset(
    (
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.training",
        "ai.onnx.preview.training",
        "com.microsoft",
        "com.microsoft.dml",
        "com.microsoft.experimental",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
        "org.pytorch.aten",
    )
)
_TEXT_SIGNS = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)
_MAX_PROTO = 2**31 - 1


def read_model(path: Path) -> onnx.ModelProto:
    """Read and check a model, its external data included.

    Raises:
        ModelError: if it is not there, empty, truncated, no ONNX, refers to data that is missing, too short or
            outside its directory, or asks for an opset, IR version or domain that the installed runtime lacks.
    """
    model = read_structure(path)
    _check_external_data(model, path)
    _check_runtime_limits(model, path)
    try:
        # only a path tells the checker where external data lies, and a path has no limit of 2 GB
        by_path = path.stat().st_size > _MAX_PROTO // 2 or any(map(_is_external, every_weight(model)))
        onnx.checker.check_model(str(path) if by_path else model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # keys that nobody knows do no harm
            external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        raise ModelError(f"{path} is not a valid ONNX model: {_first_line(error)}") from error
    return model


def read_structure(path: Path) -> onnx.ModelProto:
    """Parse a model without its external data; refuses what is no model at all."""
    if not path.exists():
        raise ModelError(f"model {path} is not there; give the path of an .onnx file")
    if path.is_dir():
        raise ModelError(f"model {path} is a directory; give the path of an .onnx file in it")
    size = path.stat().st_size
    if size == 0:
        raise ModelError(f"model {path} is empty (0 bytes); copy or download it again")
    if size > _MAX_PROTO:
        raise ModelError(
            f"model {path} has {size:,} bytes, and an .onnx file holds at most {_MAX_PROTO:,}; larger models "
            "keep their weights in external data, export it so"
        )
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
    for sign, what in _TEXT_SIGNS:
        if head.startswith(sign):
            raise ModelError(f"model {path} is {what}, not ONNX; download the file itself")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelError(
            f"model {path} ({size:,} bytes) is truncated or not ONNX; copy or download it again"
        ) from error
    if not model.ir_version or not model.graph.node:
        raise ModelError(f"model {path} ({size:,} bytes) holds no graph; it is truncated or not ONNX")
    return model


def every_graph(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and every subgraph of it and of the model's functions, outermost first."""
    yield from _graphs_in(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _subgraphs(node)


def _graphs_in(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        yield from _subgraphs(node)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield from _graphs_in(attribute.g)
        for graph in attribute.graphs:
            yield from _graphs_in(graph)


def every_node(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of every graph and function."""
    for graph in every_graph(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def every_weight(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every initializer and every tensor held in an attribute (Constant nodes and others)."""
    for graph in every_graph(model):
        yield from graph.initializer
    for node in every_node(model):
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors


def data_files(path: Path) -> list[Path]:
    """The files of external data that a model refers to, without the model itself."""
    names = {_location(t) for t in every_weight(read_structure(path)) if _is_external(t)}
    return [path.parent / name for name in sorted(names)]


def size_bytes(path: Path) -> int:
    """Bytes of a model with its external data."""
    return sum(f.stat().st_size for f in data_files(path) if f.exists()) + path.stat().st_size


def refuse_non_finite(model: onnx.ModelProto, path: Path) -> None:
    """Refuse weights that hold NaN or Inf, by name; they pass every other check and ruin quantisation.

    Inf alone in a constant of one element is how exporters write masks; that is no weight and may stay.
    """
    for tensor in every_weight(model):
        if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
            continue
        values = numpy_helper.to_array(tensor)
        bad = np.isnan(values) if values.size == 1 else ~np.isfinite(values)
        if bad.any():
            raise ModelError(
                f"{path}: weight {tensor.name or '(unnamed)'!r} holds {int(bad.sum())} values that are NaN or Inf "
                f"(of {values.size}); the model is broken, export it again"
            )


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(external_data_helper.uses_external_data(tensor))


def _location(tensor: onnx.TensorProto) -> str:
    return next((e.value for e in tensor.external_data if e.key == "location"), "")


def _check_external_data(model: onnx.ModelProto, path: Path) -> None:
    missing: set[str] = set()
    root = path.parent.resolve()
    for tensor in every_weight(model):
        if not _is_external(tensor):
            continue
        where = f"{path}: external data of {tensor.name!r}"
        info = _external_info(tensor, where)
        location = info.location
        parts = PurePosixPath(location).parts + PureWindowsPath(location).parts
        if (
            not location
            or "\0" in location
            or PurePosixPath(location).is_absolute()
            or PureWindowsPath(location).drive
            or ".." in parts
        ):
            raise ModelError(
                f"{where} points outside its directory ({location!r}); edgekit reads only files beside the model"
            )
        file = path.parent / location
        if not file.resolve().is_relative_to(root):
            raise ModelError(f"{where} is a link out of its directory ({location!r}); copy the file beside the model")
        if not file.is_file():
            missing.add(location)
            continue
        offset, there = int(info.offset or 0), file.stat().st_size
        need = _bytes_needed(tensor, where)
        length = int(info.length) if info.length is not None else need
        if offset < 0 or length < 0 or length != need or offset + length > there:
            raise ModelError(
                f"{where} wants {length:,} bytes at {offset:,} of {location!r} for a tensor of {need:,} bytes, and the "
                f"file has {there:,}; copy or export it again"
            )
    if missing:
        raise ModelError(f"{path}: external data is missing beside it: {', '.join(sorted(missing))}")


def _external_info(tensor: onnx.TensorProto, where: str) -> external_data_helper.ExternalDataInfo:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # keys that nobody knows do no harm
            return external_data_helper.ExternalDataInfo(tensor)
    except ValueError as error:
        raise ModelError(f"{where} has no usable bounds ({error}); copy or export it again") from error


def _bytes_needed(tensor: onnx.TensorProto, where: str) -> int:
    packed = {onnx.TensorProto.INT4, onnx.TensorProto.UINT4, onnx.TensorProto.FLOAT4E2M1}
    count: int = math.prod(tensor.dims)
    if tensor.data_type in packed:
        return (count + 1) // 2
    try:
        return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError:
        raise ModelError(
            f"{where} has the element type {tensor.data_type}, which ONNX does not know; export it again"
        ) from None


def _check_runtime_limits(model: onnx.ModelProto, path: Path) -> None:
    ceiling = installed_ceiling()
    if model.ir_version > ceiling.ir_version:
        raise ModelError(
            f"{path} has IR version {model.ir_version}; the installed ONNX Runtime loads at most {ceiling.ir_version}"
        )
    own = {f.domain for f in model.functions}
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and not 1 <= opset.version <= ceiling.opset:
            raise ModelError(
                f"{path} asks for opset {opset.version}; the installed ONNX Runtime loads 1 to {ceiling.opset}; "
                "export it with a supported opset"
            )
    foreign = sorted({n.domain for n in every_node(model)} - _DOMAINS - own)
    if foreign:
        ops = sorted({f"{n.domain}.{n.op_type}" for n in every_node(model) if n.domain in foreign})
        raise ModelError(
            f"{path} uses operators of domains that no installed runtime registers: {', '.join(ops[:5])}"
            f"{' …' if len(ops) > 5 else ''}; edgekit cannot run it"
        )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def proto_bytes(model: onnx.ModelProto) -> int:
    """Bytes of a model in memory; protobuf itself refuses to count beyond 2 GB."""
    weights = sum(tensor.ByteSize() for tensor in every_weight(model))
    return weights if weights > _MAX_PROTO - (1 << 26) else model.ByteSize()
