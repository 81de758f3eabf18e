"""int8 weights for any operator that holds a float initializer: a quarter of the size at the speed of float.

Sources: scales by squared error: Banner et al. 2019, arXiv:1810.05723; rounding on data: Frantar et al. 2022,
arXiv:2210.17323; a few tensors in more bits by measured sensitivity: Dong et al. 2019, arXiv:1905.03696.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import onnx
from pydantic import Field

from edgekit.compress.quantize.candidates import Producers, Weight, find_weights, is_spare_half, why_kept, why_nothing
from edgekit.compress.quantize.moments import Observed, multiplier_of, observe_multipliers
from edgekit.compress.quantize.on_data import round_for
from edgekit.compress.quantize.rounding import best_scale, choose_axes, round_to
from edgekit.compress.quantize.sensitivity import Spare, choose_precise
from edgekit.compress.quantize.store import Store
from edgekit.compress.technique import ExcludedNode, OnnxStep, StepConfig, StepResult, technique
from edgekit.data.split import Split
from edgekit.graph.names import shorten_values
from edgekit.graph.normalise import normalise
from edgekit.graph.read import proto_bytes, read_model, refuse_non_finite
from edgekit.graph.write import write_model
from edgekit.specs import Array

_WORTH_IT = 0.98  # a file of more than this share of the original is no gain
_MIN_OPSET = {4: 21, 8: 7, 16: 7}  # Cast of int4; broadcasting Mul
_MIN_IR = {4: 10, 8: 3, 16: 3}


class WeightsConfig(StepConfig):
    """Weights as integers on disk, float when the session has loaded.

    Attributes:
        bits: 8, or 4 for an eighth of the size at more error, or 16 for float16 storage: half the size and next to no
            error.
        per_channel: A scale for every channel where the channels' ranges differ; else one for each tensor.
        min_elements: Smaller tensors stay float.
        samples: Calibration samples that rounding looks at; 0 rounds without data.
        spare: Share of the int8 size that may be spent on keeping the most sensitive tensors in 16 bits; in 8 bits
            where the others have 4.
    """

    quantize: Literal["weights"] = "weights"
    bits: Literal[4, 8, 16] = 8
    per_channel: bool = True
    min_elements: int = Field(512, ge=1)
    samples: int = Field(64, ge=0)
    spare: float = Field(0.03, ge=0, le=1)


@dataclass(frozen=True)
class Stored:
    """What happened to the weights of a model.

    Attributes:
        integers: Names of weights stored as integers.
        precise: Names of weights stored in 8 bits where the others have 4.
        halves: Names of weights stored as float16.
        kept: Why each of the others stayed float.
        bits: Width of `integers`.
    """

    integers: tuple[str, ...] = ()
    precise: tuple[str, ...] = ()
    halves: tuple[str, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)
    bits: int = 8

    @property
    def count(self) -> int:
        """How many are stored in fewer bits."""
        return len(self.integers) + len(self.precise) + len(self.halves)

    def as_dict(self) -> dict[str, Any]:
        """Facts for a report."""
        kinds = {4: {"int4_tensors": len(self.integers), "int8_tensors": list(self.precise)}}
        return {
            **kinds.get(self.bits, {"int8_tensors": len(self.integers)}),
            "float16_tensors": list(self.halves),
            "float_tensors": dict(Counter(self.kept.values())),
        }


@technique(
    WeightsConfig,
    stage="onnx",
    summary="weights of any operator in 8 or 4 bits, folded back at load: a quarter of the size at float speed",
    paper="https://arxiv.org/abs/1810.05723",
)
def quantize_weights(config: WeightsConfig, step: OnnxStep) -> StepResult:
    """Store the float weights of a model as integers.

    Raises:
        ModelError: if the model cannot be read, or holds NaN or Inf.
    """
    original = read_model(step.model)
    refuse_non_finite(original, step.model)
    model = normalise(original, min_opset=_MIN_OPSET[config.bits])
    model.ir_version = max(model.ir_version, _MIN_IR[config.bits])
    before = proto_bytes(original)
    stored = store_weights(model, config, excluded=step.excluded, split=step.calibration)
    shorten_values(model)
    if not stored.count or proto_bytes(model) > _WORTH_IT * before:
        write_model(original, step.out)
        return StepResult(False, why_nothing(original, stored.kept), details=stored.as_dict())
    write_model(model, step.out)
    kind = "float16" if config.bits == 16 else f"int{config.bits}"
    reason = f"{stored.count} weight tensors stored as {kind}; they are folded back to float when a session loads"
    excluded = tuple(ExcludedNode(name, "asked for") for name in sorted(step.excluded))
    return StepResult(True, reason, excluded, stored.as_dict())


def store_weights(
    model: onnx.ModelProto,
    config: WeightsConfig,
    *,
    excluded: Iterable[str] = (),
    split: Split | None = None,
    skip: Iterable[str] = (),
) -> Stored:
    """Store the float weights of a normalised model in fewer bits; the model is changed in place.

    Args:
        model: As `normalise` leaves it.
        config: How.
        excluded: Names of nodes whose weights stay as they are.
        split: Calibration data: rounding then compensates its error on it, and sensitivity is measured, not guessed.
        skip: Names of initializers that are none of its business.
    """
    producers, skip = Producers(model.graph), frozenset(skip)
    found = [w for w in find_weights(model) if w.name not in skip]
    kept = {w.name: why_kept(w, config.min_elements, excluded, producers) for w in found}
    chosen = [w for w in found if not kept[w.name]]
    kept = {name: why for name, why in kept.items() if why}
    spare = [w for w in found if w.name in kept and is_spare_half(w, kept[w.name], producers)]
    store = Store(model)
    if config.bits == 16:
        for weight in chosen:
            store.halves(weight)
        store.finish()
        return Stored(halves=tuple(w.name for w in chosen), kept=kept, bits=16)
    rounding = Rounding(model, chosen, config, split)
    rounded = {w.name: rounding.of(w, config.bits) for w in chosen}
    budget = Spare(config.spare, config.samples, bytes_each=config.bits / 8)
    precise = choose_precise(model, chosen, rounded, budget, split)
    for weight in spare:  # not before: a model that is changed cannot be run
        store.halves(weight)
    for weight in chosen:
        if weight.name not in precise:
            store.integers(weight, *rounded[weight.name], bits=config.bits)
        elif config.bits == 4:
            store.integers(weight, *rounding.of(weight, 8))
        else:
            store.halves(weight)
    store.finish()
    integers, more = tuple(w.name for w in chosen if w.name not in precise), tuple(sorted(precise))
    return Stored(integers, more, (), kept, 4) if config.bits == 4 else Stored(integers, (), more, kept)


class Rounding:
    """Rounds weights, on data where there is some.

    Args:
        model: As `normalise` leaves it.
        weights: What will be rounded.
        config: How.
        split: Calibration data.
    """

    def __init__(
        self, model: onnx.ModelProto, weights: list[Weight], config: WeightsConfig, split: Split | None
    ) -> None:
        self._per_channel = config.per_channel
        self._observed: Mapping[str, Observed] = {}
        if split is not None and config.samples:
            self._observed = observe_multipliers(model, weights, split, config.samples)

    def of(self, weight: Weight, bits: int) -> tuple[Array, Array]:
        """(integers, scale) of a weight."""
        axes = choose_axes(weight.values) if self._per_channel else ()
        return round_weight(weight, axes, self._observed, bits=bits)


def round_weight(
    weight: Weight, axes: tuple[int, ...], observed: Mapping[str, Observed], *, bits: int = 8
) -> tuple[Array, Array]:
    """(integers, scale) of a weight: integers of its shape, float32 scales that broadcast to it.

    Args:
        weight: What is rounded.
        axes: Along which each index has its own scale.
        observed: As `observe_multipliers` gave it; a weight whose multiplier is not in it is rounded to the nearest.
        bits: Width of the integers.
    """
    values = weight.values
    scale = best_scale(values, axes, bits)
    seen = multiplier_of(weight)
    if seen is None or seen.name not in observed:
        return round_to(values, scale, bits), scale
    return round_for(weight.uses[0].node, values, scale, observed[seen.name].second, bits), scale
