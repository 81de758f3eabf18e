"""Where a recipe is worked on: its directory, its steps, and the data as its model takes it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgekit import machine
from edgekit.data import DataSet, DataSource, Split, resolve_source
from edgekit.judge import bind_judge
from edgekit.pipeline.loaded import data_for, task_name
from edgekit.recipe import BASE, Recipe
from edgekit.steps import StepStore
from edgekit.streaming import as_stream
from edgekit.tasks import TASKS, Metric, Task, find_metric


@dataclass
class Workspace:
    """One run of a recipe in a locked directory.

    Attributes:
        recipe: What to do.
        out: Directory of everything that comes of it.
    """

    recipe: Recipe
    out: Path

    def __post_init__(self) -> None:
        self.store = StepStore(self.out)
        self.source: DataSource = resolve_source(self.recipe.data)
        self.fingerprint = self.source.fingerprint(None)

    @cached_property
    def data(self) -> DataSet:
        """The data as the model takes it; loaded only when a step has to run."""
        return data_for(self.recipe, self.source, self.task.name, self.out)

    @cached_property
    def task(self) -> Task:
        """What the model does with the data."""
        return TASKS[task_name(self.recipe, self.source)]

    @property
    def metric(self) -> Metric:
        """What decides."""
        return self.bound(self.task.metric)

    @property
    def streams(self) -> bool:
        """Whether the exported models take chunks and carry a state."""
        return self.recipe.export.part == "streaming"

    def fed(self, name: str) -> Split:
        """One split as the exported models take it; whole series as one chunk, for models that stream."""
        split = self.data.splits[name]
        return as_stream(split) if self.streams else split

    def bound(self, name: str) -> Metric:
        """A metric that can be scored on this data."""
        return bind_judge(find_metric(name), self.source.name)

    @property
    def checkpoint(self) -> Path:
        """Where the base lies in torch."""
        return self.out / "checkpoint"

    @property
    def scratch(self) -> Path:
        """Where steps leave what only later steps want."""
        return self.out / "work"

    def model(self, name: str = BASE) -> Path:
        """The file of the base or of a variant."""
        return self.out / "models" / f"{name}.onnx"

    def link(self, name: str, index: int) -> Path:
        """The checkpoint directory that a torch step of a variant writes."""
        return self.scratch / f"{name}.{index}" / "checkpoint"

    def stage(self, name: str, index: int, count: int) -> Path:
        """The file that a step of a variant of so many steps writes: the last one the variant's own."""
        return self.model(name) if index == count - 1 else self.scratch / f"{name}.{index}.onnx"


def versions(*packages: str) -> dict[str, str]:
    """The versions of those that are installed, for the key of a step."""
    there = machine.package_versions()
    return {name: there[name] for name in packages if name in there}
