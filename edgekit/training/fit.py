"""Training by Lightning: resumable, deterministic under a seed, stopped by the validation metric."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import progress
from edgekit.data import DataSet
from edgekit.data.text.beside import keep_tokenizer
from edgekit.errors import DivergenceError, ModelError, TrainingError, brief
from edgekit.families import FAMILIES
from edgekit.files import digest, make_directory, output_errors, sha256_of
from edgekit.machine import package_versions
from edgekit.tasks import TASKS, Metric, find_metric
from edgekit.training.attacks import check_adversarial
from edgekit.training.augment import check_augmentation
from edgekit.training.checkpoint import (
    CONFIG,
    WEIGHTS,
    ModelCard,
    TrainedModel,
    load_checkpoint,
    read_config,
    require_training,
    save_checkpoint,
)
from edgekit.training.config import TrainConfig
from edgekit.training.extras import NOTHING, Extras
from edgekit.training.processes import end_helpers, team
from edgekit.training.start import freeze, start_key, starting_module
from edgekit.training.statistics import warn_of_slow_statistics
from edgekit.training.trainer import callbacks_for, last_checkpoint, quiet_lightning

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit.training.module import FitModule


LAST_GOOD = "last-good"
_SMOOTHED = ("classification", "language-modelling", "sequence-to-sequence")


def card_for(family: str, size: str, data: DataSet) -> ModelCard:
    """The card of a family's model for a data set."""
    preprocessing = data.preprocessing.as_dict() if data.preprocessing else {}
    return ModelCard(family, size, data.task, data.name, data.classes, data.inputs, preprocessing, data.target_scale)


def training_key(card: ModelCard, config: TrainConfig, fingerprint: str, start: str = "") -> str:
    """Changes with everything that changes the trained weights; `start` is that of the weights to start from."""
    versions = {k: v for k, v in package_versions().items() if k in ("torch", "lightning")}
    described = {name: value for name, value in vars(card).items() if value}  # what a later edgekit adds is empty here
    return digest([described, config.as_key(), fingerprint, versions, *([start] if start else [])])


