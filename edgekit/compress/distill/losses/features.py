"""Features: maps inside the student, through a projection that is learnt, become those inside the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from edgekit.compress.distill.losses.loss import Loss, Pair, Term
from edgekit.compress.distill.losses.positions import steps_there
from edgekit.compress.distill.spots import columns_of, feature_maps, last_tokens, passed_by, penultimate, require_layer
from edgekit.errors import CompressError
from edgekit.training.teaching import TeachingConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit.training.objective import LearningBatch
    from edgekit.training.seen import Seen, Spot


def feature_loss(student: Tensor, teacher: Tensor, there: Tensor | None = None) -> Tensor:
    """Mean squared difference of features, after the student's were projected to as many channels.

    Maps of different size are averaged over areas down to the smaller one.

    Args:
        student: float (n, channels, h, w), (n, steps, width) or (n, width).
        teacher: The same kind.
        there: 1 for steps that count, (n, steps); None for all.

    Source: Romero et al. 2014, arXiv:1412.6550, equation 3.
    """
    if student.ndim == 4:
        student, teacher = _same_size(student, teacher)
    squares = (student - teacher.to(student.dtype)).square()
    if there is None or student.ndim != 3:
        return squares.mean()
    return (squares.mean(-1) * there).sum() / there.sum().clamp(min=1)


def _same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    from torch.nn.functional import adaptive_avg_pool2d

    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return adaptive_avg_pool2d(student, size), adaptive_avg_pool2d(teacher, size)


def projection(student: Sequence[int], teacher: Sequence[int]) -> nn.Module:
    """Brings features of the student to the teacher's number of channels; a 1x1 convolution for maps.

    Args:
        student: Shape of its features.
        teacher: Shape of the teacher's.
    """
    from torch import nn

    if len(student) == 4:
        return nn.Conv2d(student[1], teacher[1], 1, bias=False)
    return nn.Linear(student[-1], teacher[-1], bias=False)


def _make(options: TeachingConfig, pair: Pair) -> Term:
    from torch import nn

    if pair.teacher is None:
        raise CompressError(
            f"`features` looks inside the teacher, and of {pair.teacher_name} only the outputs can be had; leave it "
            "out, or give one teacher that is a checkpoint or Hugging Face directory"
        )
    spots = _given(options.pairs, pair, pair.teacher) if options.pairs else _matching(pair, pair.teacher)
    shapes = [
        (_shape(pair.student, pair.student_inputs, ours), _shape(pair.teacher, pair.teacher_inputs, theirs))
        for ours, theirs in spots
    ]
    for (ours, theirs), (a, b) in zip(spots, shapes, strict=True):
        if len(a) != len(b) or (len(a) == 3 and a[1] != b[1]):
            raise CompressError(
                f"pairs: {ours.layer} gives {_written(a)} and {theirs.layer} gives {_written(b)}, which cannot be "
                "compared; pair layers of one kind"
            )
    learnt = nn.ModuleList(projection(a, b) for a, b in shapes)
    return Term(partial(_compare, spots, learnt), tuple(a for a, _ in spots), tuple(b for _, b in spots), learnt)


def _compare(
    spots: Sequence[tuple[Spot, Spot]], learnt: nn.ModuleList, student: Seen, teacher: Seen, batch: LearningBatch
) -> Tensor:
    found = []
    for (ours, theirs), project in zip(spots, learnt, strict=True):
        features = student.spots[ours]
        there = steps_there(features, batch) if features.ndim == 3 else None
        found.append(feature_loss(project(features), teacher.spots[theirs], there))
    return sum(found[1:], found[0]) / len(found)


def _given(pairs: Mapping[str, str], pair: Pair, teacher: nn.Module) -> list[tuple[Spot, Spot]]:
    from edgekit.training.seen import Spot

    return [
        (
            Spot(require_layer(pair.student, ours, "the student")),
            Spot(require_layer(teacher, theirs, pair.teacher_name)),
        )
        for ours, theirs in pairs.items()
    ]


def _matching(pair: Pair, teacher: nn.Module) -> list[tuple[Spot, Spot]]:
    """The last maps of each size that both have; else the last vectors of steps; else what enters the last layer."""
    from edgekit.training.seen import Spot

    ours, theirs = feature_maps(pair.student, pair.student_inputs), feature_maps(teacher, pair.teacher_inputs)
    common = [size for size in ours if size in theirs]
    if common:
        return [(Spot(ours[size]), Spot(theirs[size])) for size in common]
    tokens = last_tokens(pair.student, pair.student_inputs), last_tokens(teacher, pair.teacher_inputs)
    if tokens[0] and tokens[1]:
        return [(Spot(tokens[0]), Spot(tokens[1]))]
    return [
        (
            penultimate(pair.student, pair.student_inputs, "the student"),
            penultimate(teacher, pair.teacher_inputs, pair.teacher_name),
        )
    ]


def _shape(module: nn.Module, inputs: Sequence[Tensor], spot: Spot) -> tuple[int, ...]:
    if not spot.entering:
        return next(p.shape for p in passed_by(module, inputs) if p.layer == spot.layer)
    return (len(inputs[0]), columns_of(module, spot.layer))


def _written(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape[1:]))


FEATURES = Loss(
    name="features",
    summary="feature maps of equal size through a learnt projection, or layers that are named",
    paper="Romero et al. 2014 (FitNets), arXiv:1412.6550",
    make=_make,
)
