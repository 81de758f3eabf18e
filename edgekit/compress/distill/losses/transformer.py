"""Transformers: each block of the student learns the attention and the hidden states of one block of the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from edgekit.compress.distill.losses.features import feature_loss
from edgekit.compress.distill.losses.loss import Loss, Pair, Term
from edgekit.compress.distill.losses.positions import steps_there
from edgekit.compress.distill.spots import Attention, Blocks, blocks_of, columns_of
from edgekit.errors import CompressError
from edgekit.training.teaching import TeachingConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit.training.objective import LearningBatch
    from edgekit.training.seen import Seen, Spot


def evenly(students: int, teachers: int) -> list[int]:
    """The teacher's block for each of the student's, counted from 0: the last of each equal part.

    >>> evenly(3, 6)
    [1, 3, 5]

    Source: Jiao et al. 2019, arXiv:1909.10351, section 4.1: g(m) = m N / M.
    """
    return [-(-(block + 1) * teachers // students) - 1 for block in range(students)]


def attention_scores(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Scores before the softmax: (n, tokens, width) twice -> float (n, heads, tokens, tokens)."""
    q, k = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, key))
    scores: Tensor = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    return scores


def attention_loss(student: Tensor, teacher: Tensor, there: Tensor) -> Tensor:
    """Mean squared difference of attention scores; heads are averaged before where there are not as many.

    Args:
        student: float (n, heads, tokens, tokens), before the softmax.
        teacher: The same, with any number of heads.
        there: 1 for tokens that are there, (n, tokens).

    Source: Jiao et al. 2019, arXiv:1909.10351, equation 7.
    """
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
    both = there[:, None, :, None] * there[:, None, None, :]
    squares = (student - teacher).square() * both
    return squares.sum() / (both.sum() * student.shape[1]).clamp(min=1)


@dataclass(frozen=True)
class _Layout:
    """Which places of the two are compared: states before the first block and after each, queries and keys."""

    states: tuple[tuple[Spot, Spot], ...]
    attentions: tuple[tuple[Attention, Attention], ...]


def _compare(layout: _Layout, project: nn.Module, student: Seen, teacher: Seen, batch: LearningBatch) -> Tensor:
    from edgekit.training.seen import Spot

    first = student.spots[layout.states[0][0]]
    there = steps_there(first, batch)
    found = first.new_zeros(())
    for ours, theirs in layout.states:
        found = found + feature_loss(project(student.spots[ours]), teacher.spots[theirs], there)
    for own, other in layout.attentions:
        scores = [
            attention_scores(seen.spots[Spot(a.query)], seen.spots[Spot(a.key)], a.heads)
            for seen, a in ((student, own), (teacher, other))
        ]
        found = found + attention_loss(scores[0], scores[1], there)
    return found


def _make(options: TeachingConfig, pair: Pair) -> Term:
    from torch import nn

    ours, theirs = _blocks(pair.student, "the student"), _blocks(pair.teacher, pair.teacher_name)
    mapping = options.blocks if options.blocks is not None else evenly(len(ours), len(theirs))
    _check_mapping(mapping, len(ours), len(theirs))
    layout = _layout(ours, theirs, mapping)
    pairs = ((pair.student, ours), (pair.teacher, theirs))
    widths = [columns_of(m, b.attentions[0].query) for m, b in pairs if m is not None]  # of a token
    # a copy of the teacher's blocks speaks the teacher's language: nothing has to be translated
    project = nn.Identity() if widths[0] == widths[1] else nn.Linear(widths[0], widths[1], bias=False)
    spots = [(a, b) for a, b in layout.states]
    return Term(
        partial(_compare, layout, project),
        tuple(a for a, _ in spots) + _projections([a for a, _ in layout.attentions]),
        tuple(b for _, b in spots) + _projections([b for _, b in layout.attentions]),
        project,
    )


def _layout(ours: Blocks, theirs: Blocks, mapping: Sequence[int]) -> _Layout:
    from edgekit.training.seen import Spot

    after = [(Spot(a), Spot(theirs.ends[block])) for a, block in zip(ours.ends, mapping, strict=True)]
    before = (Spot(ours.entry, entering=True), Spot(theirs.entry, entering=True))
    attentions = [(a, theirs.attentions[block]) for a, block in zip(ours.attentions, mapping, strict=True)]
    return _Layout((before, *after), tuple(attentions))


def _projections(attentions: Sequence[Attention]) -> tuple[Spot, ...]:
    from edgekit.training.seen import Spot

    return tuple(Spot(name) for a in attentions for name in (a.query, a.key))


def _blocks(module: nn.Module | None, who: str) -> Blocks:
    found = blocks_of(module) if module is not None else None
    if found is None:
        raise CompressError(
            f"`transformer` compares attention and hidden states, and {who} shows no blocks with attention; use "
            "`distill: logits`, or give two transformers of which both are torch models"
        )
    return found


def _check_mapping(mapping: Sequence[int], students: int, teachers: int) -> None:
    if len(mapping) != students or max(mapping) >= teachers:
        raise CompressError(
            f"blocks: the student has {students} blocks and the teacher {teachers}, got {list(mapping)}; give "
            f"{students} numbers in 0..{teachers - 1}, such as {evenly(students, teachers)}"
        )


TRANSFORMER = Loss(
    name="transformer",
    summary="attention scores and hidden states of transformers, block by block",
    paper="Jiao et al. 2019 (TinyBERT), arXiv:1909.10351",
    make=_make,
)
