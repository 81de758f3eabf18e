"""Quantisation-aware training: the model learns on in the rounded form in which it will run, with steps it learns too.

The float model is exported and prepared as for static quantisation, so that batch normalisation is folded, pairs stand
where the runtime fuses them, and steps begin where calibration puts them. That graph is trained; its weights stay float
and are rounded when they are read. What comes out is written with exactly the steps that were learnt.

Sources: Jacob et al. 2018, arXiv:1712.05877, section 3 (training with simulated quantisation); Esser et al. 2019,
arXiv:1902.08153 (learnt steps, see `graph.learnt_steps`); Krishnamoorthi 2018, arXiv:1806.08342, section 3.2.4 (batch
normalisation folded with the statistics of the trained model, which stay as they are).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from edgekit.compress.finetune import fine_tune, keep
from edgekit.compress.quantize.plan import Plan
from edgekit.compress.quantize.qdq import write_qdq
from edgekit.compress.quantize.static import CalibrationConfig, StaticConfig, nothing_to_quantise, plan_static
from edgekit.compress.quantize.thaw import thaw
from edgekit.compress.technique import ExcludedNode, StepConfig, StepResult, TorchStep, technique
from edgekit.errors import CompressError, ModelError
from edgekit.export.torch_onnx import export_onnx
from edgekit.files import make_directory, replacing
from edgekit.graph.read import read_model, read_structure
from edgekit.graph.write import save
from edgekit.load.trained_graph import keep_graph
from edgekit.steps import StepStore
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import FineTuneConfig
from edgekit.training.extras import SPARSITY
from edgekit.training.start import start_key
from edgekit.training.teaching import TaughtConfig

if TYPE_CHECKING:
    from torch import nn

MOST_EPOCHS = 100
_CLOSES = "its weights and activations are int8 already, with the steps that it learnt; leave the later step out"


class AwareConfig(StepConfig):
    """Quantisation-aware training. Data, augmentation and smoothing are those that the model was trained with."""

    quantize: Literal["aware"] = "aware"
    epochs: Annotated[int, Field(gt=0, le=MOST_EPOCHS, description="of training in quantised form")] = 2
    learning_rate: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="largest of the one-cycle schedule; well below training's")
    ] = 5e-4
    distill: Annotated[
        bool | TaughtConfig, Field(description="learn from the float base too; true for its logits, or how")
    ] = False
    calibration: Annotated[CalibrationConfig, Field(description="where the steps of activations begin")] = (
        CalibrationConfig()
    )
    per_channel: bool = True
    symmetric: bool = False
    activations: Literal["auto", "uint8", "int8"] = "auto"
    reduce_range: Annotated[
        bool | Literal["auto"], Field(description="7-bit weights; auto: for target cpu-no-vnni")
    ] = "auto"

    @property
    def static(self) -> StaticConfig:
        """What the model is before it is trained on; weights are rounded to the nearest, training does the rest."""
        names = ("calibration", "per_channel", "symmetric", "activations", "reduce_range")
        return StaticConfig(**{name: getattr(self, name) for name in names}, rounding="nearest", bias_correction=False)


@technique(
    AwareConfig,
    stage="torch",
    summary="trained on in int8 form, with learnt steps; for models that static quantisation costs accuracy",
    paper="Jacob et al. 2018, arXiv:1712.05877; learnt steps: Esser et al. 2019, arXiv:1902.08153",
    needs_calibration=True,
    closes=_CLOSES,
    open_to=("quantize: weights",),  # stores tables and what else stayed in float
)
def quantize_aware(config: AwareConfig, step: TorchStep) -> StepResult:
    """Train a model on in quantised form.

    Raises:
        CompressError: if the model was not trained before, or has an operator that nothing can be trained through.
        TrainingError: as `training.fit` raises it.
    """
    require_statistics(step.model.module)
    graph, told = _prepared(config, step)
    left = tuple(ExcludedNode(**node) for node in told["left"])
    if not told["nodes_int8"]:
        keep(step, step.model, step.out)
        return StepResult(False, nothing_to_quantise(left), left)
    start = _trainable(step, graph)
    model, links = _best(step, start, fine_tune(step, start, schedule_of(config)))
    facts = {name: value for name, value in told.items() if name != "left"}
    return StepResult(
        True, _said(config, told, links), left, {**facts, "links": links, "steps": steps_moved(model.module)}
    )


def require_statistics(module: nn.Module) -> None:
    """Refuse a model whose normalisations have seen no data: folded, they would do nothing.

    Raises:
        CompressError: for the first of them.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    for name, layer in module.named_modules():
        if not isinstance(layer, _BatchNorm):
            continue
        mean, variance, seen = layer.running_mean, layer.running_var, layer.num_batches_tracked
        if mean is None or variance is None or (not seen and not mean.any() and bool((variance == 1).all())):
            raise CompressError(
                f"batch normalisation {name!r} has no statistics: the model was not trained; train it first, "
                "quantisation-aware training begins with a trained model"
            )


