"""Static quantisation: int8 weights and activations, ranges from calibration data.

Source: Jacob et al. 2018, arXiv:1712.05877; Nagel et al. 2021, arXiv:2106.08295, for the order of the steps.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import onnx
from pydantic import Field

from edgekit.compress.quantize.calibration import first_samples, input_specs, observe
from edgekit.compress.quantize.candidates import find_weights
from edgekit.compress.quantize.equalize import equalise, links, unevenness
from edgekit.compress.quantize.moments import observe_multipliers
from edgekit.compress.quantize.observers import Method, Observation, Range
from edgekit.compress.quantize.placement import Placement, Wiring, gates, place
from edgekit.compress.quantize.plan import Plan
from edgekit.compress.quantize.plausible import doubts
from edgekit.compress.quantize.pooling import pool_by_mean
from edgekit.compress.quantize.qdq import Scheme, write_qdq
from edgekit.compress.quantize.qoperator import to_qoperator
from edgekit.compress.quantize.saturation import saturation_told, settle_sums
from edgekit.compress.quantize.smooth import smooth_products
from edgekit.compress.technique import ExcludedNode, OnnxStep, StepConfig, StepResult, Target, technique
from edgekit.data.split import Split
from edgekit.errors import CompressError
from edgekit.graph.masks import soften_masks
from edgekit.graph.normalise import normalise
from edgekit.graph.read import read_model
from edgekit.graph.write import copy_model, write_model
from edgekit.progress import warn

MIN_OPSET = 13  # scales per channel
_PEAK_SAMPLES = 64
_UNEVEN = 8.0  # trained networks stay below 5; three bits and more of a shared scale are lost above
_NVIDIA = ("cuda", "tensorrt")
_OFF_LIMITS = "its activations reach the limits of float, as masks do"


class CalibrationConfig(StepConfig):
    """How ranges of activations are found.

    Attributes:
        samples: How many samples are looked at, evenly spread over the data.
        method: How a range is chosen from what was seen; "auto" is "mse", but "minmax" for what a product reads from a
            float operator: a transformer's few large channels are what its weights rely on.
        percentile: Share of the values inside the range, in percent; for "percentile".
    """

    samples: int = Field(512, ge=1)
    method: Method | Literal["auto"] = "auto"
    percentile: float = Field(99.99, gt=50, le=100)


class StaticConfig(StepConfig):
    """Static quantisation.

    Attributes:
        calibration: How ranges of activations are found.
        per_channel: One weight scale an output channel.
        format: "qdq" pairs, which every target fuses, or "qoperator": operators on integers, for ONNX Runtime on CPUs.
        symmetric: Activations have their zero in the middle; TensorRT always gets it so.
        activations: "auto" is what the target's kernels are fast for.
        equalize: Bring channels of different size to one size first; "auto" does where they are uneven.
        smooth: Move outlier channels of activations into the weights of products; "auto" does where no int8 node makes
            the activation, which a multiplication would slow down.
        rounding: "data" rounds weights so that their errors cancel on calibration data, "nearest" each by itself;
            "auto" is "data" where there are convolutions.
        bias_correction: Take the shift that rounded weights put on means back in the biases.
        reduce_range: 7-bit weights, for CPUs whose u8 x s8 sums saturate; "auto" gives them to the nodes of target
            cpu-no-vnni whose sums were seen to.
    """

    quantize: Literal["static"] = "static"
    calibration: CalibrationConfig = CalibrationConfig()
    per_channel: bool = True
    format: Literal["qdq", "qoperator"] = "qdq"
    symmetric: bool = False
    activations: Literal["auto", "uint8", "int8"] = "auto"
    equalize: bool | Literal["auto"] = "auto"
    smooth: bool | Literal["auto"] = "auto"
    rounding: Literal["auto", "data", "nearest"] = "auto"
    bias_correction: bool = True
    reduce_range: bool | Literal["auto"] = "auto"


@technique(
    StaticConfig,
    stage="onnx",
    summary="int8 weights and activations, ranges from calibration data",
    paper="Jacob et al. 2018, arXiv:1712.05877",
    needs_calibration=True,
)
def quantize_static(config: StaticConfig, step: OnnxStep) -> StepResult:
    """Quantise a model to int8 Q/DQ form; what ONNX Runtime would not run in int8 stays in float.

    Raises:
        CompressError: if no calibration data was given, or the target cannot run the format.
    """
    if step.calibration is None:
        raise CompressError("static quantisation observes activations on calibration data; give --calibration DATA")
    if config.format == "qoperator" and step.target in (*_NVIDIA, "web"):
        raise CompressError(f"target {step.target!r} has no integer operators of ONNX Runtime; use format: qdq")
    plan = plan_static(config, read_model(step.model), step.calibration, step.target, step.excluded, step.work)
    if not plan.placement.nodes:
        return _unchanged(step, plan.left)
    plan, sums = settle_sums(plan, config.reduce_range, step)
    means = plan.means if config.bias_correction else None
    moments = plan.moments(config.rounding)
    written = write_qdq(plan.model, plan.placement, plan.ranges, plan.scheme, means, moments)
    if config.format == "qoperator":
        written = to_qoperator(written)
    write_model(written, step.out, feeds=next(iter(plan.data.batches(input_specs(plan.model), 1))).feeds)
    reason = f"{len(plan.placement.nodes)} nodes run in int8 on ranges of {len(plan.data)} samples"
    said = "; ".join(filter(None, [reason, saturation_told(sums)]))
    return StepResult(True, said, plan.left, {**_details(plan, config), **sums})


def plan_static(
    config: StaticConfig,
    model: onnx.ModelProto,
    calibration: Split,
    target: Target = "cpu",
    excluded: frozenset[str] = frozenset(),
    work: Path | None = None,
) -> Plan:
    """Settle what runs in int8, and on which ranges.

    Raises:
        DataError: if the data does not fit the model.
    """
    model = prepare(model)
    scheme, nvidia = scheme_for(config, target), target in _NVIDIA
    placement = place(model, excluded, nvidia=nvidia)
    data = first_samples(calibration, config.calibration.samples, input_specs(model))
    if not placement.nodes:
        return Plan(model, placement, scheme, data, left=placement.left)
    masks = soften_masks(model, data)
    model, equalised = equalise_if_uneven(model, data, config.equalize, work)
    smoothed = smooth_if_noisy(model, placement, data, config.smooth)
    if smoothed:
        placement = place(model, excluded, nvidia=nvidia)
    # All that any choice of nodes looks at, so that a search over nodes finds one table for all of its steps.
    all_nodes = place(model, nvidia=nvidia) if work and excluded else placement
    seen = observe(model, data, sorted({*all_nodes.observed, *placement.observed}), work=work)
    for doubt in doubts(seen, {n.output[0] for n in model.graph.node if n.op_type == "Clip"}):
        warn(f"calibration data looks unlike what the model was trained on: {doubt}; is its preprocessing the same?")
    seen.update({name: seen[name].above(floor) for name, floor in gates(Wiring(model)).items() if name in seen})
    ranges = choose_ranges(seen, config.calibration, scheme, from_float_to_products(model, placement))
    placement, given_up = place_finite(model, excluded, ranges, nvidia)
    left = tuple(replace(n, reason=_OFF_LIMITS) if n.name in given_up else n for n in placement.left)
    means = {name: found.channel_mean for name, found in seen.items() if len(found.channel_mean)}
    return Plan(model, placement, scheme, data, ranges, means, left, tuple(equalised), smoothed, masks)


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model in the form that placement understands, at an opset that has scales per channel."""
    result = normalise(model, min_opset=MIN_OPSET)
    pool_by_mean(result)
    return result


