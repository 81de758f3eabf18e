"""Tasks and their metrics. A new task: one module here, one line in TASKS, one test."""

from edgekit.tasks.classification import CLASSIFICATION
from edgekit.tasks.generation import GENERATION
from edgekit.tasks.language import LANGUAGE_MODELLING
from edgekit.tasks.masked_language import MASKED_LANGUAGE
from edgekit.tasks.metric import Metric, MetricValue
from edgekit.tasks.metrics import METRICS, find_metric
from edgekit.tasks.reconstruction import RECONSTRUCTION
from edgekit.tasks.regression import REGRESSION
from edgekit.tasks.sequence_to_sequence import SEQUENCE_TO_SEQUENCE
from edgekit.tasks.steps import STEP_CLASSIFICATION
from edgekit.tasks.task import Decode, Task, TrainingBatch

TASKS: dict[str, Task] = {
    t.name: t
    for t in (
        CLASSIFICATION,
        REGRESSION,
        RECONSTRUCTION,
        GENERATION,
        LANGUAGE_MODELLING,
        MASKED_LANGUAGE,
        STEP_CLASSIFICATION,
        SEQUENCE_TO_SEQUENCE,
    )
}

__all__ = ["METRICS", "TASKS", "Decode", "Metric", "MetricValue", "Task", "TrainingBatch", "find_metric"]
