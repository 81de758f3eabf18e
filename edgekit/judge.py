"""The judge: a small classifier of a named data set, whose features tell generated pictures from real ones.

It is trained once for a data set and kept in the user's cache; an interrupted training of it goes on the next time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.data import SOURCES, DataSource, ImagePreprocessing
from edgekit.errors import DataError
from edgekit.families import FAMILIES
from edgekit.files import digest, make_directory
from edgekit.machine import package_versions
from edgekit.progress import note
from edgekit.specs import Array, Feeds
from edgekit.tasks import TASKS, Metric, find_metric
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import TrainConfig

if TYPE_CHECKING:
    from torch import Tensor

FAMILY, SIZE = "cnn", "small"
_EPOCHS, _LEAST_STEPS, _TRAIN_BATCH = 4, 300, 128
_BATCH = 512


def bind_judge(metric: Metric, data: str) -> Metric:
    """A metric that can be scored: as it is, or with the judge of a data set where it needs one.

    The judge is looked for, and trained if need be, when the first batch is scored.

    Args:
        metric: Any.
        data: Name of a data set; an .npz will do for metrics that need no judge.

    Raises:
        DataError: if the metric needs a judge, and there can be none for this data.
    """
    if not metric.needs_judge:
        return metric
    require_judge(metric.name, data)

    def score(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
        return judge_of(data).compare(outputs[0], labels)

    return replace(metric, score=score)


def judged_metric(family: str, data: str) -> Metric | None:
    """The metric of a family that is judged, its judge ready for training; None for every other family."""
    tasks = FAMILIES[family].tasks if family in FAMILIES else ()
    metric = next((m for m in map(find_metric, (TASKS[t].metric for t in tasks)) if m.needs_judge), None)
    if metric is None:
        return None
    prepare_judge(metric, data)
    return bind_judge(metric, data)


def prepare_judge(metric: Metric, data: str) -> None:
    """Have the judge ready before something is trained that it shall judge: one training cannot run inside another."""
    if metric.needs_judge:
        require_judge(metric.name, data)
        judge_of(data)


def require_judge(metric: str, data: str) -> DataSource:
    """The source of a data set of pictures with classes, on which a judge can be trained.

    Raises:
        DataError: if it is none.
    """
    able = [name for name, s in SOURCES.items() if {"classification", "generation"} <= set(s.tasks)]
    if data not in able:
        raise DataError(
            f"metric {metric!r} needs a judge, a classifier of a named data set, and {data} has none; "
            f"name one with --judge: {', '.join(able)}"
        )
    return SOURCES[data]


@functools.cache
def judge_of(data: str) -> Judge:
    """The judge of a data set, from the cache or trained now.

    Raises:
        DataError: if the data cannot be had.
        TrainingError: if it cannot be trained.
    """
    from filelock import FileLock

    from edgekit.training.fit import card_for, fit

    source = require_judge("features", data)
    loaded = source.load(None, "classification")
    place = make_directory(_cache() / data)
    with FileLock(place / ".edgekit.lock"):  # whoever comes second waits, and finds it trained
        if not (place / "config.json").is_file():
            note(f"training the judge of {data}, once: a {FAMILY}/{SIZE}, kept in {place}")
        card, fingerprint = card_for(FAMILY, SIZE, loaded), source.fingerprint(None)
        config = config_for(len(loaded.splits["train"]))
        return Judge(fit(card, lambda: loaded, config, place, fingerprint=fingerprint))


def config_for(samples: int) -> TrainConfig:
    """How a judge is trained on so many samples: small data is seen more often."""
    steps = max(1, samples // _TRAIN_BATCH)
    return TrainConfig(epochs=max(_EPOCHS, -(-_LEAST_STEPS // steps)), batch_size=_TRAIN_BATCH)


def judge_key(data: str) -> str:
    """Changes with what changes the judge; cheap."""
    versions = {k: v for k, v in package_versions().items() if k in ("torch", "lightning")}
    return digest([data, FAMILY, SIZE, _EPOCHS, _LEAST_STEPS, _TRAIN_BATCH, versions])


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("edgekit") / "judges"


@dataclass(frozen=True)
class Judge:
    """A trained classifier; what its last layer gets are the features.

    Attributes:
        model: The classifier, with the preprocessing that it was trained with.
        seen: Features by hash of the pictures: real pictures come again for every model.
    """

    model: TrainedModel
    seen: dict[bytes, Array] = field(default_factory=dict, repr=False)

    def compare(self, made: Array, real: Array) -> Array:
        """Features of generated and of real pictures side by side.

        Args:
            made: Pixels in -1..1, float (n, channels, height, width).
            real: Of the same shape and range.

        Returns:
            float32 (n, 2 features).

        Raises:
            DataError: for pictures of another shape, or pixels far out of range.
        """
        self._check(made, "outputs of the model")
        self._check(real, "real pictures, the labels,")
        return np.concatenate([self.features(made), self._remembered(real)], axis=1)

    def features(self, pictures: Array) -> Array:
        """Features of pictures: pixels in -1..1 (n, channels, height, width) -> float32 (n, features)."""
        prepared = convert(pictures, self._own.for_task("generation"), self._own)
        starts = range(0, len(prepared), _BATCH)
        return np.concatenate([self._penultimate(prepared[i : i + _BATCH]) for i in starts])

    @property
    def _own(self) -> ImagePreprocessing:
        """What the classifier was trained with."""
        return ImagePreprocessing.of(self.model.card.preprocessing)

    def _remembered(self, pictures: Array) -> Array:
        key = sha256(np.ascontiguousarray(pictures).data).digest()
        if key not in self.seen:
            self.seen[key] = self.features(pictures)
        return self.seen[key]

    def _penultimate(self, prepared: Array) -> Array:
        import torch

        caught: list[Tensor] = []
        # in full precision also where a training that is under way computes in less
        with torch.inference_mode(), torch.autocast("cpu", enabled=False), _catching(self.model.module, caught.append):
            self.model.module(torch.from_numpy(prepared))
        return caught[0].numpy()

    def _check(self, pictures: Array, what: str) -> None:
        wanted = self.model.card.inputs[0].shape[1:]
        if pictures.ndim != 4 or pictures.shape[1:] != wanted:
            shape = "x".join(map(str, wanted))
            raise DataError(
                f"the judge of {self.model.card.data} needs pictures of shape (n, {shape}), got {pictures.shape} as "
                f"{what.rstrip(',')}; name the data set that fits"
            )
        low, high = float(pictures.min(initial=0.0)), float(pictures.max(initial=0.0))
        if not -1.5 <= low <= high <= 1.5:
            raise DataError(
                f"{what} must have pixels in -1..1, got {low:.3g}..{high:.3g}; scale them as pixels / 127.5 - 1"
            )


def convert(pictures: Array, source: ImagePreprocessing, target: ImagePreprocessing) -> Array:
    """Pictures as one preprocessing left them -> as another one would: float32 (n, channels, height, width)."""
    mean, std = (np.asarray(v, np.float32).reshape(1, -1, 1, 1) for v in (target.mean, target.std))
    return np.ascontiguousarray((source.inverse(pictures) * np.float32(target.scale) - mean) / std, dtype=np.float32)


def _catching(module: Any, catch: Callable[[Tensor], None]) -> Any:
    """A context in which the input of a module's last linear layer is caught."""
    from torch import nn

    last = [m for m in module.modules() if isinstance(m, nn.Linear)][-1]
    return last.register_forward_pre_hook(lambda layer, inputs: catch(inputs[0]))
