from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.compress import TorchStep
from edgekit.compress.prune.attention import find_attentions
from edgekit.compress.prune.cost import sample_of
from edgekit.compress.prune.heads import HeadsConfig, choose_heads, heads_of, prune_heads
from edgekit.errors import CompressError
from edgekit.export.torch_onnx import export_onnx
from edgekit.training.checkpoint import TrainedModel

Prepare = Callable[..., TorchStep]


def silenced(model: TrainedModel, heads: dict[str, list[int]]) -> torch.nn.Module:
    """The module with the results of heads multiplied by zero."""
    for attention in find_attentions(model.module):
        output = model.module.get_submodule(attention.output)
        for head in heads.get(attention.name, []):
            start = head * attention.width
            with torch.no_grad():
                output.weight[:, start : start + attention.width] = 0
    return model.module


@pytest.mark.parametrize("family", ["vit"])
def test_a_model_without_heads_answers_as_one_with_them_silenced(family: str, step_of: Prepare) -> None:
    step = step_of(family)
    result = prune_heads(HeadsConfig(ratio=0.5, samples=8, finetune=None), step)
    pruned = step.open(step.out)
    left = result.details["heads"]
    assert sum(left.values()) == heads_of(pruned.module) == 2
    whole = step.open(step.out.parents[1] / "base")
    sample = sample_of(whole, step.load_data().splits["calibration"], 2)
    with torch.inference_mode():
        answers = pruned.module(*sample)
        candidates = [
            silenced(step.open(step.out.parents[1] / "base"), {"0.1.body.0": [i], "0.3.body.0": [j]})(*sample)
            for i in range(2)
            for j in range(2)
        ]
    assert any(torch.allclose(answers, each, atol=1e-5) for each in candidates)
    assert result.details["parameters"]["ratio"] > 1.1
    assert result.details["macs"]["ratio"] > 1.1


def test_the_least_important_heads_go_but_never_all_of_a_layer() -> None:
    from dataclasses import dataclass

    @dataclass
    class Fake:
        heads: int

    attentions: Any = [Fake(4), Fake(4)]
    scores = [np.array([0.1, 0.2, 0.3, 0.4]), np.array([5.0, 6.0, 7.0, 8.0])]
    assert [g.tolist() for g in choose_heads(attentions, scores, 0.25)] == [[0, 1], []]
    assert [g.tolist() for g in choose_heads(attentions, scores, 0.5)] == [[0, 1, 2], [0]]
    with pytest.raises(CompressError, match=r"ratio 0.9 takes 7 of 8 heads, and each of 2 layers keeps one; .* 0.75"):
        choose_heads(attentions, scores, 0.9)
    with pytest.raises(CompressError, match=r"ratio 0\.01 takes 0 of 8 heads"):
        choose_heads(attentions, scores, 0.01)


def test_a_head_that_does_nothing_goes_first(step_of: Prepare) -> None:
    step = step_of("vit")
    silenced(step.model, {"0.1.body.0": [1], "0.3.body.0": [0]})
    result = prune_heads(HeadsConfig(ratio=0.5, samples=16, finetune=None), step)
    assert result.details["heads"] == {"0.1.body.0": 1, "0.3.body.0": 1}
    pruned = step.open(step.out)
    sample = sample_of(pruned, step.load_data().splits["calibration"], 2)
    with torch.inference_mode():
        torch.testing.assert_close(pruned.module(*sample), step.model.module(*sample), rtol=1e-4, atol=1e-5)


def test_a_language_model_with_uneven_heads_keeps_its_cache(step_of: Prepare, tmp_path: Path) -> None:
    step = step_of("gpt", data="text")
    prune_heads(HeadsConfig(ratio=0.25, samples=8, finetune=None), step)
    model = step.open(step.out)
    heads = model.card.size_arguments["heads"]
    assert sorted(heads) == [1, 2]
    cached = model.take("cache")
    assert [s.shape[1] for s in cached.inputs[1:]] == [heads[0], heads[0], heads[1], heads[1]]
    assert {s.shape[3] for s in cached.inputs[1:]} == {16}
    assert export_onnx(cached, tmp_path / "m.onnx").parity.max_abs < 1e-4


def test_a_family_without_heads(step_of: Prepare) -> None:
    with pytest.raises(CompressError, match="cnn has no attention heads that edgekit knows; use `prune: channels`"):
        prune_heads(HeadsConfig(finetune=None), step_of("cnn"))
