"""Where training starts: from random weights, or from a model that was trained before, in part or in full."""

from __future__ import annotations

import copy
import difflib
import hashlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit import progress
from edgekit.errors import TrainingError
from edgekit.files import sha256_of
from edgekit.training.checkpoint import WEIGHTS, ModelCard, TrainedModel, load_checkpoint, read_config

if TYPE_CHECKING:
    from torch import nn


def start_key(init: str | None, start: TrainedModel | None = None) -> str:
    """Changes with the weights that training starts from; "" for random ones.

    Raises:
        ModelError: if `init` is no checkpoint.
    """
    if start is not None:
        found = hashlib.sha256()
        for name, value in start.module.state_dict().items():
            found.update(name.encode() + value.detach().cpu().numpy().tobytes())
        return found.hexdigest()
    if init is None:
        return ""
    read_config(Path(init))
    return sha256_of(Path(init) / WEIGHTS) if (Path(init) / WEIGHTS).is_file() else ""


def starting_module(card: ModelCard, init: str | None, start: TrainedModel | None = None) -> nn.Module:
    """The module to train.

    Args:
        card: What it has to become.
        init: Checkpoint directory to start from; None for random weights.
        start: A ready model to start from instead; it is copied.

    Raises:
        ModelError: if `init` is no checkpoint, or a damaged one.
        TrainingError: if the model is of another family, size or kind of input.
    """
    known = start if start is not None else load_checkpoint(Path(init)) if init is not None else None
    if known is None:
        return card.build()
    where = "the model to start from" if init is None else f"init: {init}"
    _require_same_kind(card, known.card, where)
    if card.task != known.card.task and not card.architecture:
        return _of_another_task(card, known, where)
    module = copy.deepcopy(known.module)
    if len(known.card.classes) != len(card.classes):
        name = replace_head(module, len(known.card.classes), len(card.classes))
        progress.note(
            f"{where} has {len(known.card.classes)} classes and {card.data} has {len(card.classes)}: "
            f"its last layer, {name}, starts anew"
        )
    if not card.architecture:  # another's is only what its start says
        _require_same_shapes(card, module, where)
    return module


def replace_head(module: nn.Module, outputs: int, wanted: int) -> str:
    """Put a new linear layer, with random weights, in the place of the last one that has so many outputs.

    Args:
        module: Changed in place.
        outputs: Of the layer to replace.
        wanted: Outputs of the new layer.

    Returns:
        The layer's name.

    Raises:
        TrainingError: if no linear layer has so many outputs.
    """
    from torch import nn

    heads = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
    if not heads:
        raise TrainingError(
            f"no linear layer of the model has {outputs} outputs, so none can be replaced by one with {wanted}; "
            "start from a model with as many classes as the data"
        )
    name, old = str(heads[-1][0]), heads[-1][1]
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, nn.Linear(old.in_features, wanted, bias=old.bias is not None))
    return name


def freeze(module: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Hold parameters at their values.

    Args:
        module: Changed in place.
        patterns: Of parameter names, with the wildcards of file names, such as "features.*".

    Returns:
        The names of the frozen parameters.

    Raises:
        TrainingError: for a pattern that matches nothing, or when nothing is left to train.
    """
    parameters = dict(module.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise TrainingError(f"freeze: {pattern!r} matches no parameter; {_nearest(pattern, list(parameters))}")
    frozen = [name for name in parameters if any(fnmatchcase(name, p) for p in patterns)]
    if len(frozen) == len(parameters):
        raise TrainingError(f"freeze: {', '.join(patterns)} matches every parameter; leave some to train")
    for name in frozen:
        parameters[name].requires_grad_(False)
    return frozen


def frozen_modules(module: nn.Module) -> list[nn.Module]:
    """The modules whose own parameters are all frozen: they stay in evaluation mode, so that statistics stay too."""
    own = [(m, list(m.parameters(recurse=False))) for m in module.modules()]
    return [m for m, parameters in own if parameters and not any(p.requires_grad for p in parameters)]


def _nearest(pattern: str, names: Sequence[str]) -> str:
    groups = [".".join(n.split(".")[:depth]) + ".*" for n in names for depth in range(1, n.count(".") + 1)]
    known = list(dict.fromkeys([*groups, *names]))
    near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {', '.join(map(repr, near))}?"
    return f"names are such as {', '.join(known[:5])}"


def _require_same_kind(card: ModelCard, known: ModelCard, where: str) -> None:
    if (card.family, card.size) != (known.family, known.size):
        raise TrainingError(
            f"{where} is a {known.family}/{known.size}, but a {card.family}/{card.size} is to be trained; "
            f"ask for family {known.family!r} and size {known.size!r}"
        )


def _of_another_task(card: ModelCard, known: TrainedModel, where: str) -> nn.Module:
    """A new module with the weights that both tasks have; its own head starts anew."""
    module, there = card.build(), known.module.state_dict()
    wanted = module.state_dict()
    common = [name for name in wanted if name in there]
    wrong = [
        f"{n} {tuple(there[n].shape)} for {tuple(wanted[n].shape)}" for n in common if there[n].shape != wanted[n].shape
    ]
    if wrong or not common:
        raise TrainingError(
            f"{where} does not fit {card.data}: {'; '.join(wrong) or 'they share no weights'}; start from a model of "
            "the same inputs (for text: the same tokeniser)"
        )
    module.load_state_dict({**wanted, **{name: there[name] for name in common}})
    new = ", ".join(name for name in wanted if name not in there) or "nothing"
    progress.note(
        f"{where} was trained for {known.card.task}: {len(common)} of {len(wanted)} weights are taken; new: {new}"
    )
    return module


def _require_same_shapes(card: ModelCard, module: nn.Module, where: str) -> None:
    """Refuse weights that a model for this data would not have; otherwise it could not be loaded again."""
    wanted = {k: tuple(v.shape) for k, v in card.build().state_dict().items()}
    there = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    wrong = [f"{k} {there.get(k, 'missing')} for {v}" for k, v in wanted.items() if there.get(k) != v]
    wrong += [f"{k} {v} for nothing" for k, v in there.items() if k not in wanted]
    if wrong:
        raise TrainingError(
            f"{where} does not fit {card.data} ({', '.join(map(str, card.inputs))}): {'; '.join(wrong)}; "
            "start from a model of the same kind of input"
        )