def _best(step: TorchStep, start: TrainedModel, trained: TrainedModel) -> tuple[TrainedModel, list[dict[str, Any]]]:
    """The better of both on validation data, which is left as the checkpoint; and what is told of them."""
    before, after = step.validate(start), step.validate(trained)
    links = [{"name": "quantised", "validation": before}, {"name": "trained in int8", "validation": after}]
    worse = after < before if step.metric.higher_is_better else after > before
    if not worse:
        return trained, links
    return keep(step, start, step.out), [*links, {"name": "kept as it was quantised", "validation": before}]


def _said(config: AwareConfig, told: dict[str, Any], links: list[dict[str, Any]]) -> str:
    epochs = f"{config.epochs} epoch{'s' if config.epochs > 1 else ''}"
    trained = f"trained so for {epochs} with learnt steps"
    if len(links) > 2:
        trained = f"as calibration has it: {epochs} of training made it no better on validation data"
    return f"{told['nodes_int8']} nodes run in int8, {trained}"


def schedule_of(config: AwareConfig) -> FineTuneConfig:
    """How to train: in float32, since integers do not survive bfloat16, and nothing frozen, since names are others."""
    taught = TaughtConfig() if config.distill is True else config.distill or None
    return FineTuneConfig(
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        precision="32-true",
        freeze=[],
        patience=None,
        distill=taught,
    )


def steps_moved(module: Any) -> dict[str, float]:
    """Each learnt step -> how many times what calibration gave it has become; the mean over channels of a weight."""
    found = {}
    for name in sorted(module.steps):
        start = getattr(module, f"{module.held[name]}_start")
        found[name] = round(float((module.step(name) / start).detach().mean()), 4)
    return found


def _trainable(step: TorchStep, graph: Path) -> TrainedModel:
    """The quantised graph as a module with a card; the graph lies where the checkpoint will."""
    from edgekit.graph.trainable import GraphModule

    model = read_structure(graph)
    try:
        module = GraphModule(model)
    except ModelError as error:
        raise CompressError(str(error)) from error
    card = step.model.card
    described = {"graph": keep_graph(model, make_directory(step.out)), "limits": dict(card.limits)}
    sparse = {SPARSITY: card.edits[SPARSITY]} if SPARSITY in card.edits else {}
    changed = replace(
        card, inputs=card.model_inputs, outputs=tuple(module.outputs), architecture=described, edits=sparse
    )
    return TrainedModel(module.eval(), changed)


def _prepared(config: AwareConfig, step: TorchStep) -> tuple[Path, dict[str, Any]]:
    """The graph to train, and what is told of it; kept, so that an interrupted training goes on with the same one."""
    path = step.work / "quantised.onnx"
    said = config.static.model_dump(mode="json", exclude_defaults=True)
    inputs = [start_key(None, step.model), said, step.fingerprint, step.target, step.opset]

    def make() -> dict[str, Any]:
        plan = _plan(config, step)
        written = write_qdq(plan.model, plan.placement, plan.ranges, plan.scheme)
        thawed = thaw(written, plan.model, plan.placement, plan.scheme)
        with replacing(path) as temporary:
            save(thawed, temporary)
        return {
            "nodes_int8": len(plan.placement.nodes),
            "tensors_int8": len(plan.placement.tensors),
            "activations": "int8" if plan.scheme.signed else "uint8",
            "weight_bits": plan.scheme.weight_bits,
            "calibration_samples": len(plan.data),
            "left": [vars(node) for node in plan.left],
        }

    return path, StepStore(step.work).run("quantised", inputs, [path], make).result


def _plan(config: AwareConfig, step: TorchStep) -> Plan:
    """What runs in int8 and on which ranges, for the model as it is exported."""
    float_file = step.work / "float.onnx"
    export_onnx(step.model, float_file, opset=step.opset)
    calibration = step.load_data().splits["calibration"]
    return plan_static(config.static, read_model(float_file), calibration, step.target)
