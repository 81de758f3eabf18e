"""Block-wise weights of 2 to 8 bits for language models and other files that are mostly matrices.

The algorithms and their papers are in `algorithms`, the forms in the file in `nbits`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from pydantic import Field, model_validator

from edgekit.compress.quantize.algorithms import Algorithm, Rounded, round_matrices
from edgekit.compress.quantize.blockwise import Grid
from edgekit.compress.quantize.candidates import out_of_reach
from edgekit.compress.quantize.matrices import Matrix, block_for, find_matrices
from edgekit.compress.quantize.nbits import BlockStore, Form, Kernel
from edgekit.compress.quantize.packing import PLANES
from edgekit.compress.quantize.standard import StandardStore
from edgekit.compress.technique import ExcludedNode, OnnxStep, StepConfig, StepResult, Target, technique
from edgekit.data.split import Split
from edgekit.errors import CompressError
from edgekit.graph.clean import remove_dead
from edgekit.graph.normalise import normalise
from edgekit.graph.read import proto_bytes, read_model, refuse_non_finite
from edgekit.graph.stored import spec_of
from edgekit.graph.write import write_model
from edgekit.specs import Array, TensorSpec

_WORTH_IT = 0.98  # a file of more than this share of the original is no gain
_MIN_OPSET = {"expanded": 11, "packed": 7, "standard": 21}
_COMPARED_POSITIONS = 512
_MIN_OPSET_OF_TWO_PLANES = 18  # BitwiseOr
_WIDTHS = {"expanded": (2, 3, 4, 5, 6, 8), "packed": (2, 4, 8), "standard": (4, 8)}


class Int4Config(StepConfig):
    """Matrices in blocks of few bits.

    Attributes:
        bits: Width of the codes of what products read.
        block_size: Consecutive weights that share a scale; smaller where it does not divide the matrix.
        algorithm: "auto" keeps weights that were on such a grid before as they were, and takes GPTQ for the others
            where there is calibration data, else the search of k-quants.
        kernel: "expanded" stores 4 bits and computes by the 8-bit kernel, which is faster on prompts; "packed" computes
            on the codes as stored, in the least memory; "standard" needs no operator beyond ONNX's own. "auto" takes
            what suits the target.
        kernel_block: Columns that share a scale in the expanded kernel, of weights and of activations: more are faster
            on prompts, fewer are more precise. Never fewer than the file's own blocks.
        accuracy_level: 4 lets the kernels quantise activations to int8 a block at a time; 0 and 1 compute in float32.
        embeddings: Whether tables of look-ups are stored in blocks too; one tied to an output layer is stored once.
        embedding_bits: Width of the codes of what look-ups read.
        symmetric: Whether the zero point is always in the middle.
        min_elements: Smaller matrices stay float.
        samples: Calibration samples that GPTQ looks at.
    """

    quantize: Literal["int4"] = "int4"
    bits: Literal[2, 3, 4, 5, 6, 8] = 4
    block_size: Literal[16, 32, 64, 128, 256] = 32
    algorithm: Algorithm = "auto"
    kernel: Literal["auto", "expanded", "packed", "standard"] = "auto"
    kernel_block: Literal[16, 32, 64, 128, 256] = 128
    accuracy_level: Literal[0, 1, 4] = 4
    embeddings: bool = True
    embedding_bits: Literal[2, 3, 4, 5, 6, 8] = 8
    symmetric: bool = False
    min_elements: int = Field(4096, ge=1)
    samples: int = Field(32, ge=1)

    @model_validator(mode="after")
    def _kernel_has_width(self) -> Int4Config:
        if self.kernel != "auto" and self.bits not in _WIDTHS[self.kernel]:
            allowed = ", ".join(map(str, _WIDTHS[self.kernel]))
            raise ValueError(f"kernel {self.kernel!r} has no {self.bits} bits; it takes {allowed}")
        if self.kernel == "expanded" and self.accuracy_level != 4:
            raise ValueError("kernel 'expanded' needs accuracy_level 4: in float32 its 8-bit kernel is 5 times slower")
        return self


@technique(
    Int4Config,
    stage="onnx",
    summary="4-bit weights in blocks for language models, embeddings too: a fifth of the size, faster tokens",
    paper="https://arxiv.org/abs/2210.17323",
)
def quantize_int4(config: Int4Config, step: OnnxStep) -> StepResult:
    """Store the matrices of a model in blocks of few bits.

    Raises:
        CompressError: if GPTQ is asked for without calibration data, or the target has no kernel of this width.
        ModelError: if the model cannot be read, or holds NaN or Inf.
    """
    if config.algorithm == "gptq" and step.calibration is None:
        raise CompressError("algorithm 'gptq' looks at activations; give --calibration, or take 'kquant' or 'hqq'")
    model, form, before = _prepare(config, step)
    inputs = _inputs(model)
    split = None if step.calibration is None else step.calibration.matched(inputs)
    matrices, kept = find_matrices(
        model, min_elements=config.min_elements, embeddings=config.embeddings, excluded=step.excluded
    )
    wanted = grids_for(matrices, config, form, kept)
    rounded = round_matrices(model, wanted, config.algorithm, split, config.samples)
    store_matrices(model, rounded, Kernel(form, config.accuracy_level, config.kernel_block))
    details = _details(config, form, rounded, kept)
    if not rounded or proto_bytes(model) > _WORTH_IT * before:
        read = read_model(step.model)
        write_model(read, step.out)
        return StepResult(False, out_of_reach(read) or _why_unchanged(kept), details=details)
    feeds = None if split is None else next(iter(split.batches(inputs, 1))).feeds
    write_model(model, step.out, feeds=feeds)
    if split is not None:
        details["agreement"] = _agreement(step, split)
    excluded = tuple(ExcludedNode(name, "asked for") for name in sorted(step.excluded))
    return StepResult(True, _reason(config, form, rounded), excluded, details)


def _prepare(config: Int4Config, step: OnnxStep) -> tuple[onnx.ModelProto, Form, int]:
    """The normalised model, the form to store in, and the size of the original."""
    form = choose_form(config, step.target)
    original = read_model(step.model)
    refuse_non_finite(original, step.model)
    try:
        return normalise(original, min_opset=_min_opset(config, form)), form, proto_bytes(original)
    except CompressError:
        if config.kernel != "auto" or form != "expanded" or config.bits not in _WIDTHS["packed"]:
            raise
    return normalise(original), "packed", proto_bytes(original)


def _inputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    weights = {i.name for i in model.graph.initializer}
    return tuple(spec_of(i) for i in model.graph.input if i.name not in weights)


def _min_opset(config: Int4Config, form: Form) -> int:
    two_planes = any(len(PLANES[b]) > 1 for b in (config.bits, config.embedding_bits))
    return _MIN_OPSET_OF_TWO_PLANES if form == "expanded" and two_planes else _MIN_OPSET[form]


def choose_form(config: Int4Config, target: Target) -> Form:
    """How to store for a target; its own kernels where the config leaves the choice.

    Raises:
        CompressError: if the target has no operator for this form or width.
    """
    if config.kernel != "auto":
        form: Form = config.kernel
    elif target in ("web", "tensorrt"):
        form = "standard"
    elif target == "cuda" or config.accuracy_level != 4:
        form = "packed"
    else:
        form = "expanded"
    if target in ("web", "tensorrt") and form != "standard":
        raise CompressError(f"target {target!r} takes ONNX's own operators only; leave kernel at auto, got {form!r}")
    if config.bits not in _WIDTHS[form]:
        allowed = ", ".join(map(str, _WIDTHS[form]))
        raise CompressError(f"target {target!r} has no kernel for {config.bits} bits; it takes {allowed}")
    if target == "tensorrt" and not config.symmetric:
        raise CompressError("target 'tensorrt' takes symmetric weights only; set symmetric: true")
    return form


def grids_for(
    matrices: list[Matrix], config: Int4Config, form: Form, kept: dict[str, str]
) -> list[tuple[Matrix, Grid]]:
    """What to round each matrix to; those that cannot be cut into blocks are left out and noted in `kept`."""
    grids = {m.name: _grid(config, form, m) for m in matrices}
    kept |= {name: "its rows cannot be cut into blocks" for name, grid in grids.items() if grid is None}
    return [(m, grid) for m in matrices if (grid := grids[m.name]) is not None]


def _grid(config: Int4Config, form: Form, matrix: Matrix) -> Grid | None:
    bits = config.bits
    if matrix.lookups:
        bits = config.embedding_bits if config.embedding_bits in _WIDTHS[form] else 8
    wished: int = config.block_size
    if bits == 8 and form == "expanded":
        wished = max(wished, config.kernel_block)  # these codes are the kernel's as they are
    block = block_for(matrix.shape[1], wished, whole=bool(matrix.lookups) or form == "standard")
    steps = 1 << (8 - bits) if form == "expanded" else 1
    return Grid(bits, block, steps, config.symmetric) if block else None


def store_matrices(model: onnx.ModelProto, rounded: list[Rounded], kernel: Kernel) -> None:
    """Put rounded matrices into a model, in place."""
    store = StandardStore(model) if kernel.form == "standard" else BlockStore(model, kernel)
    for item in rounded:
        store.put(item.matrix, item.blocks, item.grid)
    store.finish()
    remove_dead(model)


def _agreement(step: OnnxStep, split: Split) -> dict[str, Any]:
    """Share of positions at which the original and the result name the same class or token, on calibration data."""
    wanted, got = (_answers(path, split) for path in (step.model, step.out))
    equal = wanted == got
    return {"value": float(equal.mean()), "n": int(equal.size), "on": split.name, "proxy": True}


def _answers(model: Path, split: Split) -> Array:
    """What a model names at the first few hundred positions."""
    from edgekit.ort.session import Session

    session, found, count = Session(model), [], 0
    for batch in split.batches(session.inputs, 1):
        found.append(np.asarray(session.run(batch.feeds)[0]).argmax(axis=-1).ravel())
        count += found[-1].size
        if count >= _COMPARED_POSITIONS:
            break
    return np.concatenate(found)


def _details(config: Int4Config, form: Form, rounded: list[Rounded], kept: dict[str, str]) -> dict[str, Any]:
    return {
        "bits": config.bits,
        "kernel": form,
        "accuracy_level": config.accuracy_level,
        "matrices": len(rounded),
        "algorithms": dict(Counter(r.algorithm for r in rounded)),
        "blocks": dict(Counter(str(r.grid.block) for r in rounded)),
        "worst_snr_db": min((round(r.snr_db, 1) for r in rounded), default=None),
        "tied_tables": sum(bool(r.matrix.lookups and r.matrix.products) or bool(r.matrix.same_as) for r in rounded),
        "float_tensors": dict(Counter(kept.values())),
    }


def _reason(config: Int4Config, form: Form, rounded: list[Rounded]) -> str:
    tables = sum(bool(r.matrix.lookups) for r in rounded)
    exact = sum(r.algorithm == "exact" for r in rounded)
    parts = [f"{len(rounded)} matrices stored in blocks of {config.bits} bits for the {form} kernel"]
    if tables:
        parts.append(f"{tables} of them look-up tables")
    if exact:
        parts.append(f"{exact} were on such a grid before and lose next to nothing")
    return "; ".join(parts)


def _why_unchanged(kept: dict[str, str]) -> str:
    if not kept:
        return "the model holds no float matrices"
    listed = ", ".join(f"{count} {why}" for why, count in Counter(kept.values()).most_common())
    return f"no float matrix is worth storing in blocks ({listed})"
