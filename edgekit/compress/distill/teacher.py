"""Teachers: models that answer, and never change. A torch module, an ONNX file, or several of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgekit.errors import CompressError
from edgekit.families import FAMILIES
from edgekit.files import digest, sha256_of
from edgekit.specs import Array, TensorSpec
from edgekit.training.checkpoint import TrainedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit.ort import Session
    from edgekit.training.seen import Seen, Spot

_CACHE = "cache"


class Teacher(Protocol):
    """What training asks of a teacher."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def key(self) -> str:
        """Changes with everything that changes its answers."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What goes in."""
        ...

    @property
    def module(self) -> nn.Module | None:
        """Itself, to look inside; None where only the outputs can be had."""
        ...

    def look(self, inputs: Sequence[Tensor], spots: Sequence[Spot] = ()) -> Seen:
        """Its answers to samples in the order of its inputs, without gradients, on the device of the samples."""
        ...


class TorchTeacher:
    """A torch model: a copy of it, frozen and in evaluation mode, that follows the samples to their device.

    Args:
        model: Never changed.
        name: What messages call it.

    Attributes:
        memory: Inputs behind the ids by which a language model remembers what it read; () for others.
    """

    def __init__(self, model: TrainedModel, name: str) -> None:
        import copy

        from edgekit.training.module import channels_last
        from edgekit.training.start import start_key

        self.name, self.inputs = name, model.inputs
        self.key = start_key(None, model)
        self.memory = _memory_of(model)
        self._module = channels_last(copy.deepcopy(model.module)).eval().requires_grad_(False)

    @property
    def module(self) -> nn.Module:
        """The copy."""
        return self._module

    def look(self, inputs: Sequence[Tensor], spots: Sequence[Spot] = ()) -> Seen:
        """See `Teacher`."""
        import torch

        from edgekit.training.objective import look

        with torch.no_grad():
            return look(self._module.to(inputs[0].device), inputs, spots)


def _memory_of(model: TrainedModel) -> tuple[TensorSpec, ...]:
    """The inputs by which a language model of ours remembers what it read; () for others."""
    family = FAMILIES.get(model.card.family)
    can = family is not None and _CACHE in family.parts and model.card.task == "language-modelling"
    return model.take(_CACHE).inputs[1:] if can else ()


class OnnxTeacher:
    """An ONNX file, run by ONNX Runtime on the CPU.

    Args:
        path: The file.
        name: What messages call it.
    """

    module = None

    def __init__(self, path: Path, name: str) -> None:
        from edgekit.graph.read import data_files
        from edgekit.ort import Session

        self.name, self.session = name, Session(path)
        self.key = digest([sha256_of(file) for file in (path, *data_files(path))])
        self.inputs = self.session.inputs

    def look(self, inputs: Sequence[Tensor], spots: Sequence[Spot] = ()) -> Seen:
        """See `Teacher`; it shows no spots."""
        import torch

        from edgekit.training.seen import Seen

        if spots:
            raise CompressError(f"{self.name} is an ONNX file and shows its outputs only; use `distill: logits`")
        feeds = {s.name: np.ascontiguousarray(x.cpu().numpy()) for s, x in zip(self.inputs, inputs, strict=True)}
        outputs = _run(self.session, feeds)
        return Seen([torch.from_numpy(o).to(inputs[0].device) for o in outputs])


def _run(session: Session, feeds: Mapping[str, Array]) -> list[Array]:
    """Run any number of samples, also where the file has a fixed batch."""
    fixed = next((s.shape[0] for s in session.inputs if s.rank and isinstance(s.shape[0], int)), None)
    count = min(len(a) for a in feeds.values())
    if fixed is None or fixed == count:
        return session.run(dict(feeds))
    parts = []
    for start in range(0, count, fixed):
        part = {k: v[start : start + fixed] for k, v in feeds.items()}
        lacking = fixed - min(len(v) for v in part.values())
        filled = {k: np.concatenate([v, np.repeat(v[-1:], lacking, axis=0)]) for k, v in part.items()}
        parts.append(session.run(filled))
    return [np.concatenate(outputs)[:count] for outputs in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Ensemble:
    """Several teachers that speak as one: the mean of their probabilities, or of their numbers.

    Attributes:
        members: Two or more, with the same inputs.
        of_classes: Whether the outputs are logits; the answer is then the logarithm of the mean probability.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2: the arithmetic mean of individual predictions.
    """

    members: tuple[Teacher, ...]
    of_classes: bool

    module = None

    @property
    def name(self) -> str:
        """See `Teacher`."""
        return " and ".join(m.name for m in self.members)

    @property
    def key(self) -> str:
        """See `Teacher`."""
        return digest([[m.key for m in self.members], self.of_classes])

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """See `Teacher`."""
        return self.members[0].inputs

    def look(self, inputs: Sequence[Tensor], spots: Sequence[Spot] = ()) -> Seen:
        """See `Teacher`; it shows no spots."""
        from edgekit.training.seen import Seen

        answers = [m.look(inputs, spots).outputs for m in self.members]
        return Seen([self._mean(list(each)) for each in zip(*answers, strict=True)])

    def _mean(self, outputs: list[Tensor]) -> Tensor:
        import torch

        stacked = torch.stack([o.float() for o in outputs])
        if not self.of_classes:
            return stacked.mean(0)
        return stacked.log_softmax(-1).logsumexp(0) - float(np.log(len(outputs)))


def for_teacher(teacher: Sequence[TensorSpec], inputs: Mapping[str, Tensor], task: str, name: str) -> list[Tensor]:
    """What a teacher gets of what the student got: by name, or by place where the names differ.

    Noise of another width is nothing to an autoencoder's teacher, which then rebuilds the likeliest picture; to a
    generator it is everything.

    Args:
        teacher: Its inputs.
        inputs: Of the student, (n, ...) each, in its order.
        task: Of both.
        name: Of the teacher, for messages.

    Raises:
        CompressError: if the two do not get the same.
    """
    known = {s.name: s for s in teacher}
    renamed = len(known) == len(inputs) and not set(known) & set(inputs)
    pairs = dict(zip(known, inputs, strict=True)) if renamed else {n: n for n in known}
    missing = [n for n, ours in pairs.items() if ours not in inputs]
    if missing:
        raise CompressError(
            f"teacher {name} takes {', '.join(known)}, and the student takes {', '.join(inputs)}; "
            "give a teacher of the same data"
        )
    return [_fitted(known[theirs], inputs[ours], task, name) for theirs, ours in pairs.items()]


def _fitted(spec: TensorSpec, value: Tensor, task: str, name: str) -> Tensor:
    wanted = [w if isinstance(w, int) else g for w, g in zip(spec.shape[1:], value.shape[1:], strict=False)]
    if len(spec.shape) == value.ndim and wanted == list(value.shape[1:]):
        return value
    if task == "reconstruction" and spec.name == "noise":
        return value.new_zeros(len(value), *wanted)
    reason = "both must be made of the same noise" if task == "generation" else "both must see the same"
    got = "x".join(map(str, value.shape[1:]))
    raise CompressError(f"teacher {name} takes {spec}, and the student's {spec.name} is {got}: {reason}")