def equalise_if_uneven(
    model: onnx.ModelProto, data: Split, wish: bool | Literal["auto"], work: Path | None = None
) -> tuple[onnx.ModelProto, list[str]]:
    """The model with equalised channels, and the tensors that were rescaled."""
    tensors = [link.tensor for link in links(model)] if wish else []
    if not tensors:
        return model, []
    seen = observe(model, data.take(_PEAK_SAMPLES), tensors, work=work)
    peaks = {name: found.channel_peak for name, found in seen.items()}
    uneven = {name: peak for name, peak in peaks.items() if wish is True or unevenness(peak) > _UNEVEN}
    return (equalise(model, uneven), sorted(uneven)) if uneven else (model, [])


def smooth_if_noisy(
    model: onnx.ModelProto, placement: Placement, data: Split, wish: bool | Literal["auto"]
) -> tuple[str, ...]:
    """Smooth the products that would be noisy, the model in place; the values that they read then."""
    read = from_float_to_products(model, placement, everything=wish is True)
    readers = {n.output[0] for n in model.graph.node if is_product(n, placement) and n.input[0] in read}
    chosen = [w for w in find_weights(model) if wish and all(u.node.output[0] in readers for u in w.uses)]
    seen = observe_multipliers(model, chosen, data, _PEAK_SAMPLES) if chosen else {}
    after = smooth_products(model, chosen, seen)
    return tuple(sorted(name for name, found in after.items() if found is not seen.get(name)))


