from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from edgekit.compress import TorchStep
from edgekit.compress.prune.blocks import find_stacks, influence
from edgekit.compress.prune.cost import sample_of
from edgekit.compress.prune.layers import LayersConfig, prune_layers
from edgekit.errors import CompressError
from edgekit.export.torch_onnx import export_onnx
from edgekit.training.checkpoint import TrainedModel

Prepare = Callable[..., TorchStep]


def quiet(model: TrainedModel, names: list[str]) -> None:
    """Blocks that add nothing to what goes through them."""
    with torch.no_grad():
        for name in names:
            layer: Any = model.module.get_submodule(name)
            layer.weight.zero_()
            layer.bias.zero_()


def test_blocks_of_families(model_of: Callable[..., TrainedModel]) -> None:
    found = {f: find_stacks(model_of(f).module) for f in ("vit", "resnet", "cnn", "mlp")}
    assert [(s.path, s.blocks) for s in found["vit"]] == [("0", ((1, 2), (3, 4)))]
    assert [(s.path, s.blocks) for s in found["resnet"]] == [("", ((3,),))]  # the others change the shape
    assert found["cnn"] == found["mlp"] == []


def test_a_block_that_does_nothing_has_no_influence_and_goes(step_of: Prepare) -> None:
    step = step_of("vit")
    quiet(step.model, ["0.1.body.0.out", "0.2.body.3"])
    (stack,) = find_stacks(step.model.module)
    scores = influence(step.model, stack, step.load_data().splits["calibration"].take(8))
    assert scores[0] == pytest.approx(0, abs=1e-6)
    assert scores[1] > 1e-3
    result = prune_layers(LayersConfig(left=1, samples=8, finetune=None), step)
    assert result.details["removed_blocks"] == {"0": [0]}
    pruned = step.open(step.out)
    sample = sample_of(pruned, step.load_data().splits["calibration"], 2)
    with torch.inference_mode():
        torch.testing.assert_close(pruned.module(*sample), step.model.module(*sample))
    assert result.details["macs"]["ratio"] == pytest.approx(128448 / 65856, abs=0.15)
    assert "1 of 2 blocks removed" in result.reason


def test_a_language_model_with_a_block_less_keeps_its_cache(step_of: Prepare, tmp_path: Path) -> None:
    step = step_of("gpt", data="text")
    prune_layers(LayersConfig(keep=[1], finetune=None), step)
    model = step.open(step.out)
    assert model.card.size_arguments["depth"] == 1
    kept = dict(model.module.named_parameters())["blocks.0.attention.out.weight"]
    assert torch.equal(kept, step.model.module.get_parameter("blocks.1.attention.out.weight"))
    cached = model.take("cache")
    assert [s.name for s in cached.inputs] == ["ids", "past_key_values.0.key", "past_key_values.0.value"]
    assert export_onnx(cached, tmp_path / "m.onnx").parity.max_abs < 1e-4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs exactly one of ratio, left, keep, got none"),
        ({"ratio": 0.5, "left": 1}, "got ratio and left"),
        ({"ratio": 1.5}, "less than 1"),
        ({"keep": []}, "at least 1"),
    ],
)
def test_configurations_that_make_no_sense(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LayersConfig(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"left": 2}, "left: 2 takes 0 of 2 blocks; .* give left between 1 and 1"),
        ({"left": 9}, "left: 9 takes 0 of 2 blocks"),
        ({"ratio": 0.9}, "ratio 0.9 takes 2 of 2 blocks"),
        ({"keep": [2]}, r"keep: got \[2\], and the model has blocks 0 to 1; name some of them, not all"),
        ({"keep": [0, 1]}, "name some of them, not all"),
    ],
)
def test_what_leaves_nothing_or_everything(given: dict[str, Any], said: str, step_of: Prepare) -> None:
    with pytest.raises(CompressError, match=said):
        prune_layers(LayersConfig(**given, finetune=None), step_of("vit"))


def test_a_family_without_blocks(step_of: Prepare) -> None:
    with pytest.raises(CompressError, match="cnn has no residual blocks that could be left out; use `prune: channels`"):
        prune_layers(LayersConfig(left=1, finetune=None), step_of("cnn"))


def test_random_blocks_are_those_of_the_seed(step_of: Prepare) -> None:
    step = step_of("vit")
    config = LayersConfig(left=1, importance="random", seed=3, finetune=None)
    found = [prune_layers(config, step).details["removed_blocks"] for _ in range(2)]
    assert found[0] == found[1] == {"0": [int(np.argmin(np.random.default_rng(3).random(2)))]}
