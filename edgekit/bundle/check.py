"""A variant against its golden answers, in a child process with limits; what an app embeds is what runs here."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle.expected import Expected, StoredTensor, Tolerance, read_expected
from edgekit.bundle.tolerance import largest_answer, largest_difference
from edgekit.errors import BundleError, ModelError
from edgekit.ort.child import answer_parent, limit_memory
from edgekit.progress import counted
from edgekit.runtime.archive import Archive, extract_files, read_checked
from edgekit.runtime.manifest import Manifest, Variant
from edgekit.runtime.model import Model, load
from edgekit.runtime.opening import open_archive
from edgekit.runtime.prepare import open_preparation
from edgekit.specs import Array


def _work(request: Mapping[str, Any]) -> dict[str, Any]:
    """The child's side."""
    limit_memory()
    bundle = Path(request["bundle"])
    key = bytes.fromhex(request["key"]) if "key" in request else None
    try:
        return _checked(bundle, request["variant"], request["provider"], key)
    except BundleError as error:  # its type is not known to the parent's side
        raise ModelError(str(error)) from error


def _checked(bundle: Path, name: str, provider: str, key: bytes | None) -> dict[str, Any]:
    with (
        load(bundle, provider=provider, variant=name, key=key, guard=None) as model,
        open_archive(bundle) as archive,
    ):
        expected = read_expected(model.manifest)
        _check_graph(archive, model.manifest, model.variant)
        differences, faults = _compare(model, archive, expected)
        prepared, unlike = _prepare(archive, model.manifest, expected)
    detail = (
        f"loads on {provider}; {counted(len(differences), 'golden answer')}, the farthest "
        f"{max(differences, default=0.0):.2g} away ({expected.tolerance[name].absolute:g} is allowed)"
        + _in_words(prepared)
    )
    return {"faults": [*faults, *unlike], "detail": detail}


def _in_words(prepared: int) -> str:
    if prepared == 1:
        return "; 1 raw sample becomes the golden input"
    return f"; {prepared} raw samples become the golden inputs" if prepared else ""


def _check_graph(archive: Archive, manifest: Manifest, variant: Variant) -> None:
    """What every foreign model goes through here: bounds of external data, the checker, operators that exist.

    Raises:
        ModelError: if it does not pass.
    """
    from edgekit.graph.read import read_model

    if variant.format != "onnx" or variant.encrypted is not None:  # who has the key has vouched for what it opens
        return
    names = [name for name in manifest.files if name.startswith(variant.folder)]
    with tempfile.TemporaryDirectory(prefix="edgekit-verify-") as directory:
        extract_files(archive, manifest.files, Path(directory), names)
        try:
            read_model(Path(directory) / variant.file)
        except ModelError as error:
            raise ModelError(str(error).replace(f"{directory}/", "")) from error


def _compare(model: Model, archive: Archive, expected: Expected) -> tuple[list[float], list[str]]:
    """The largest difference of each golden answer, and what is too far away."""
    differences, faults, golden = [], [], []
    tolerance, manifest = expected.tolerance[model.variant.name], model.manifest
    for index, (inputs, outputs) in enumerate(zip(expected.inputs, expected.outputs[model.variant.name], strict=True)):
        answers = model.run({name: read_tensor(archive, manifest, tensor) for name, tensor in inputs.items()})
        for name, tensor in outputs.items():
            want = read_tensor(archive, manifest, tensor)
            differences.append(largest_difference(answers[name], want))
            faults += _faults(f"golden sample {index}, output {name!r}", answers[name], want, tolerance)
            golden.append(want)
    return differences, [*faults, *_too_wide(golden, tolerance)]


def _too_wide(golden: Sequence[Array], tolerance: Tolerance) -> list[str]:
    """Why the tolerance proves nothing; nothing if it does, or where whole numbers are among the answers: they jump."""
    largest = largest_answer(golden)
    if largest is None or any(a.dtype.kind != "f" for a in golden) or not tolerance.absolute >= largest > 0:
        return []
    return [
        f"its tolerance of {tolerance.absolute:g} is as large as its largest golden answer, {largest:.3g}: zeros would "
        "pass; pack it again"
    ]


def _faults(where: str, answer: Array, want: Array, tolerance: Tolerance) -> list[str]:
    """Why an answer is wrong; at most one line."""
    if np.asarray(answer).dtype != want.dtype or answer.shape != want.shape:
        got, told = (f"{np.asarray(a).dtype} {np.shape(a)}" for a in (answer, want))
        return [f"{where} is {got}, and the golden one {told}"]
    if want.dtype.kind == "f" and np.isnan(want).any():
        return [f"{where} has a golden answer with NaN in it, which anything broken gives too; pack it again"]
    if not within(answer, want, tolerance):
        far = largest_difference(answer, want)
        return [f"{where} is up to {far:.3g} off, and {tolerance.absolute:g} is allowed: it computes something else"]
    if tolerance.same_top1 and want.ndim and (answer.argmax(axis=-1) != want.argmax(axis=-1)).any():
        return [f"{where} has another first class than the golden one"]
    return []


def _prepare(archive: Archive, manifest: Manifest, expected: Expected) -> tuple[int, list[str]]:
    """How many raw samples there are, and which of them do not become their golden inputs."""
    preparation, faults = open_preparation(archive, manifest, None), []
    raws = [(index, name) for index, name in enumerate(expected.raw) if name is not None]
    for index, name in raws:
        content = read_checked(archive, name, manifest.files[name])
        row = preparation.row(_text(name, content) if name.endswith(".txt") else content)
        made = preparation.complete({key: value[None] for key, value in row.items()})
        for key, tensor in expected.inputs[index].items():  # noise and memory come from elsewhere
            if key in made and not _is_close(made[key], read_tensor(archive, manifest, tensor)):
                faults.append(f"golden sample {index}: {name} does not become the golden input {key!r}")
    return len(raws), faults


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{name} is no UTF-8 text (byte {error.start})") from error


def _is_close(made: Array, golden: Array) -> bool:
    """Equal but for the last bits of floats."""
    if made.shape != golden.shape:
        return False
    return bool(np.allclose(made, golden, rtol=1e-5, atol=1e-6) if golden.dtype.kind == "f" else (made == golden).all())


def within(answer: Array, want: Array, tolerance: Tolerance) -> bool:
    """Whether |answer - want| <= absolute + relative * |want| everywhere; NaN and infinities must be the same."""
    a, b = answer.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    near, golden = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
    close = np.abs(near - golden) <= tolerance.absolute + tolerance.relative * np.abs(golden)
    return bool(np.where(finite, close, (a == b) | (np.isnan(a) & np.isnan(b))).all())


def read_tensor(archive: Archive, manifest: Manifest, tensor: StoredTensor) -> Array:
    """A golden input or output.

    Raises:
        BundleError: if its file is another one, or does not hold what the manifest says.
    """
    content = read_checked(archive, tensor.file, manifest.files[tensor.file])
    dtype = np.dtype(tensor.dtype).newbyteorder("<")
    if math.prod(tensor.shape) * dtype.itemsize != len(content):
        raise BundleError(f"{tensor.file} has {len(content)} bytes, which are no {tensor.dtype} {tensor.shape}")
    return np.frombuffer(content, dtype).reshape(tensor.shape).astype(dtype.newbyteorder("="))


if __name__ == "__main__":
    answer_parent(_work)
