"""What a technique of stage "torch" is given: by a run of a recipe, or by the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit.compress import Target, TorchStep
from edgekit.data import DataSet
from edgekit.load import Builder, open_checkpoint
from edgekit.load.builder import users_code
from edgekit.tasks import Metric
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import TrainConfig


@dataclass(frozen=True)
class TorchWork:
    """A checkpoint that is to be compressed, and what is needed for it.

    Attributes:
        checkpoint: Directory to start from.
        base: That of the uncompressed model.
        out: Checkpoint directory to write.
        load_data: Gives the data as the model takes it.
        fingerprint: Of the data.
        metric: Which decides.
        train: How the base was trained.
        work: Directory for what is between.
        threads: That latency is measured with.
        builder: The user's code that built the model; None for others.
        target: Where the result will run.
        opset: That it will be exported at; None for the default.
    """

    checkpoint: Path
    base: Path
    out: Path
    load_data: Callable[[], DataSet]
    fingerprint: str
    metric: Metric
    train: TrainConfig
    work: Path
    threads: int | None = None
    builder: Builder | None = None
    target: Target = "cpu"
    opset: int | None = None

    def step(self) -> TorchStep:
        """What the technique gets."""
        return TorchStep(
            model=self._open(self.checkpoint),
            out=self.out,
            load_data=self.load_data,
            fingerprint=self.fingerprint,
            metric=self.metric,
            validate=self._validate,
            base=lambda: self._open(self.base),
            open=self._open,
            train=self.train,
            work=self.work,
            speedup=self._speedup,
            target=self.target,
            opset=self.opset,
        )

    def _open(self, place: Path) -> TrainedModel:
        with users_code(Path()):
            return open_checkpoint(place, self.builder)

    def _validate(self, model: TrainedModel) -> float:
        from edgekit.evaluate import evaluate

        return evaluate(model, self.load_data().splits["validation"], self.metric).value

    def _speedup(self, model: TrainedModel) -> float:
        """Both files in turns, on one sample."""
        from edgekit.bench.compare import compare_latency
        from edgekit.export.torch_onnx import export_onnx

        before, after = self.work / "before.onnx", self.work / "after.onnx"
        if not before.is_file():
            export_onnx(self._open(self.checkpoint), before)
        export_onnx(model, after)
        sample = next(iter(self.load_data().splits["calibration"].matched(model.inputs).batches(model.inputs, 1)))
        found = compare_latency(before, after, sample.feeds, threads=self.threads, seconds=0.3)
        return float(found.speedup.ratio)
