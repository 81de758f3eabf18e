"""Channels of an ONNX graph removed for good, with no source and no training: calibration data makes good for them.

Sources: arXiv:2301.12900 (DepGraph) for what hangs together, arXiv:2302.04089 (ZipLM) for which channels go,
arXiv:1608.08710 for how many of each layer, arXiv:1707.06168 (He et al.) for fitting what reads them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import onnx
from pydantic import Field, model_validator

from edgekit.compress.prune.graph.plan import Pruned, Wish, apply_plan, choose_counts, prepare_plan
from edgekit.compress.quantize.candidates import out_of_reach
from edgekit.compress.technique import OnnxStep, StepConfig, StepResult, technique
from edgekit.errors import CompressError
from edgekit.graph.fold_affine import fold_affine
from edgekit.graph.normalise import PASSES, normalise, run_passes
from edgekit.graph.read import read_model, refuse_non_finite
from edgekit.graph.write import write_model

_RATIO = 0.5


class OnnxChannelsConfig(StepConfig):
    """Remove channels of any float ONNX file; what cannot be proven safe stays.

    Attributes:
        ratio: Share of all channels that may go and that goes; half where neither this nor `macs` is given.
        macs: Instead: how many times fewer multiply-accumulates.
        importance: Which channels go first: "reconstruction" (what readers cannot make good) and "energy" (what readers
            get from a channel) look at calibration data, "l1", "l2" and "bn-scale" at weights alone. "auto" is
            reconstruction with data and l2 without.
        allocation: How many go of each layer: "sensitivity" (what the outputs lose, measured on calibration data),
            "global" (by importance across layers) or "layer" (the same share of each). "auto" is sensitivity with data
            and global without.
        round_to: What stays of a layer is a multiple of this.
        reconstruct: Whether layers behind removed channels are fitted on calibration data.
        samples: Most calibration samples that are looked at.
    """

    prune: Literal["onnx-channels"] = "onnx-channels"
    ratio: Annotated[float | None, Field(gt=0, lt=1)] = None
    macs: Annotated[float | None, Field(gt=1)] = None
    importance: Literal["auto", "reconstruction", "energy", "l1", "l2", "bn-scale"] = "auto"
    allocation: Literal["auto", "sensitivity", "global", "layer"] = "auto"
    round_to: Annotated[int, Field(ge=1)] = 8
    reconstruct: bool = True
    samples: Annotated[int, Field(ge=8)] = 1024

    @model_validator(mode="after")
    def _one_goal(self) -> OnnxChannelsConfig:
        if self.ratio is not None and self.macs is not None:
            raise ValueError("give ratio or macs, not both: each alone says how much goes")
        if self.allocation == "layer" and self.macs is not None:
            raise ValueError("allocation: layer takes the same share of each layer; give ratio in place of macs")
        return self

    def wish(self, *, has_data: bool) -> Wish:
        """What is asked for, with "auto" settled.

        Raises:
            CompressError: if it cannot be had without calibration data.
        """
        importance = self.importance if self.importance != "auto" else "reconstruction" if has_data else "l2"
        allocation = self.allocation if self.allocation != "auto" else "sensitivity" if has_data else "global"
        for what, got in (("importance", importance), ("allocation", allocation)):
            if not has_data and got in ("reconstruction", "energy", "sensitivity"):
                raise CompressError(f"{what} {got!r} looks at calibration data, and there is none; give --data DATA")
        ratio = self.ratio if self.ratio is not None or self.macs is not None else _RATIO
        fit = self.reconstruct and has_data
        return Wish(ratio, self.macs, importance, allocation, self.round_to, fit, self.samples)


@technique(
    OnnxChannelsConfig,
    stage="onnx",
    summary="channels of any ONNX graph removed for good, without its source; calibration data makes good for them",
    paper="arXiv:2301.12900, arXiv:2302.04089, arXiv:1707.06168",
    needs_calibration=True,
    not_after={
        "quantize": "it works on float weights; put it before",
        "prune: nm": "it would break the pattern of zeros; use `prune: channels`, and `prune: nm` behind it",
        "prune: magnitude": "fitting what is left fills the zeros again; use `prune: channels` in its place",
    },
)
def prune_onnx_channels(config: OnnxChannelsConfig, step: OnnxStep) -> StepResult:
    """Remove channels of a file and write what is left.

    Raises:
        CompressError: if the model is quantised already, has no channels that may go, or cannot be pruned so far.
        ModelError: if the model cannot be used.
        DataError: if the calibration data does not fit it.
    """
    wish = config.wish(has_data=step.calibration is not None)
    model = prunable_model(read_model(step.model), str(step.model), unfolded=wish.importance == "bn-scale")
    refuse_non_finite(model, step.model)
    plan = prepare_plan(model, wish, step.calibration)
    pruned = apply_plan(plan, choose_counts(plan, wish), wish, step.calibration)
    write_model(normalise(pruned.model), step.out, feeds=plan.feeds)
    return result_of(pruned)


def prunable_model(model: onnx.ModelProto, name: str, *, unfolded: bool = False) -> onnx.ModelProto:
    """A model in the shape that channels are looked for in.

    Args:
        model: As it was read.
        name: What messages call it.
        unfolded: Whether BatchNormalization stays as it is.

    Raises:
        CompressError: if it is quantised already, or callers may override its weights.
    """
    found = run_passes(model, [p for p in PASSES if p is not fold_affine]) if unfolded else normalise(model)
    if reason := out_of_reach(found):
        way = "prune the float model before it is" if "quantised already" in reason else "take them out of its inputs"
        raise CompressError(f"{name} cannot be pruned: {reason}; {way}")
    return found


def result_of(pruned: Pruned) -> StepResult:
    """What a report says of a pruned model."""
    before, after = pruned.macs
    reason = f"{before / max(after, 1):.2f}x fewer multiply-accumulates: {pruned.said}"
    return StepResult(True, reason, details=pruned.as_dict())
