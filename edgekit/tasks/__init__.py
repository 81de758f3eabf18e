"""Tasks and their metrics. A new task: one module here, one line in TASKS, one test."""

from edgekit.tasks.classification import CLASSIFICATION
from edgekit.tasks.metrics import METRICS, Metric, MetricValue, find_metric
from edgekit.tasks.task import Task

TASKS: dict[str, Task] = {t.name: t for t in (CLASSIFICATION,)}

__all__ = ["METRICS", "TASKS", "Metric", "MetricValue", "Task", "find_metric"]
