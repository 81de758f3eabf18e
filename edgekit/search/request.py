"""What is asked of `edgekit quantize`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.compress import Target
from edgekit.data.split import Split
from edgekit.tasks.metric import Metric

AUTO = "auto"
DEFAULT_FLOOR = 0.01  # 1 point of a share, or 99 % agreement where there are no labels
DEFAULT_RELATIVE_FLOOR = 0.05  # of any other metric, such as perplexity


@dataclass(frozen=True)
class QuantizeRequest:
    """What is asked for.

    Attributes:
        model: The .onnx file.
        out: The file to write.
        method: "auto", or one method of `edgekit list techniques`.
        calibration: Data that activations may be observed on.
        evaluation: Labelled data to choose by.
        test: Data of the same kind that nothing is chosen on; the chosen file is judged on it at the end.
        metric: What to compute on `evaluation` and `test`.
        max_drop: Largest allowed loss of the metric, in its unit.
        target: Where the result will run.
        threads: For latency.
        seconds: Measuring time of each of a pair.
    """

    model: Path
    out: Path
    method: str = AUTO
    calibration: Split | None = None
    evaluation: Split | None = None
    test: Split | None = None
    metric: Metric | None = None
    max_drop: float | None = None
    target: Target = "cpu"
    threads: int | None = None
    seconds: float = 1.0
