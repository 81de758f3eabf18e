"""From what a recipe or the command line names to a teacher that fits the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit import progress
from edgekit.compress.distill.config import BASE
from edgekit.compress.distill.losses.logits import OF_CLASSES
from edgekit.compress.distill.teacher import Ensemble, OnnxTeacher, Teacher, TorchTeacher
from edgekit.data import DataSet
from edgekit.errors import CompressError, ModelError
from edgekit.load import Builder, Description, load_model, open_checkpoint, recognise
from edgekit.load.builder import users_code
from edgekit.load.foreign import refuse_other_tokeniser
from edgekit.specs import TensorSpec
from edgekit.training.checkpoint import TrainedModel

Base = Callable[[], TrainedModel]


def open_teachers(names: Sequence[str], data: DataSet, base: Base | None, builder: Builder | None = None) -> Teacher:
    """The teacher of these names; several of them are an ensemble.

    Args:
        names: "base", or a checkpoint directory, a Hugging Face directory, an .onnx file, each.
        data: That it teaches on.
        base: Gives the uncompressed model.
        builder: The user's code that built a checkpoint of no family of ours.

    Raises:
        ModelError: if one is not there, damaged, or of another tokeniser.
        CompressError: if one is of another task or other classes.
    """
    members = tuple(open_teacher(name, data, base, builder) for name in names)
    return members[0] if len(members) == 1 else Ensemble(members, data.task in OF_CLASSES)


def open_teacher(name: str, data: DataSet, base: Base | None, builder: Builder | None = None) -> Teacher:
    """One teacher; see `open_teachers`."""
    if name == BASE and base is not None:  # without a recipe it is a directory like any other
        return _checked_torch(base(), name, data)
    model = open_source(name, builder)
    return _checked_torch(model, name, data) if isinstance(model, TrainedModel) else _checked_onnx(model, data)


def open_source(name: str, builder: Builder | None = None) -> TrainedModel | OnnxTeacher:
    """What a path names: a torch model, or an ONNX file that is ready to be asked.

    Raises:
        ModelError: if it is not there, or damaged.
    """
    if not Path(name).exists():
        raise ModelError(f"teacher {name} is not there; give a checkpoint or Hugging Face directory, or an .onnx file")
    source = recognise(name)
    if source.onnx is not None:
        return OnnxTeacher(Path(source.onnx), name)
    with users_code(Path()):
        if source.checkpoint is not None:
            return open_checkpoint(Path(source.checkpoint), builder)
        return load_model(source, Description())


def _checked_torch(model: TrainedModel, name: str, data: DataSet) -> Teacher:
    card = model.card
    if card.task and card.task != data.task:
        raise CompressError(f"teacher {name} is for {card.task}, and {data.name} is for {data.task}; take another one")
    if card.architecture.get("untrained_head"):
        raise CompressError(f"teacher {name} has no trained layer for classes; fine-tune it first")
    _check(name, card.classes, card.preprocessing, data)
    _check_vocabulary(name, model.inputs, data)
    return TorchTeacher(model, name)


def _checked_onnx(teacher: OnnxTeacher, data: DataSet) -> Teacher:
    told = teacher.session.metadata
    size = told.get("edgekit.vocabulary", "")
    text = {
        **({"tokenizer_sha256": told["edgekit.tokenizer"]} if told.get("edgekit.tokenizer") else {}),
        **({"vocabulary": int(size)} if size.isdigit() else {}),
    }
    _check(teacher.name, classes_of(told), text, data)
    return teacher


def classes_of(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The classes that an ONNX file names; () where it names none."""
    try:
        return tuple(map(str, json.loads(metadata.get("edgekit.classes") or "[]")))
    except (ValueError, TypeError):
        return ()


def _check(name: str, classes: Sequence[str], preprocessing: Mapping[str, Any], data: DataSet) -> None:
    """Refuse a teacher of other classes or another tokeniser."""
    if classes and data.classes and len(classes) != len(data.classes):
        raise CompressError(
            f"teacher {name} has {len(classes)} classes ({_few(classes)}), and {data.name} has {len(data.classes)} "
            f"({_few(data.classes)}); give a teacher that was trained for these"
        )
    if set(classes) == set(data.classes) and tuple(classes) != data.classes:
        raise CompressError(
            f"teacher {name} has the classes in another order ({_few(classes)}) than {data.name} "
            f"({_few(data.classes)}); give a teacher that was trained for this order"
        )
    if classes and data.classes and not set(classes) & set(data.classes):
        progress.warn(
            f"teacher {name} calls its classes {_few(classes)}, and {data.name} {_few(data.classes)}; they are taken "
            "to be the same, in this order"
        )
    ours = data.preprocessing.as_dict() if data.preprocessing else {}
    for key, what in (("vocabulary", "tokens"), ("tokenizer_sha256", "tokeniser")):
        theirs, own = preprocessing.get(key), ours.get(key)
        if theirs and own and theirs != own:
            raise CompressError(
                f"teacher {name} has another tokeniser than {data.name} ({what} {_short(theirs)} and {_short(own)}); "
                "give the data the teacher's: `data: {name: …, tokenizer: DIRECTORY/tokenizer.json}`"
            )


def _check_vocabulary(name: str, inputs: Sequence[TensorSpec], data: DataSet) -> None:
    try:
        refuse_other_tokeniser(inputs, f"teacher {name}", data)
    except ModelError as error:
        raise CompressError(str(error)) from None


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _short(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{str(value)[:12]}…"
