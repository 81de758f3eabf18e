"""Streaming calibration: one pass over the data, a histogram a tensor, memory that does not grow with the samples."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import onnx

from edgekit.compress.quantize.calibration_pass import CalibrationPass
from edgekit.compress.quantize.observers import Method, Observation, Range
from edgekit.data.split import Batch, Split
from edgekit.errors import CompressError
from edgekit.files import digest, write_json
from edgekit.graph.read import proto_bytes
from edgekit.graph.stored import spec_of
from edgekit.graph.write import save
from edgekit.ort import Session
from edgekit.progress import track
from edgekit.specs import TensorSpec

GROUP_BYTES = 64 << 20
_LARGEST_MESSAGE = 1_900_000_000
_FORMAT = 1


def calibrate(
    model: onnx.ModelProto | Path,
    split: Split,
    tensors: Sequence[str],
    *,
    method: Method = "mse",
    percentile: float = 99.99,
    batch: int = 16,
    work: Path | None = None,
) -> dict[str, Range]:
    """The range of every tensor that a calibrator chooses from one pass over the data.

    Args:
        model: A float model.
        split: Its calibration data.
        tensors: Names of float tensors: inputs, or outputs of nodes of the main graph.
        method: "minmax", "percentile", "entropy" or "mse".
        percentile: For "percentile".
        batch: Samples a run, at most; fewer where a run's tensors would exceed 64 MiB.
        work: Where observations are kept for the next run; None keeps none.

    Raises:
        DataError: if the data does not fit the model.
        CompressError: for no tensors, or a tensor that the model does not have.
    """
    seen = observe(model, split, tensors, batch=batch, work=work)
    return {name: found.range(method, percentile=percentile) for name, found in seen.items()}


def observe(
    model: onnx.ModelProto | Path, split: Split, tensors: Sequence[str], *, batch: int = 16, work: Path | None = None
) -> dict[str, Observation]:
    """What every tensor held; every method's ranges follow from it without another pass.

    With `work`, a pass that was interrupted goes on from the last samples that were put on disk.

    Raises:
        DataError: if the data does not fit the model.
        CompressError: for no tensors, or a tensor that the model does not have.
    """
    proto = onnx.load(str(model)) if isinstance(model, Path) else model
    wanted = list(dict.fromkeys(tensors))
    _check_tensors(proto, wanted)
    stored = None if work is None else work / f"calibration-{table_key(proto, split, wanted)[:24]}.json"
    if stored is not None and stored.is_file():
        return _read(stored)
    partial = None if stored is None else stored.with_suffix(".partial.json")
    seen = _stream(proto, split, wanted, batch, partial)
    if stored is not None and partial is not None:
        write_json(stored, {"format": _FORMAT, "tensors": {name: o.to_json() for name, o in seen.items()}})
        partial.unlink(missing_ok=True)
    return seen


def _stream(
    model: onnx.ModelProto, split: Split, wanted: list[str], batch: int, partial: Path | None
) -> dict[str, Observation]:
    inputs = {i.name for i in model.graph.input}
    session = open_with_outputs(model, [t for t in wanted if t not in inputs])
    data = split.matched(session.inputs)
    groups, size = _groups(session, data, wanted, batch)
    at = CalibrationPass.resumed(partial, wanted, [size, groups])
    runs = -(-len(data) // (1 if data.whole_feeds else size))
    while at.group < len(groups):
        title = f"calibrate {at.group + 1}/{len(groups)}" if len(groups) > 1 else "calibrate"
        left = islice(data.batches(session.inputs, size), at.runs, None)
        _run_group(session, track(left, title, total=runs - at.runs), groups[at.group], at)
        at.next_group()
    return at.seen


def _run_group(session: Session, batches: Iterable[Batch], group: list[str], at: CalibrationPass) -> None:
    computed = [name for name in group if name not in {i.name for i in session.inputs}]
    for part in batches:
        for name in set(group) - set(computed):
            at.seen[name].update(part.feeds[name])
        if computed:
            for name, array in zip(computed, session.run(part.feeds, computed), strict=True):
                at.seen[name].update(array)
        at.add_run(part.n)


def open_with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> Session:
    """A session on a model that also gives out these tensors; the model is as it was afterwards."""
    own = len(model.graph.output)
    present = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in present)
    try:
        return open_session(model)
    finally:
        del model.graph.output[own:]


def open_session(model: onnx.ModelProto) -> Session:
    """A session on a model in memory; one that is too large for a message goes through a temporary file."""
    if proto_bytes(model) <= _LARGEST_MESSAGE:
        return Session(model.SerializeToString())
    with tempfile.TemporaryDirectory(prefix="edgekit-calibrate-") as directory:
        path = Path(directory) / "model.onnx"
        save(model, path)
        return Session(path)


def _groups(session: Session, data: Split, wanted: list[str], batch: int) -> tuple[list[list[str]], int]:
    """Tensors in groups, and samples a run, so that what one run gives out stays within GROUP_BYTES."""
    sizes = _sizes(session, data, wanted)
    largest = max(max(sizes.values()), 1)
    total = max(sum(sizes.values()), 1)
    size = max(1, min(batch, GROUP_BYTES // total if total < GROUP_BYTES else GROUP_BYTES // largest))
    groups: list[list[str]] = [[]]
    room = GROUP_BYTES
    for name in wanted:
        need = sizes[name] * size
        if groups[-1] and need > room:
            groups.append([])
            room = GROUP_BYTES
        groups[-1].append(name)
        room -= need
    return groups, size


def _sizes(session: Session, data: Split, wanted: list[str]) -> dict[str, int]:
    """Bytes of every tensor for one sample; measured, since declared shapes may be symbolic or wrong."""
    first = next(iter(data.take(1).batches(session.inputs, 1))).feeds
    sizes = {}
    for start in range(0, len(wanted), 16):
        part = wanted[start : start + 16]
        computed = [name for name in part if name not in first]
        arrays = dict(zip(computed, session.run(first, computed), strict=True)) if computed else {}
        sizes.update({name: (arrays[name] if name in arrays else first[name]).nbytes for name in part})
    return sizes


def _check_tensors(model: onnx.ModelProto, wanted: list[str]) -> None:
    if not wanted:
        raise CompressError("calibration was given no tensors to observe; name at least one")
    known = {i.name for i in model.graph.input} | {o for n in model.graph.node for o in n.output}
    if missing := [t for t in wanted if t not in known]:
        raise CompressError(f"calibration: the model has no tensor {missing[0]!r}; take names from its nodes' outputs")


def table_key(model: onnx.ModelProto, split: Split, wanted: list[str]) -> str:
    """A name for what was seen of these tensors of a model on this data."""
    data = hashlib.sha256()
    for name, array in split.arrays.items():
        data.update(f"{name} {array.dtype} {array.shape}".encode())
        for row in array:  # row by row, so that no copy of the whole is made
            data.update(row.tobytes())
    return digest([_FORMAT, _model_hash(model), data.hexdigest(), wanted])


def _model_hash(model: onnx.ModelProto) -> str:
    """Of the nodes and of every tensor in turn: one message has a limit of 2 GB."""
    found = hashlib.sha256()
    for part in (*model.opset_import, *model.graph.node, *model.graph.initializer):
        found.update(part.SerializeToString(deterministic=True))
    return found.hexdigest()


def _read(path: Path) -> dict[str, Observation]:
    stored = json.loads(path.read_text(encoding="utf-8"))
    return {name: Observation.from_json(o) for name, o in stored["tensors"].items()}


def input_specs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """What a model's inputs want; initializers that may be overridden are none."""
    stored = {i.name for i in model.graph.initializer}
    specs = (spec_of(i) for i in model.graph.input if i.name not in stored)
    return tuple(replace(s, dtype="object") if s.dtype == "string" else s for s in specs)


def first_samples(split: Split, count: int, inputs: Sequence[TensorSpec]) -> Split:
    """At most `count` samples, evenly spread over the data, matched to the inputs."""
    data = split.matched(inputs)
    if len(data) <= count:
        return data
    rows = [i * len(data) // count for i in range(count)]
    return replace(data, arrays={k: v[rows] for k, v in data.arrays.items()}, labels=None)
