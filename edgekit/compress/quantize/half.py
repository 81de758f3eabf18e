"""float16 and bfloat16: half the size; on GPUs and some ARM CPUs half the time.

Source: Micikevicius et al. 2018, arXiv:1710.03740 (float16, what has to stay in float32); Kalamkar et al. 2019,
arXiv:1905.12322 (bfloat16).
"""

from __future__ import annotations

from typing import Any, Literal

import onnx
from onnx import TensorProto
from pydantic import Field

from edgekit.compress.quantize.half_proof import Samples, make_finite, prove_on, samples_for
from edgekit.compress.quantize.half_range import nodes_out_of_range
from edgekit.compress.quantize.narrow import narrow
from edgekit.compress.technique import ExcludedNode, OnnxStep, StepConfig, StepResult, Target, technique
from edgekit.errors import CompressError, EdgekitError
from edgekit.graph.masks import soften_masks
from edgekit.graph.normalise import normalise
from edgekit.graph.read import proto_bytes, read_model, refuse_non_finite
from edgekit.graph.write import write_model

_MIN_OPSET: dict[int, int] = {TensorProto.FLOAT16: 9, TensorProto.BFLOAT16: 13}
_WORTH_IT = 0.98  # a file of more than this share of the original is no gain
_NVIDIA = ("cuda", "tensorrt")
_X86 = ("cpu", "cpu-no-vnni")
_SLOW = (
    "CPU kernels compute in float32 and convert around each node; weights with bits 16 are as small at float32's speed"
)


class Fp16Config(StepConfig):
    """float16 weights and activations.

    Attributes:
        keep_io: Whether inputs and outputs stay float32, with Casts at the border.
        samples: Calibration samples that ranges are measured on; made-up inputs where there are none.
        headroom: How many times larger than what was measured a value may become in use.
    """

    quantize: Literal["fp16"] = "fp16"
    keep_io: bool = True
    samples: int = Field(32, ge=1)
    headroom: float = Field(4.0, ge=1)


class Bf16Config(StepConfig):
    """bfloat16 weights and activations: float32's range with 8 bits of precision.

    Attributes:
        keep_io: Whether inputs and outputs stay float32, with Casts at the border.
    """

    quantize: Literal["bf16"] = "bf16"
    keep_io: bool = True


@technique(
    Fp16Config,
    stage="onnx",
    summary="float16 weights and activations: half the size, for GPUs; what float16 cannot hold stays float32",
    paper="https://arxiv.org/abs/1710.03740",
)
def quantize_fp16(config: Fp16Config, step: OnnxStep) -> StepResult:
    """Compute in float16, but for the nodes whose values it cannot hold.

    Raises:
        ModelError: if the model cannot be read, or holds NaN or Inf.
        CompressError: if no choice of nodes gives finite outputs.
    """
    model, before = _prepare(step, TensorProto.FLOAT16)
    samples = samples_for(model, step.calibration, config.samples)
    if samples is not None:
        soften_masks(model, samples.split)
    kept = nodes_out_of_range(model, samples, config.headroom) | _asked_for(step)
    made, kept = make_finite(model, TensorProto.FLOAT16, kept, samples, keep_io=config.keep_io)
    if proto_bytes(made) > _WORTH_IT * before:
        return _unchanged(step, kept)
    feeds = samples.feeds(config.keep_io) if samples else None
    probe = write_model(made, step.out, feeds=feeds)
    if probe.ran and not probe.finite and samples is None:
        raise CompressError("the model in float16 gives NaN or Inf; give --calibration, so that the nodes can be found")
    details = _details(model, made, kept, samples, step.target)
    return StepResult(True, _reason("float16", details), _as_excluded(kept), details)


@technique(
    Bf16Config,
    stage="onnx",
    summary="bfloat16 weights and activations: half the size and float32's range, for GPUs",
    paper="https://arxiv.org/abs/1905.12322",
)
def quantize_bf16(config: Bf16Config, step: OnnxStep) -> StepResult:
    """Compute in bfloat16, where the target can.

    Raises:
        ModelError: if the model cannot be read, or holds NaN or Inf.
        CompressError: if the target has no kernels for it, or cannot be tried on this machine.
    """
    model, before = _prepare(step, TensorProto.BFLOAT16)
    samples = samples_for(model, step.calibration, 1)
    kept = _asked_for(step)
    made = narrow(model, TensorProto.BFLOAT16, kept, keep_io=config.keep_io)
    if proto_bytes(made) > _WORTH_IT * before:
        return _unchanged(step, kept)
    provider = step.target if step.target in _NVIDIA else "cpu"
    try:
        prove_on(provider, made, step.out, samples)
    except EdgekitError as error:
        raise CompressError(_no_kernels(provider, error)) from error
    details = _details(model, made, kept, None, step.target)
    return StepResult(True, _reason("bfloat16", details), _as_excluded(kept), details)


def _prepare(step: OnnxStep, element: int) -> tuple[onnx.ModelProto, int]:
    original = read_model(step.model)
    refuse_non_finite(original, step.model)
    return normalise(original, min_opset=_MIN_OPSET[element]), proto_bytes(original)


def _asked_for(step: OnnxStep) -> dict[str, str]:
    return dict.fromkeys(sorted(step.excluded), "asked for")


def _as_excluded(kept: dict[str, str]) -> tuple[ExcludedNode, ...]:
    return tuple(ExcludedNode(name, why) for name, why in kept.items())


def _unchanged(step: OnnxStep, kept: dict[str, str]) -> StepResult:
    write_model(read_model(step.model), step.out)
    reason = "the model holds next to no float32 weights that operators of its opset would take in 16 bits"
    return StepResult(False, reason, _as_excluded(kept))


def _reason(name: str, details: dict[str, Any]) -> str:
    said = f"weights and activations in {name}; {details['nodes_float32']} nodes stay in float32"
    return "; ".join(filter(None, [said, details.get("warning")]))


def _details(
    model: onnx.ModelProto,
    made: onnx.ModelProto,
    kept: dict[str, str],
    samples: Samples | None,
    target: Target,
) -> dict[str, Any]:
    details: dict[str, Any] = {
        "nodes_float32": len(kept),
        "casts": sum(n.op_type == "Cast" for n in made.graph.node) - sum(n.op_type == "Cast" for n in model.graph.node),
        "ranges_from": "no run" if samples is None else samples.split.name,
    }
    if target in _X86:
        details["warning"] = _SLOW
    return details


def _no_kernels(provider: str, error: EdgekitError) -> str:
    return f"bfloat16 does not run on provider {provider!r} here ({error}); take fp16, or weights with bits 16"