def fit(
    card: ModelCard,
    load_data: Callable[[], DataSet],
    config: TrainConfig,
    out: Path,
    *,
    fingerprint: str,
    start: TrainedModel | None = None,
    metric: Metric | None = None,
    extras: Extras = NOTHING,
) -> TrainedModel:
    """Train a model, or go on where an interrupted training stopped.

    Args:
        card: What to build.
        load_data: Gives the data; called only when there is something to train.
        config: How to train.
        out: Checkpoint directory to write; `out/work` holds what a resumed training needs, and TensorBoard's log.
        fingerprint: Of the data.
        start: A ready model to start from, in the place of random weights or `config.init`.
        metric: Which decides, on validation data; that of the task by default.
        extras: What happens beside that, such as masks that hold pruned weights at zero.

    Returns:
        The model at its best validation metric.

    Raises:
        TrainingError: if the loss is not finite, the family cannot take the data, or Lightning refuses the
            configuration.
        ModelError: if `config.init` is no checkpoint.
    """
    require_training()
    key = extras.keyed(training_key(card, config, fingerprint, start_key(config.init, start)))
    done = _finished(out, key, start)
    if done is not None:
        return done
    from lightning.pytorch import seed_everything

    work = make_directory(out / "work" / key[:12])
    with quiet_lightning(), output_errors(work):
        seed_everything(config.seed, workers=True, verbose=False)
        model = TrainedModel(_untrained(card, config, start), card)
        data = load_data()
        _require_sense(config, data, card)
        warn_of_slow_statistics(model.module, config.epochs * max(1, len(data.splits["train"]) // config.batch_size))
        metric = metric or find_metric(TASKS[card.task].metric)
        try:
            with team(config, work):
                best, history = _run_trainer(model, data, config, work, metric, extras)
        except DivergenceError as error:
            raise DivergenceError(f"{error}; {_keep_last_good(model, work / 'best.ckpt', out, config)}") from error
        validation = _load_best(model, best)
    keep_tokenizer(data.preprocessing, out)
    facts = {"key": key, "train": config.model_dump(), "validation": validation, "history": history}
    save_checkpoint(model, out, facts)
    shutil.rmtree(out / LAST_GOOD, ignore_errors=True)
    return model


def _keep_last_good(model: TrainedModel, best: Path, out: Path, config: TrainConfig) -> str:
    """Save the best model before training diverged, as a checkpoint directory like any other; says where it is."""
    if not best.is_file():
        return "nothing is kept, since no epoch was finished"
    place, validation = out / LAST_GOOD, _load_best(model, best)
    save_checkpoint(model, place, {"train": config.model_dump(), "validation": validation})
    return f"the best model before that ({validation['name']} {validation['value']:.4f}) is kept in {place}"


def _require_sense(config: TrainConfig, data: DataSet, card: ModelCard) -> None:
    """Refuse options that this data or task has no use for."""
    check_augmentation(config.augment, data)
    check_adversarial(config.adversarial, card)
    if config.label_smoothing and data.task not in _SMOOTHED:
        raise TrainingError(f"label_smoothing is for classes and tokens, and this is {data.task}; leave it out")
    _require_length(data, card)
    count = len(data.splits["train"])
    if count < config.batch_size:
        progress.warn(
            f"data {data.name!r} has {count:,} training samples, fewer than one batch of {config.batch_size:,}: each "
            "epoch is one step; add data, or set a smaller batch_size"
        )


def _require_length(data: DataSet, card: ModelCard) -> None:
    """Refuse samples that are longer than the family takes."""
    for spec in card.model_inputs:
        array = data.splits["train"].arrays.get(spec.name)
        for dim, size in zip(spec.shape, () if array is None else array.shape, strict=False):
            limit = card.limits.get(str(dim))
            if limit is not None and size > limit:
                what = f"family {card.family!r} at size {card.size!r}" if card.size else card.family
                larger = "choose a larger size, or " if card.size else ""
                raise TrainingError(
                    f"{what} takes a {dim} of at most {limit}, and data {data.name!r} has {size}; {larger}set the "
                    f"data's `length` to at most {limit}"
                )


def _load_best(model: TrainedModel, path: Path) -> dict[str, Any]:
    """Give the model the weights of Lightning's best checkpoint; its metric."""
    import torch

    from edgekit.training.callbacks import trained_weights

    state = torch.load(path, map_location="cpu", weights_only=True)
    model.module.load_state_dict(trained_weights(state))
    # Convolutions are trained with their channels last; a graph exported so would turn the axes for every view.
    model.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model.module.eval()
    return {"name": TASKS[model.card.task].metric, "split": "validation", "value": _best_score(state)}


def _finished(out: Path, key: str, start: TrainedModel | None) -> TrainedModel | None:
    """The model that an earlier training with this key left, if its files are as it left them."""
    try:
        config = read_config(out) if (out / CONFIG).is_file() else {}
        intact = config.get("key") == key and config.get("sha256") == sha256_of(out / WEIGHTS)
        foreign = start is not None and bool(start.card.architecture)
        return load_checkpoint(out, copy.deepcopy(start.module) if start and foreign else None) if intact else None
    except (ModelError, FileNotFoundError) as error:
        progress.note(f"making the checkpoint again: {error}")
        return None


def _untrained(card: ModelCard, config: TrainConfig, start: TrainedModel | None) -> nn.Module:
    """The module, after it has shown on zeros that it takes the data, with what is to be frozen frozen."""
    import torch

    try:
        module = starting_module(card, config.init, start)
        with torch.inference_mode():
            module.eval()(*_zeros(card))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise TrainingError(
            f"family {card.family!r} cannot take {', '.join(map(str, card.inputs))}: {brief(error)}; choose another "
            "family (`edgekit list families`) or other data"
        ) from error
    freeze(module, config.freeze)
    return module.train()


def _zeros(card: ModelCard) -> list[Tensor]:
    """Two samples of nothing."""
    import torch

    shapes = [[d if isinstance(d, int) else 2 for d in s.shape] for s in card.model_inputs]
    dtypes = [getattr(torch, s.dtype) for s in card.model_inputs]
    return [torch.zeros(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]


def _run_trainer(
    model: TrainedModel, data: DataSet, config: TrainConfig, work: Path, metric: Metric, extras: Extras
) -> tuple[Path, list[dict[str, float]]]:
    """Fit; the path of the best checkpoint, and what each epoch came to."""
    import lightning.pytorch as pl
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import TensorBoardLogger

    from edgekit.training.callbacks import History

    mode = "max" if metric.higher_is_better else "min"
    keep = ModelCheckpoint(
        work, filename="best", monitor="validation", mode=mode, save_last=True, enable_version_counter=False
    )
    history = History()
    try:
        trainer = pl.Trainer(
            max_epochs=config.epochs,
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.num_nodes,
            strategy=config.strategy,
            precision=_precision(model, data, config),
            gradient_clip_val=None if is_adversarial(model.card) else config.clip_gradients,
            callbacks=[*extras.callbacks(model), *callbacks_for(config, mode), history, keep],
            logger=TensorBoardLogger(work, name="", version="tensorboard"),
            enable_progress_bar=not progress.is_quiet(),
            enable_model_summary=False,
            deterministic=True,
            use_distributed_sampler=False,
            log_every_n_steps=10,
        )
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise TrainingError(f"Lightning refuses the training configuration: {brief(error)}") from error
    module, last = _lightning_module(model, data, config, metric, extras), last_checkpoint(work)
    try:
        trainer.fit(module, ckpt_path=last, weights_only=True)
    except SystemExit:  # Lightning turns Ctrl-C into an exit of its own
        end_helpers(trainer)
        raise KeyboardInterrupt from None
    except BaseException:
        end_helpers(trainer)
        raise
    return Path(keep.best_model_path), history.rows


def _lightning_module(
    model: TrainedModel, data: DataSet, config: TrainConfig, metric: Metric, extras: Extras
) -> FitModule:
    """One network that learns, or two that learn from each other."""
    from edgekit.training.gan import AdversarialModule
    from edgekit.training.module import FitModule

    kind = AdversarialModule if is_adversarial(model.card) else FitModule
    return kind(model, data, config, metric, extras.objective(model, data, config))


def is_adversarial(card: ModelCard) -> bool:
    """Whether it is trained against a discriminator."""
    family = FAMILIES.get(card.family)
    return family is not None and family.discriminator is not None


def _precision(model: TrainedModel, data: DataSet, config: TrainConfig) -> str:
    """Lightning's name of the precision to train in, by what two samples of the data cost."""
    import torch

    from edgekit.training.precision import automatic_precision

    if config.precision != "auto":
        return config.precision
    two = data.splits["train"].take(2).arrays
    sample = [torch.from_numpy(two[spec.name]) for spec in model.inputs]
    return automatic_precision(model.module, sample, config.batch_size, config.accelerator)


def _best_score(state: dict[str, Any]) -> float:
    saved = next(v for k, v in state["callbacks"].items() if k.startswith("ModelCheckpoint"))
    score = float(saved["best_model_score"])
    if not math.isfinite(score):
        raise TrainingError("training ended with a validation metric that is not finite; lower `learning_rate`")
    return score
