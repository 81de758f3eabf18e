"""Dynamic int8: weights ahead of time, activations by their range at run time; no calibration data needed.

Source: Jacob et al. 2018, arXiv:1712.05877; ranges taken at run time: Zafrir et al. 2019, arXiv:1910.06188 (Q8BERT).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import onnx
from pydantic import Field

from edgekit.compress.quantize.candidates import Producers, Weight, find_weights, why_kept, why_nothing
from edgekit.compress.quantize.integer import IntegerWriter, Role, channel_axes, role_of
from edgekit.compress.quantize.moments import observe_multipliers
from edgekit.compress.quantize.recurrent import quantize_recurrent
from edgekit.compress.quantize.smooth import smooth_products
from edgekit.compress.quantize.weights import Stored, WeightsConfig, round_weight, store_weights
from edgekit.compress.technique import ExcludedNode, OnnxStep, StepConfig, StepResult, Target, technique
from edgekit.data.split import Split
from edgekit.graph.constants import dedupe
from edgekit.graph.masks import soften_masks
from edgekit.graph.names import shorten_values
from edgekit.graph.normalise import normalise
from edgekit.graph.read import proto_bytes, read_model, refuse_non_finite
from edgekit.graph.write import write_model

_MIN_OPSET = 11  # DynamicQuantizeLinear
_WORTH_IT = 0.98
_REFUSED: dict[Target, str] = {
    "cuda": "ONNX Runtime's CUDA provider has no kernels for MatMulInteger, every product would be copied to the CPU; "
    "use fp16",
    "tensorrt": "TensorRT has no kernels for MatMulInteger; use static Q/DQ or fp16",
}


class DynamicConfig(StepConfig):
    """int8 products whose activations are quantised at run time.

    Attributes:
        per_channel: A scale for every output channel of a weight.
        reduce_range: 7-bit weights, so that sums do not saturate on x86 CPUs without VNNI; None asks the target.
        min_elements: Smaller weights stay float.
        embeddings: Whether embedding tables stay int8 in memory too.
        smooth: Whether outlier channels of activations are moved into the weights, where calibration data shows them.
        recurrent: Whether LSTM layers run in int8, where calibration data shows that they bear it.
        samples: Calibration samples to look at, where there are any.
    """

    quantize: Literal["dynamic"] = "dynamic"
    per_channel: bool = True
    reduce_range: bool | None = None
    min_elements: int = Field(1024, ge=1)
    embeddings: bool = True
    smooth: bool = True
    recurrent: bool = True
    samples: int = Field(32, ge=1)


@dataclass(frozen=True)
class DynamicResult:
    """What became of a model.

    Attributes:
        products: Matrix products that run in int8.
        lookups: Embedding look-ups on int8 tables.
        masks: Attention masks whose fill was replaced by one that Softmax is fast on.
        layers: LSTM layers that run in int8.
        stored: What became of all other weights.
    """

    products: int
    lookups: int
    masks: int
    layers: tuple[str, ...]
    stored: Stored

    def as_dict(self) -> dict[str, Any]:
        """Facts for a report."""
        counts = {"int8_products": self.products, "int8_lookups": self.lookups, "softened_masks": self.masks}
        return {**counts, "int8_lstm_layers": list(self.layers), **self.stored.as_dict()}


@technique(
    DynamicConfig,
    stage="onnx",
    summary="int8 products with activations quantised at run time; needs no data, best for transformers on a CPU",
    paper="https://arxiv.org/abs/1910.06188",
)
def quantize_dynamic(config: DynamicConfig, step: OnnxStep) -> StepResult:
    """Let matrix products run in int8, and store every other float weight as int8.

    Raises:
        ModelError: if the model cannot be read, or holds NaN or Inf.
        CompressError: if its opset is too old and cannot be raised.
    """
    original = read_model(step.model)
    refuse_non_finite(original, step.model)
    if step.target in _REFUSED:
        write_model(original, step.out)
        return StepResult(False, f"dynamic int8 is refused for {step.target}: {_REFUSED[step.target]}")
    model = normalise(original, min_opset=_MIN_OPSET)
    result = make_dynamic(model, config, excluded=step.excluded, split=step.calibration, target=step.target)
    shorten_values(model)
    nothing = not (result.products or result.lookups or result.layers or result.stored.integers)
    if nothing or proto_bytes(model) > _WORTH_IT * proto_bytes(original):
        write_model(original, step.out)
        return StepResult(False, why_nothing(original, result.stored.kept), details=result.as_dict())
    write_model(model, step.out)
    excluded = tuple(ExcludedNode(name, "asked for") for name in sorted(step.excluded))
    return StepResult(True, _what_was_done(result), excluded, result.as_dict())


def _what_was_done(result: DynamicResult) -> str:
    parts = [f"{result.products} matrix products run in int8"]
    if result.lookups:
        parts.append(f"{result.lookups} look-ups read int8 tables")
    if result.layers:
        parts.append(f"{len(result.layers)} LSTM layers run in int8")
    if result.stored.integers:
        parts.append(f"{len(result.stored.integers)} other weights are stored as int8 and folded when a session loads")
    return "; ".join(parts)


def make_dynamic(
    model: onnx.ModelProto,
    config: DynamicConfig,
    *,
    excluded: Iterable[str] = (),
    split: Split | None = None,
    target: Target = "cpu",
) -> DynamicResult:
    """Rewrite a normalised model in place.

    Args:
        model: As `normalise` leaves it, of opset 11 or newer.
        config: How.
        excluded: Names of nodes that stay in float.
        split: Calibration data; outliers are smoothed, masks softened and LSTM layers tried on it.
        target: Where it will run.
    """
    excluded = frozenset(excluded)
    reduce = config.reduce_range if config.reduce_range is not None else target == "cpu-no-vnni"
    masks = soften_masks(model, split) if split is not None else 0
    chosen = list(_choose(model, config, excluded))
    if split is not None and config.smooth:
        products = [weight for weight, role in chosen if role == "product"]
        smooth_products(model, products, observe_multipliers(model, products, split, config.samples))
    elements = sum(w.size for w in find_weights(model))
    writer = IntegerWriter(model)
    for weight, role in chosen:
        bits = 7 if reduce and role == "product" else 8
        axes = channel_axes(weight, role) if config.per_channel else ()
        # to the nearest: what a product loses, it loses by its activations; rounding on data showed no gain here
        writer.replace(weight, role, *round_weight(weight, axes, {}, bits=bits))
    writer.finish()
    contrib = target != "web"  # DynamicQuantizeLSTM is ONNX Runtime's own; all else here is standard
    layers = quantize_recurrent(model, split, excluded) if split is not None and config.recurrent and contrib else ()
    rest = WeightsConfig(per_channel=config.per_channel, samples=config.samples, spare=_spare(model, elements))
    stored = store_weights(model, rest, excluded=excluded, split=split, skip=writer.initializers)
    dedupe(model)
    return DynamicResult(writer.products, writer.lookups, masks, layers, stored)


def _spare(model: onnx.ModelProto, elements: int) -> float:
    """The default share of all weights, expressed as one of those that are float still."""
    left = sum(w.size for w in find_weights(model))
    return min(1.0, WeightsConfig().spare * elements / max(1, left))


def _choose(model: onnx.ModelProto, config: DynamicConfig, excluded: frozenset[str]) -> Iterable[tuple[Weight, Role]]:
    producers = Producers(model.graph)
    for weight in find_weights(model):
        role = role_of(weight)
        if role is None or (role == "lookup" and not config.embeddings):
            continue
        if not why_kept(weight, config.min_elements, excluded, producers):
            yield weight, role