def is_product(node: onnx.NodeProto, placement: Placement) -> bool:
    """Whether a node is a matrix product that runs in int8."""
    return node.op_type in ("Gemm", "MatMul") and node.output[0] in placement.nodes


def from_float_to_products(model: onnx.ModelProto, placement: Placement, *, everything: bool = False) -> frozenset[str]:
    """What int8 products read from float operators, as in transformers; or everything that they read."""
    integer = placement.nodes | set(placement.clipped) | set(placement.shifted)
    made = {o for n in model.graph.node for o in n.output} - integer
    return frozenset(
        n.input[0] for n in model.graph.node if is_product(n, placement) and (everything or n.input[0] in made)
    )


def scheme_for(config: StaticConfig, target: Target) -> Scheme:
    """How numbers are represented for a target: unsigned on x86 and the web, symmetric and signed for NVIDIA."""
    nvidia = target in _NVIDIA
    signed = config.activations == "int8" or (config.activations == "auto" and (nvidia or target == "arm"))
    reduce = target == "cpu-no-vnni" if config.reduce_range == "auto" else config.reduce_range
    return Scheme(
        signed=signed or nvidia,
        symmetric=config.symmetric or nvidia,
        per_channel=config.per_channel,
        weight_bits=7 if reduce else 8,
        integer_bias=not nvidia,
        pad_stem=not nvidia,
    )


def choose_ranges(
    seen: dict[str, Observation], calibration: CalibrationConfig, scheme: Scheme, whole: Collection[str] = ()
) -> dict[str, Range]:
    """The range of every observed tensor; "auto" leaves nothing of those in `whole` outside."""

    def method(name: str) -> Method:
        if calibration.method != "auto":
            return calibration.method
        return "minmax" if name in whole else "mse"

    return {
        name: found.range(method(name), percentile=calibration.percentile, symmetric=scheme.symmetric)
        for name, found in seen.items()
    }


def place_finite(
    model: onnx.ModelProto, excluded: frozenset[str], ranges: dict[str, Range], nvidia: bool = False
) -> tuple[Placement, frozenset[str]]:
    """A placement without the tensors that reach the float limits, as masks do, and the nodes given up for that."""
    given_up: frozenset[str] = frozenset()
    while True:
        placement = place(model, excluded | given_up, nvidia=nvidia)
        bad = {t for t, of in placement.tensors.items() if not ranges[of].finite}
        if not bad:
            return placement, given_up
        given_up |= {n.name for n in model.graph.node if bad & {*n.input, *n.output}}


def _unchanged(step: OnnxStep, left: tuple[ExcludedNode, ...]) -> StepResult:
    copy_model(step.model, step.out)
    return StepResult(False, nothing_to_quantise(left), left)


def nothing_to_quantise(left: tuple[ExcludedNode, ...]) -> str:
    """Why a model stays as it is."""
    why = "; ".join(sorted({n.reason for n in left}))
    return "no Conv, Gemm or MatMul with a float32 weight can run in int8" + (f" ({why})" if why else "")


def _details(plan: Plan, config: StaticConfig) -> dict[str, Any]:
    return {
        "nodes_int8": len(plan.placement.nodes),
        "tensors_int8": len(plan.placement.tensors),
        "format": config.format,
        "activations": "int8" if plan.scheme.signed else "uint8",
        "symmetric": plan.scheme.symmetric,
        "per_channel": plan.scheme.per_channel,
        "weight_bits": plan.scheme.weight_bits,
        "calibration_method": config.calibration.method,
        "calibration_samples": len(plan.data),
        "equalised_tensors": len(plan.equalised),
        "smoothed_tensors": len(plan.smoothed),
        "softened_masks": plan.masks,
    }
