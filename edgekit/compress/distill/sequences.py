"""Sequence-level distillation: the student of a language model is trained on text that its teacher wrote.

Each training text keeps its beginning, and the teacher writes the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from edgekit.compress.distill.answers import keep_answers
from edgekit.compress.distill.teacher import Teacher, TorchTeacher
from edgekit.data import DataSet
from edgekit.errors import CompressError
from edgekit.files import digest
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit.training.seen import Seen, Spot

TASK = "language-modelling"


@dataclass(frozen=True)
class Writer:
    """A teacher whose answer to a text is another one: the same beginning, and its own words after that.

    Attributes:
        teacher: A language model.
        prompt: Share of each text that is kept.
        temperature: Of the draw.
        seed: Of the draw.
    """

    teacher: Teacher
    prompt: float
    temperature: float
    seed: int

    module = None

    @property
    def name(self) -> str:
        """As messages call it."""
        return self.teacher.name

    @property
    def key(self) -> str:
        """Changes with what it writes."""
        return digest([self.teacher.key, self.prompt, self.temperature, self.seed])

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Of the teacher."""
        return self.teacher.inputs

    def look(self, inputs: Sequence[Tensor], spots: Sequence[Spot] = ()) -> Seen:
        """Ids int64 (n, length) -> ids of the same shape, as floats; the same for the same texts."""
        import torch

        from edgekit.training.seen import Seen

        (ids,) = inputs
        kept = max(1, round(self.prompt * ids.shape[1]))
        draws = torch.Generator().manual_seed(self.seed ^ crc32(ids.cpu().numpy().tobytes()))
        reader = _reader_of(self.teacher)
        found, logits = ids[:, :kept], reader.read(ids[:, :kept])
        while found.shape[1] < ids.shape[1]:
            chances = (logits.float().cpu() / self.temperature).softmax(-1)
            _refuse_nonsense(chances, self.name)
            token = torch.multinomial(chances, 1, generator=draws).to(ids.device)
            found = torch.cat([found, token], dim=1)
            if found.shape[1] < ids.shape[1]:
                logits = reader.read(token)
        return Seen([found.float()])


class _Rereader:
    """A language model that reads all of the text again for each token."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.text: list[Tensor] = []

    def read(self, ids: Tensor) -> Tensor:
        """Further ids (n, tokens) -> logits of the next one, (n, vocabulary)."""
        import torch

        self.text.append(ids)
        return self.teacher.look([torch.cat(self.text, dim=1)]).outputs[0][:, -1]


class _Rememberer:
    """One that keeps keys and values of what it read, as decoders of ours can."""

    def __init__(self, module: nn.Module, pasts: Sequence[TensorSpec]) -> None:
        self.module, self.pasts = module, pasts
        self.memory: list[Tensor] = []

    def read(self, ids: Tensor) -> Tensor:
        """See `_Rereader`."""
        import torch

        if not self.memory:
            shapes = [(len(ids), int(s.shape[1]), 0, int(s.shape[3])) for s in self.pasts]
            self.memory = [torch.zeros(shape, device=ids.device) for shape in shapes]
        with torch.no_grad():
            logits, *self.memory = self.module.to(ids.device)(ids, *self.memory)
        return logits[:, -1]  # type: ignore[no-any-return]


def _reader_of(teacher: Teacher) -> _Rereader | _Rememberer:
    if isinstance(teacher, TorchTeacher) and teacher.memory:
        return _Rememberer(teacher.module, teacher.memory)
    return _Rereader(teacher)


def _refuse_nonsense(chances: Tensor, name: str) -> None:
    if not bool(chances.isfinite().all()):
        raise CompressError(f"teacher {name} gives NaN or Inf; nothing can be learnt from it: take another teacher")


def written_by(writer: Writer, data: DataSet, *, share: float, place: Path, fingerprint: str) -> DataSet:
    """The data with a share of its training texts as the teacher would have gone on with them.

    Args:
        writer: Who writes, and how.
        data: For language modelling.
        share: Of the training texts.
        place: Directory that keeps what was written.
        fingerprint: Of the data.

    Raises:
        CompressError: if the teacher is no language model, or gives NaN.
    """
    train = data.splits["train"]
    name = data.inputs[0].name
    answers = keep_answers(
        writer, train, [name], task=data.task, place=place, fingerprint=fingerprint, most_bytes=1 << 40
    )
    if answers is None or len(data.inputs) != 1:
        raise CompressError(f"`distill: sequences` needs a language model of ids alone, and {data.name} has others")
    chosen = np.random.default_rng(writer.seed).random(len(train)) < share
    ids = np.array(train.arrays[name])
    ids[chosen] = np.asarray(answers.views[0][0][chosen]).astype(np.int64)
    return replace(data, splits={**data.splits, "train": replace(train, arrays={**train.arrays, name: ids})})
