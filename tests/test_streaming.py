"""A model that streams gives what the whole gives, and its int8 form does not wander off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.compress import OnnxStep
from edgekit.compress.quantize.weights import WeightsConfig, quantize_weights
from edgekit.errors import ModelError
from edgekit.export.torch_onnx import export_onnx
from edgekit.ort import Session
from edgekit.specs import Array, TensorSpec
from edgekit.streaming import run_stream, state_drift
from edgekit.training.checkpoint import ModelCard, TrainedModel

SERIES = TensorSpec("series", "float32", ("batch", "time", 3))
STEPS = 500


def model(kind: str, size: str = "pico") -> TrainedModel:
    torch.manual_seed(0)
    card = ModelCard(kind, size, "step-classification", "made up", tuple("abcd"), (SERIES,), {})
    return TrainedModel(card.build().eval(), card)


def walks(n: int = 3) -> Array:
    """Series that wander, as sensors do: float32 (n, 500, 3)."""
    steps = np.random.default_rng(0).standard_normal((n, STEPS, 3))
    walk = np.zeros_like(steps)
    for t in range(1, STEPS):
        walk[:, t] = 0.9 * walk[:, t - 1] + 0.4 * steps[:, t]
    return walk.astype(np.float32)


@pytest.mark.parametrize("chunk", [1, 7, 500, 999])
def test_a_stream_is_the_whole(chunk: int) -> None:
    whole, x = model("lstm"), walks()
    answers = [answer for answer, _ in run_stream(whole.take("streaming"), x, chunk)]
    assert len(answers) == -(-STEPS // chunk)
    np.testing.assert_allclose(np.concatenate(answers, axis=1), whole.run({"series": x})[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_int8_weights_drift_no_further_with_the_steps(kind: str, tmp_path: Path) -> None:
    before, after = tmp_path / "m.onnx", tmp_path / "int8.onnx"
    export_onnx(model(kind, "small").take("streaming"), before)
    assert quantize_weights(WeightsConfig(), OnnxStep(model=before, out=after, target="cpu")).changed
    assert before.stat().st_size > 3 * after.stat().st_size
    drift = state_drift(Session(before), Session(after), walks())
    assert drift.shape == (STEPS,)
    assert drift.min() > 20
    assert drift[-50:].mean() > drift[:50].mean() - 6
    assert np.all(state_drift(Session(before), Session(before), walks()) == 200)


def test_models_that_carry_no_state_or_different_ones() -> None:
    whole = model("gru")
    with pytest.raises(ModelError, match="takes series: float32 batchxtimex3 and no state; make one that streams"):
        next(run_stream(whole, walks()))
    with pytest.raises(ModelError, match=r"the models carry different states: series: .*, hidden: .* and series: "):
        state_drift(whole.take("streaming"), model("lstm").take("streaming"), walks())
