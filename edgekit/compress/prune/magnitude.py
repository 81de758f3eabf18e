"""Unstructured pruning: the smallest weights become zero. The file compresses well; ONNX Runtime runs it as before."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from edgekit.compress.finetune import fine_tune
from edgekit.compress.prune.normalisation import estimate_statistics
from edgekit.compress.prune.outcome import AFTER_PATTERN, AFTER_QUANTIZE, link
from edgekit.compress.technique import StepConfig, StepResult, TorchStep, technique
from edgekit.errors import CompressError
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import FineTuneConfig
from edgekit.training.extras import NOTHING, SPARSITY, Extras

if TYPE_CHECKING:
    from torch import Tensor, nn


class MagnitudeConfig(StepConfig):
    """How to set weights to zero."""

    prune: Literal["magnitude"] = "magnitude"
    ratio: Annotated[float, Field(gt=0, lt=1, description="share of the weights that become zero")] = 0.5
    allocation: Annotated[
        Literal["lamp", "global", "layer"],
        Field(
            description="lamp: weights of all layers compete by what they add to their layer; global: by their size; "
            "layer: each loses its share"
        ),
    ] = "lamp"
    ramp: Annotated[
        int | None,
        Field(ge=0, description="epochs over which the zeros become more; half of the fine-tuning by default"),
    ] = None
    finetune: Annotated[FineTuneConfig | None, Field(description="training after it; null for none")] = FineTuneConfig()

    @model_validator(mode="after")
    def _fits_the_training(self) -> Self:
        epochs = self.finetune.epochs if self.finetune else 0
        if self.ramp is not None and self.ramp > epochs:
            raise ValueError(
                f"ramp: a schedule of {self.ramp} epochs is longer than the training of {epochs}; shorten it"
            )
        return self

    @property
    def ramp_epochs(self) -> int:
        """Over which the zeros become more."""
        if self.ramp is not None:
            return self.ramp
        return (self.finetune.epochs + 1) // 2 if self.finetune else 0


@technique(
    MagnitudeConfig,
    stage="torch",
    summary="set the smallest weights to zero: compresses well, runs no faster in ONNX Runtime",
    paper="Zhu and Gupta 2017, arXiv:1710.01878; Han et al. 2015, arXiv:1506.02626; lamp: arXiv:2010.07611",
    not_after={**AFTER_QUANTIZE, **AFTER_PATTERN},
)
def prune_magnitude(config: MagnitudeConfig, step: TorchStep) -> StepResult:
    """Set the smallest weights to zero, gradually while the model trains on.

    Raises:
        CompressError: if the model has no matrix or kernel.
    """
    names = prunable(step.model.module)
    ramp = config.ramp_epochs
    pruned = copy.deepcopy(step.model.module)
    masks = smallest(pruned, names, config.ratio, config.allocation)
    card = replace(step.model.card, edits={**step.model.card.edits, SPARSITY: "unstructured"})
    cut = TrainedModel(masked(pruned, masks).eval(), card)
    links = [link(step, cut, "pruned")]
    if config.finetune is None:
        if estimate_statistics(cut, step.load_data().splits["calibration"]):
            links.append(link(step, cut, "normalised anew"))
        fine_tune(step, cut, None)
        return _told(config, step, cut, names, links)
    start = TrainedModel(step.model.module, card) if ramp else cut
    tuned = fine_tune(step, start, config.finetune, extras=_extras(config, names, masks, ramp))
    return _told(config, step, tuned, names, [*links, link(step, tuned, "fine-tuned")])


def _extras(config: MagnitudeConfig, names: Sequence[str], masks: Mapping[str, Tensor], ramp: int) -> Extras:
    """Masks that are held, and grow while a ramp lasts."""
    import torch

    def choose(module: nn.Module, over: float) -> Mapping[str, Tensor]:
        return smallest(module, names, cubic(config.ratio, over), config.allocation)

    def callbacks(model: TrainedModel) -> Sequence[Any]:
        from edgekit.training.masks import HoldMasks

        if not ramp:
            return [HoldMasks(masks)]
        whole = {n: torch.ones_like(model.module.get_parameter(n), dtype=torch.bool) for n in names}
        return [HoldMasks(whole, choose, ramp, every=10)]

    return replace(NOTHING, key=["magnitude", config.ratio, config.allocation, ramp], callbacks=callbacks)


def prunable(module: nn.Module) -> list[str]:
    """The matrices and kernels of a module, by name; biases, normalisations and embeddings are left alone.

    Raises:
        CompressError: if it has none.
    """
    from torch import nn

    kinds = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase)
    own = [(n, m) for n, m in module.named_modules() if isinstance(m, kinds)]
    shared = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    found = [
        f"{name}.{tensor}" if name else tensor
        for name, layer in own
        for tensor, value in layer.named_parameters(recurse=False)
        if value.ndim > 1 and id(value) not in shared
    ]
    if not found:
        raise CompressError("the model has no matrix and no kernel whose weights could be set to zero")
    return found


def smallest(module: nn.Module, names: Sequence[str], share: float, allocation: str) -> dict[str, Tensor]:
    """Masks that leave out the smallest weights: parameter -> bool, True where a weight stays."""
    import torch

    values = {name: module.get_parameter(name).detach().abs() for name in names}
    if allocation == "lamp":
        values = {name: lamp_scores(value) for name, value in values.items()}
    if allocation == "layer":
        return {name: _above(value, _threshold(value.flatten(), share)) for name, value in values.items()}
    bound = _threshold(torch.cat([v.flatten() for v in values.values()]), share)
    return {name: _above(value, bound) for name, value in values.items()}


def lamp_scores(weight: Tensor) -> Tensor:
    """The square of each weight over the sum of the squares that are no smaller; of a layer the largest has 1.

    What a layer is multiplied by makes no difference, which a normalisation behind it may undo.

    >>> import torch
    >>> lamp_scores(torch.tensor([1.0, -3.0, 2.0])) * 13
    tensor([ 0.9286, 13.0000,  4.0000])

    Source: Lee et al. 2021, Layer-adaptive sparsity for the magnitude-based pruning, arXiv:2010.07611, equation 3.
    """
    squares, order = weight.double().square().flatten().sort(descending=True)
    scores = squares / squares.cumsum(0).clamp(min=1e-300)
    return scores.new_empty(scores.shape).scatter_(0, order, scores).reshape(weight.shape).to(weight.dtype)


def _threshold(values: Tensor, share: float) -> float:
    """The largest of the values that go; below all of them where none goes."""
    count = round(share * len(values))
    return float(values.kthvalue(count).values) if count else -1.0


def _above(values: Tensor, bound: float) -> Tensor:
    return values > bound


def masked(module: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """The module with weights set to zero; changed in place."""
    import torch

    with torch.no_grad():
        for name, mask in masks.items():
            module.get_parameter(name).mul_(mask)
    return module


def cubic(share: float, over: float) -> float:
    """Share of zeros when this share of the schedule is over: fast at first, then ever slower.

    >>> cubic(0.8, 0.0), round(cubic(0.8, 0.5), 3), cubic(0.8, 1.0)
    (0.0, 0.7, 0.8)

    Source: Zhu and Gupta 2017, arXiv:1710.01878, equation 1.
    """
    return share - share * (1 - over) ** 3


def zeros_of(module: nn.Module, names: Sequence[str]) -> tuple[int, int]:
    """(zeros, all) of some parameters."""
    values = [module.get_parameter(name).detach() for name in names]
    return sum(int((v == 0).sum()) for v in values), sum(v.numel() for v in values)


def compressed_bytes(module: nn.Module) -> int:
    """What the weights take when they are zipped."""
    packed = zlib.compressobj(6)
    size = sum(len(packed.compress(v.detach().cpu().numpy().tobytes())) for v in module.state_dict().values())
    return size + len(packed.flush())


def _told(
    config: MagnitudeConfig, step: TorchStep, model: TrainedModel, names: Sequence[str], links: list[dict[str, Any]]
) -> StepResult:
    zeros, total = zeros_of(model.module, names)
    before, after = (compressed_bytes(m.module) for m in (step.model, model))
    reason = (
        f"{100 * zeros / total:.1f} % of the weights are zero; ONNX Runtime runs no faster for it, but zipped the "
        f"weights are {before / max(1, after):.2f} times smaller ({before:,} -> {after:,} bytes)"
    )
    details = {
        "links": links,
        "sparsity": zeros / total,
        "compressed_bytes": {"before": before, "after": after, "ratio": before / max(1, after)},
    }
    return StepResult(True, reason, (), details)
