"""The golden part of a manifest, read as strictly as the rest of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from edgekit.runtime.archive import MANIFEST
from edgekit.runtime.fields import Fields
from edgekit.runtime.manifest import Manifest

_DTYPES = ("bool", "float16", "float32", "float64", *(f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32, 64)))


@dataclass(frozen=True)
class StoredTensor:
    """Raw little-endian elements in C order.

    Attributes:
        file: Path in the bundle.
        dtype: NumPy's name of the element type.
        shape: Of the array.
    """

    file: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Tolerance:
    """How far an answer may be from the golden one.

    Attributes:
        absolute: In the unit of the output.
        relative: Of the golden value.
        same_top1: Whether the first class must be the same.
    """

    absolute: float
    relative: float
    same_top1: bool


@dataclass(frozen=True)
class Expected:
    """Golden samples and answers.

    Attributes:
        raw: File that each sample was prepared from; None where nothing was prepared.
        inputs: Of each sample: name -> tensor.
        outputs: Variant -> for each sample: name -> tensor.
        tolerance: Variant -> how far it may be off.
    """

    raw: tuple[str | None, ...]
    inputs: tuple[Mapping[str, StoredTensor], ...]
    outputs: Mapping[str, tuple[Mapping[str, StoredTensor], ...]]
    tolerance: Mapping[str, Tolerance]


def read_expected(manifest: Manifest) -> Expected:
    """The golden part of a manifest.

    Raises:
        BundleError: if it is not as edgekit writes it: the message names the place.
    """
    golden = Fields(manifest.golden, MANIFEST, "golden")
    samples = golden.children("samples")
    known = tuple([spec.name for spec in specs] for specs in (manifest.inputs, manifest.outputs))
    inputs = tuple(dict(_each(_inner(sample, "inputs"), manifest, known[0])) for sample in samples)
    outputs, tolerance = _inner(golden, "outputs"), _inner(golden, "tolerance")
    return Expected(
        raw=tuple(_raw(sample, manifest) for sample in samples),
        inputs=inputs,
        outputs={v.name: _answers(outputs, v.name, len(samples), manifest, known[1]) for v in manifest.variants},
        tolerance={v.name: _tolerance(_inner(tolerance, v.name)) for v in manifest.variants},
    )


def _inner(fields: Fields, key: str) -> Fields:
    found = fields.child(key)
    if found is None:
        raise fields.wrong(key, "is missing")
    return found


def _raw(sample: Fields, manifest: Manifest) -> str | None:
    if sample.raw.get("raw") is None:
        return None
    return _listed(sample, "raw", manifest)


def _listed(fields: Fields, key: str, manifest: Manifest) -> str:
    name = fields.text(key)
    if name not in manifest.files:
        raise fields.wrong(key, f"names {name!r}, which `files` does not list")
    return name


def _answers(
    outputs: Fields, variant: str, count: int, manifest: Manifest, known: Sequence[str]
) -> tuple[Mapping[str, StoredTensor], ...]:
    found = tuple(dict(_each(fields, manifest, known)) for fields in outputs.children(variant))
    if len(found) != count or not all(found):
        raise outputs.wrong(variant, f"has answers to {sum(map(bool, found))} of {count} samples")
    return found


def _each(fields: Fields, manifest: Manifest, known: Sequence[str]) -> Iterator[tuple[str, StoredTensor]]:
    for name in fields.raw:
        if name not in known:
            raise fields.wrong(name, f"is none of the models'; they have {', '.join(known)}")
        tensor = _inner(fields, name)
        shape = tensor.items("shape", partial(_dim, tensor))
        yield name, StoredTensor(_listed(tensor, "file", manifest), tensor.one_of("dtype", _DTYPES), shape)


def _dim(fields: Fields, value: Any, place: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise fields.wrong(place, f"must be a whole number, 0 or more, got {str(value)[:40]}")


def _tolerance(fields: Fields) -> Tolerance:
    absolute, relative = fields.number("absolute"), fields.number("relative")
    if min(absolute, relative) < 0:
        raise fields.wrong("absolute", "and `relative` must be 0 or more")
    if relative >= 1:
        raise fields.wrong("relative", f"must be below 1, got {relative:g}: with 1, 0 is a right answer to everything")
    return Tolerance(absolute, relative, fields.truth("same_top1", False))
