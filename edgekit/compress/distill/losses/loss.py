"""What a loss of distillation is: how it is built for a student and its teacher, and what it looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.training.seen import Seen, Spot
from edgekit.training.teaching import TeachingConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit.training.objective import LearningBatch


@dataclass(frozen=True)
class Pair:
    """A student and its teacher before they meet.

    Attributes:
        student: The module that learns.
        teacher: The module that it learns from; None for one of which only the outputs can be had.
        student_inputs: A few samples, in the order of the student's inputs.
        teacher_inputs: The same, in the order of the teacher's; () without a module.
        task: Name of the task.
        teacher_name: What messages call it.
    """

    student: nn.Module
    teacher: nn.Module | None
    student_inputs: Sequence[Tensor]
    teacher_inputs: Sequence[Tensor]
    task: str
    teacher_name: str = "the teacher"


Compare = Callable[["Seen", "Seen", "LearningBatch"], "Tensor"]


@dataclass(frozen=True)
class Term:
    """One loss, ready for training.

    Attributes:
        compare: (what the student gave, what the teacher gave, batch) -> scalar.
        student: Places in the student that it looks at.
        teacher: Places in the teacher.
        learnt: What is trained along, such as projections; None for nothing.
    """

    compare: Compare
    student: tuple[Spot, ...] = ()
    teacher: tuple[Spot, ...] = ()
    learnt: nn.Module | None = None


@dataclass(frozen=True)
class Loss:
    """One way to compare a student with its teacher.

    Attributes:
        name: In recipes.
        summary: One line for `edgekit list techniques`.
        paper: Where it comes from.
        tasks: Names of the tasks that it is for; () for all.
        make: (options, pair) -> the term.
        instead: What to use for other tasks.
    """

    name: str
    summary: str
    paper: str
    make: Callable[[TeachingConfig, Pair], Term]
    tasks: tuple[str, ...] = ()
    instead: Mapping[str, str] | None = None

    def serves(self, tasks: Sequence[str]) -> bool:
        """Whether it means something for one of these."""
        return not self.tasks or bool(set(self.tasks) & set(tasks))

    def refusal(self, task: str) -> str:
        """Why it is not for a task, and what is."""
        other = (self.instead or {}).get(task, "logits")
        return f"is for {', '.join(self.tasks)}, and this is {task}; use `distill: {other}`"
