"""Golden answers: what each variant says to the golden samples, as plain bytes that any language reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle.models import PackedModel
from edgekit.bundle.samples import GoldenSample
from edgekit.bundle.tolerance import largest_answer, measure_tolerance
from edgekit.data.split import is_memory
from edgekit.errors import BundleError
from edgekit.ort import Session
from edgekit.specs import Array, TensorSpec

_KINDS = "fiub"  # of NumPy: what raw bytes hold; text and sequences are left out


@dataclass(frozen=True)
class Golden:
    """The golden part of a bundle.

    Attributes:
        entry: What the manifest says.
        files: Path in the bundle -> content.
        answers: Variant -> for each sample: output -> array.
    """

    entry: dict[str, Any]
    files: dict[str, bytes]
    answers: dict[str, list[dict[str, Array]]]


def answer_samples(models: Sequence[PackedModel], samples: Sequence[GoldenSample], task: str) -> Golden:
    """Run every variant on the samples, on one CPU thread, and measure how far a right answer may be from that.

    Args:
        models: The variants.
        samples: Golden inputs.
        task: As edgekit calls it.

    Raises:
        BundleError: if a variant answers with NaN.
    """
    files: dict[str, bytes] = {}
    entries = [_sample_entry(i, sample, files) for i, sample in enumerate(samples)]
    golden = Golden({"samples": entries, "outputs": {}, "tolerance": {}}, files, {})
    for model in models:
        answers = answers_of(model.name, model.candidate.path, samples)
        golden = store_answers(golden, model.name, answers, _tolerance(model, samples, answers, task))
    return golden


def store_answers(
    golden: Golden, variant: str, answers: list[dict[str, Array]], tolerance: Mapping[str, Any]
) -> Golden:
    """The golden part with the answers of one more variant."""
    files = dict(golden.files)
    outputs = [dict(_output_entries(variant, i, named, files)) for i, named in enumerate(answers)]
    entry = {
        **golden.entry,
        "outputs": {**golden.entry["outputs"], variant: outputs},
        "tolerance": {**golden.entry["tolerance"], variant: dict(tolerance)},
    }
    return Golden(entry, files, {**golden.answers, variant: answers})


def answers_of(variant: str, path: Path, samples: Sequence[GoldenSample]) -> list[dict[str, Array]]:
    """What a model answers to each sample, on one CPU thread: output -> array, without what raw bytes do not hold.

    Raises:
        BundleError: if there is NaN in it.
    """
    session = Session(path, threads=1)
    names = kept_outputs(session.inputs, session.outputs)
    answers = [dict(zip(names, session.run(sample.feeds, names), strict=True)) for sample in samples]
    for index, named in enumerate(answers):
        spoilt = next((k for k, v in named.items() if _holds_nan(v)), None)
        if spoilt is not None:
            raise BundleError(
                f"variant {variant!r} answers golden sample {index} with NaN in output {spoilt!r}; it is broken, "
                "leave it out"
            )
    plain = [{k: v for k, v in named.items() if _is_plain(v)} for named in answers]
    if not all(plain):
        raise BundleError(
            f"variant {variant!r} answers no numbers that a file of raw numbers holds; a bundle needs an output of "
            "numbers to prove itself"
        )
    return plain


def kept_outputs(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[str]:
    """The outputs that are compared: all, but for the keys and values of a model that takes them back.

    Those follow from the same sums as the answer, are many, and have units of their own.
    """
    carries = any(is_memory(s) for s in inputs)
    names = [s.name for s in outputs]
    return [n for n in names if not (carries and n.startswith("present"))] or names


def _holds_nan(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and bool(np.isnan(value).any())


def _is_plain(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in _KINDS


def _tolerance(
    model: PackedModel, samples: Sequence[GoldenSample], answers: Sequence[Mapping[str, Array]], task: str
) -> dict[str, Any]:
    plain = list(answers[0])
    names = [s.name for s in model.info.outputs]
    kept = [names.index(name) for name in plain]
    found = measure_tolerance(
        model.candidate.path, [s.feeds for s in samples], [list(named.values()) for named in answers], kept
    )
    _require_steady(model.name, answers, found["absolute"])
    first = next(iter(answers[0].values()), None)
    classes = task == "classification" and first is not None and first.ndim == 2
    return {**found, "same_top1": bool(classes and _far_apart([next(iter(a.values())) for a in answers], found))}


def _require_steady(variant: str, answers: Sequence[Mapping[str, Array]], absolute: float) -> None:
    """Refuse answers that another machine may miss by as much as they are large; whole numbers jump, and may."""
    arrays = [array for named in answers for array in named.values()]
    largest = largest_answer(arrays)
    if largest and absolute >= largest and all(a.dtype.kind == "f" for a in arrays):
        raise BundleError(
            f"variant {variant!r} answers one input otherwise from run to run, or by its last bits: by up to "
            f"{absolute:.3g} with answers up to {largest:.3g}, so that none can be golden; make noise an input, or "
            "give other samples with --data"
        )


def _far_apart(outputs: Sequence[Array], tolerance: Mapping[str, float]) -> bool:
    """Whether the first class leads by more than both may move, in every sample: then another first is a mistake."""
    ordered = [np.sort(o, axis=1) for o in outputs]
    if any(o.shape[1] < 2 for o in ordered):
        return False
    leads = [float((o[:, -1] - o[:, -2]).min()) for o in ordered]
    most = max(float(np.abs(o).max()) for o in ordered)
    return min(leads) > 2 * (tolerance["absolute"] + tolerance["relative"] * most)


def _sample_entry(index: int, sample: GoldenSample, files: dict[str, bytes]) -> dict[str, Any]:
    raw = f"golden/{index}.raw.{sample.suffix}" if sample.raw is not None else None
    if raw is not None and sample.raw is not None:
        files[raw] = sample.raw
    inputs = {}
    for position, (name, array) in enumerate(sample.feeds.items()):
        if _is_plain(array):  # a memory of nothing needs no file of its own
            own = f"golden/{index}.{_file_part(name, position)}.bin" if array.size else "golden/empty.bin"
            inputs[name] = _tensor(own, array, files)
    return {"raw": raw, "inputs": inputs}


def _output_entries(
    variant: str, index: int, named: Mapping[str, Array], files: dict[str, bytes]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for position, (name, array) in enumerate(named.items()):
        yield name, _tensor(f"golden/{variant}/{index}.{_file_part(name, position)}.bin", array, files)


def _file_part(name: str, position: int) -> str:
    """A tensor's name where it is a file's name on every system, its number else; those of graphs may hold anything."""
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum() and len(name) <= 64
    return name if plain else str(position)


def _tensor(path: str, array: Array, files: dict[str, bytes]) -> dict[str, Any]:
    files[path] = raw_bytes(array)
    return {"file": path, "dtype": str(array.dtype), "shape": list(array.shape)}


def raw_bytes(array: Array) -> bytes:
    """The elements in C order, little-endian."""
    plain = np.ascontiguousarray(array)
    return (plain.byteswap() if sys.byteorder == "big" else plain).tobytes()
