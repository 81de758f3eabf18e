"""The six tasks: what each model does, on what data, and how good an answer is. NumPy only.

A task's folder holds `model.onnx` and

- `calib.npz`: one array a graph input, axis 0 counts the samples; all that a quantiser may see of the data;
- `val.npz`: labelled data from the training side, with the key `labels`, where the task has any;
- `eval.npz`: the test data, inputs and `y`; nothing is ever chosen on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Feeds = dict[str, Array]
Timed = Callable[[Feeds], Feeds]
_NOT_INPUTS = ("y", "enrol")


@dataclass(frozen=True)
class Score:
    """How good a model is on the test data.

    Attributes:
        metric: In the task's own unit.
        agree: Share of predictions that equal the original's; T3: mean cosine with the original's embeddings.
        n: Number of predictions.
    """

    metric: float
    agree: float
    n: int


@dataclass(frozen=True)
class Task:
    """One model with its data and its metric.

    Attributes:
        title: What it is, in a few words.
        metric: Name of the metric.
        sign: +1 where higher is better, -1 where lower is.
        score: From all kept outputs, the original's, and the test data, the score.
        keep: What of one run's output is kept for scoring.
        trim: What of one sample is fed.
        timed: Name of an input -> what of the first calibration sample is timed.
        seconds: Least measuring time of one of a pair.
        pairs: Least number of timed pairs.
        language: Whether it is a language model, which other quantisers are for.
    """

    title: str
    metric: str
    sign: int
    score: Callable[[Array, Array, Feeds], Score]
    keep: Callable[[Array, Feeds], Array] = lambda output, _: output[0]
    trim: Callable[[Feeds], Feeds] = lambda feeds: feeds
    timed: tuple[tuple[str, Timed], ...] = (("batch 1", lambda feeds: feeds),)
    seconds: float = 3.0
    pairs: int = 200
    language: bool = False

    def samples(self, data: Feeds) -> Iterator[Feeds]:
        """The test data, one sample of batch 1 at a time."""
        inputs = {name: array for name, array in data.items() if name not in _NOT_INPUTS}
        for i in range(len(next(iter(inputs.values())))):
            yield self.trim({name: array[i : i + 1] for name, array in inputs.items()})


def score_classes(outputs: Array, original: Array, data: Feeds) -> Score:
    """Share of right classes; outputs (samples, classes)."""
    chosen = outputs.argmax(1)
    return Score(float((chosen == data["y"]).mean()), float((chosen == original.argmax(1)).mean()), len(chosen))


def score_speakers(outputs: Array, original: Array, data: Feeds) -> Score:
    """Share of clips whose nearest enrolled voice is their own; outputs (clips, 256).

    The first `enrol` clips make the voices' means, with the model under test: one device enrols and recognises.
    """
    n, y = int(data["enrol"]), data["y"]
    voices = np.stack([outputs[:n][y[:n] == k].mean(0) for k in range(int(y.max()) + 1)])
    nearest = (outputs[n:] @ voices.T).argmax(1)
    lengths = np.linalg.norm(outputs, axis=1) * np.linalg.norm(original, axis=1)
    return Score(float((nearest == y[n:]).mean()), float(((outputs * original).sum(1) / lengths).mean()), len(nearest))


def score_tokens(outputs: Array, original: Array, _: Feeds) -> Score:
    """Perplexity; outputs (texts, tokens - 1, 2) as `next_tokens` keeps them."""
    perplexity = float(np.exp(-outputs[..., 0].mean()))
    return Score(perplexity, float((outputs[..., 1] == original[..., 1]).mean()), int(outputs[..., 0].size))


def next_tokens(logits: Array, feeds: Feeds) -> Array:
    """Of logits (1, tokens, words): the log-probability of each next token, and the likeliest one."""
    z, target = logits[0, :-1], feeds["input_ids"][0, 1:]
    z = z - z.max(1, keepdims=True)
    chance = z[np.arange(len(target)), target] - np.log(np.exp(z).sum(1))
    return np.stack([chance, z.argmax(1)], 1)


def drop_padding(feeds: Feeds) -> Feeds:
    """A text in its own length, as it comes from a tokenizer that pads nothing."""
    length = int(feeds["attention_mask"].sum())
    return {name: array[:, :length] for name, array in feeds.items()}


def first_tokens(count: int) -> Timed:
    """Only the first tokens of a text."""
    return lambda feeds: {name: array[:, :count] for name, array in feeds.items()}


TASKS = {
    "T1": Task("ResNet-20, Fashion-MNIST", "top1", +1, score_classes),
    "T1b": Task("MobileNetV2-like, ReLU6, Fashion-MNIST", "top1", +1, score_classes),
    "T1c": Task("T1b's net with uneven channel ranges, Fashion-MNIST", "top1", +1, score_classes),
    "T2": Task("MiniLM-L6 and a linear head, spam", "accuracy", +1, score_classes, trim=drop_padding),
    "T3": Task("3-layer LSTM speaker encoder, telephone prompts", "speaker accuracy", +1, score_speakers),
    "T4": Task(
        "SmolLM2-135M, logits, no cache, fortunes",
        "perplexity",
        -1,
        score_tokens,
        keep=next_tokens,
        timed=(("32 tokens", first_tokens(32)), ("1 token", first_tokens(1))),
        seconds=8.0,
        pairs=20,
        language=True,
    ),
}


def load_arrays(path: Path) -> Feeds:
    """All arrays of an .npz."""
    with np.load(path, allow_pickle=False) as held:
        return dict(held)
