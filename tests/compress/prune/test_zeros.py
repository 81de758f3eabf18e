"""Weights that become zero: by magnitude and in patterns, held there while the model trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError

from edgekit.compress import TorchStep, misplaced
from edgekit.compress.distill.config import LogitsConfig
from edgekit.compress.distill.distil import distil
from edgekit.compress.prune.cost import sample_of
from edgekit.compress.prune.dependencies import find_groups
from edgekit.compress.prune.magnitude import (
    MagnitudeConfig,
    cubic,
    lamp_scores,
    prunable,
    prune_magnitude,
    smallest,
    zeros_of,
)
from edgekit.compress.prune.nm import NmConfig, largest, prune_nm
from edgekit.compress.prune.permute import permute, search_order
from edgekit.compress.quantize.aware import AwareConfig, quantize_aware
from edgekit.errors import CompressError
from edgekit.export.torch_onnx import export_onnx
from edgekit.training.masks import HoldMasks
from edgekit.training.module import FitModule

Prepare = Callable[..., TorchStep]
FINETUNE = {"epochs": 2, "learning_rate": 5e-3}


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_smallest_weights_are_left_out(scope: str) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    with torch.no_grad():
        module[0].weight.mul_(100)
    masks = smallest(module, prunable(module), 0.5, scope)
    left = [int(mask.sum()) for mask in masks.values()]
    assert left == ([32, 32] if scope == "layer" else [63, 1] if left[0] == 63 else left)
    assert sum(left) == 64
    for name, mask in masks.items():
        values = module.get_parameter(name).detach().abs()
        if mask.any() and not mask.all():
            assert values[mask].min() > values[~mask].max()


def test_weights_compete_by_what_they_add_to_their_layer() -> None:
    scores = lamp_scores(torch.tensor([[1.0, -3.0], [2.0, 0.0]]))
    torch.testing.assert_close(scores, torch.tensor([[1 / 14, 1.0], [4 / 13, 0.0]]))
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    before = smallest(module, prunable(module), 0.5, "lamp")
    with torch.no_grad():
        module[0].weight.mul_(100)
    after_scaling = smallest(module, prunable(module), 0.5, "lamp")
    assert all(torch.equal(before[name], after_scaling[name]) for name in before)
    assert sum(int(mask.sum()) for mask in before.values()) == 64


def test_the_schedule_is_cubic() -> None:
    assert [round(cubic(0.9, t), 4) for t in (0, 0.25, 0.5, 1)] == [0.0, 0.5203, 0.7875, 0.9]


def test_zeros_stay_zero_through_training_and_its_average(step_of: Prepare) -> None:
    step = step_of("cnn", batch_size=64, ema=0.9)
    config = MagnitudeConfig.model_validate({"ratio": 0.7, "finetune": FINETUNE})
    result = prune_magnitude(config, step)
    model = step.open(step.out)
    zeros, total = zeros_of(model.module, prunable(model.module))
    assert zeros / total == pytest.approx(0.7, abs=0.005) == result.details["sparsity"]
    assert result.details["compressed_bytes"]["ratio"] > 1.8
    assert "ONNX Runtime runs no faster for it" in result.reason
    assert result.details["links"][-1]["validation"] == pytest.approx(step.validate(model))
    untouched = step.model.module.get_parameter("0.weight")
    assert not torch.equal(
        model.module.get_parameter("0.weight")[model.module.get_parameter("0.weight") != 0], untouched
    )


def test_the_ramp_grows_and_only_finished_epochs_count(step_of: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    end = HoldMasks.on_train_batch_end

    def watched(self: Any, trainer: Any, module: Any, *args: Any) -> None:
        end(self, trainer, module, *args)
        masks = list(self.masks.values())
        seen.append(1 - sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks))

    monkeypatch.setattr(HoldMasks, "on_train_batch_end", watched)
    step = step_of("cnn", batch_size=64)
    config = MagnitudeConfig.model_validate({"ratio": 0.8, "ramp": 2, "finetune": {**FINETUNE, "epochs": 3}})
    prune_magnitude(config, step)
    assert seen == sorted(seen)
    third = len(seen) // 3
    assert 0 < seen[third] < 0.8
    assert seen[2 * third - 1] == seen[-1] == pytest.approx(0.8, abs=0.005)
    zeros, total = zeros_of(step.open(step.out).module, prunable(step.model.module))
    assert zeros / total == pytest.approx(0.8, abs=0.005)  # whatever epoch was the best one


def test_an_interrupted_training_goes_on_with_its_masks(
    step_of: Prepare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    step = step_of("cnn", batch_size=64)
    config = MagnitudeConfig.model_validate({"ratio": 0.8, "finetune": {**FINETUNE, "epochs": 3}})
    whole = type(step)(**{**vars(step), "out": tmp_path / "whole"})
    prune_magnitude(config, whole)
    training = FitModule.training_step
    stops: list[int] = []

    def stopping(self: Any, batch: Any, index: int) -> Any:
        if self.current_epoch == 1 and not stops:
            stops.append(self.global_step)
            raise KeyboardInterrupt
        return training(self, batch, index)

    monkeypatch.setattr(FitModule, "training_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        prune_magnitude(config, step)
    prune_magnitude(config, step)
    first, second = (step.open(place).module.state_dict() for place in (whole.out, step.out))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_schedule_longer_than_the_training() -> None:
    with pytest.raises(ValidationError, match="a schedule of 5 epochs is longer than the training of 3; shorten it"):
        MagnitudeConfig(ratio=0.5, ramp=5)
    with pytest.raises(ValidationError, match="longer than the training of 0"):
        MagnitudeConfig(ratio=0.5, ramp=1, finetune=None)


@pytest.mark.parametrize(("few", "many"), [(2, 4), (1, 4), (4, 8)])
def test_of_every_few_neighbours_the_largest_stay(few: int, many: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 16, 3, 3)
    mask = largest(weight, few, many)
    groups = (weight * mask).movedim(1, -1).reshape(-1, many)
    assert ((groups != 0).sum(1) == few).all()
    rows = weight.movedim(1, -1).reshape(-1, many).abs().numpy()
    expected = np.sort(rows, axis=1)[:, many - few :].sum()
    assert float(groups.abs().sum()) == pytest.approx(expected, rel=1e-5)


def test_reordered_channels_change_nothing_and_keep_more(step_of: Prepare) -> None:
    step = step_of("resnet")
    module = step.open(step.out.parents[1] / "base").module
    sample = sample_of(step.model, step.load_data().splits["calibration"], 2)
    names = [n for n in prunable(module) if n.endswith("weight")]
    moved = 0
    for group in find_groups(module, sample).groups:
        order = search_order(module, group, names, 2, 4)
        if order is not None:
            assert sorted(order.tolist()) == list(range(group.count))
            moved += int((order != np.arange(group.count)).sum())
            permute(module, group, order)
    assert moved > 10
    with torch.inference_mode():
        torch.testing.assert_close(module(*sample), step.model.module(*sample), rtol=1e-4, atol=1e-5)


def test_two_of_four_stay_zero_and_the_file_says_so(step_of: Prepare, tmp_path: Path) -> None:
    step = step_of("resnet", batch_size=64)
    result = prune_nm(NmConfig.model_validate({"finetune": {**FINETUNE, "epochs": 1}}), step)
    model = step.open(step.out)
    names = [n for n in prunable(model.module) if model.module.get_parameter(n).shape[1] % 4 == 0]
    for name in names:
        groups = model.module.get_parameter(name).detach().movedim(1, -1).reshape(-1, 4)
        assert int((groups != 0).sum(1).max()) <= 2, name
    assert result.details["magnitude_gained"] > 1.0
    assert result.details["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert {n.name: n.reason for n in result.excluded_nodes} == {
        "0.weight": "its number of inputs, 1, is no multiple of 4"
    }
    export_onnx(model, tmp_path / "m.onnx")
    said = {p.key: p.value for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert said["edgekit.sparsity"] == "2:4"


def test_patterns_that_make_no_sense(step_of: Prepare) -> None:
    for pattern in ("4:2", "0:4", "2/4", "2:4:8", "2:64"):
        with pytest.raises(ValidationError, match="write N:M with 0 < N < M <= 32"):
            NmConfig(pattern=pattern)
    with pytest.raises(CompressError, match=r"no layer has a number of inputs that 17 divides; got \[1, 8, 16\]"):
        prune_nm(NmConfig(pattern="2:17", finetune=None), step_of("cnn"))


def test_nothing_to_set_to_zero() -> None:
    with pytest.raises(CompressError, match="the model has no matrix and no kernel"):
        prunable(torch.nn.ReLU())


def after(step: TorchStep, place: Path) -> TorchStep:
    """The next step of a chain."""
    return replace(step, model=step.open(step.out), out=place / "checkpoint", work=place)


def groups_of_four(values: Any) -> Any:
    """Weights of a file or a module along their inputs, (groups, 4)."""
    return np.moveaxis(np.asarray(values), 1, -1).reshape(-1, 4)


def test_later_steps_keep_the_pattern(step_of: Prepare, tmp_path: Path) -> None:
    step = step_of("cnn", batch_size=64)
    prune_nm(NmConfig(finetune=None), step)
    taught = LogitsConfig.model_validate({"train": {"epochs": 1}})
    distil(taught, after(step, tmp_path / "taught"))
    sparse = after(replace(step, out=tmp_path / "taught" / "checkpoint"), tmp_path / "aware")
    before = {
        name: p.detach() for name, p in sparse.model.module.named_parameters() if p.ndim > 1 and p.shape[1] % 4 == 0
    }
    assert before
    assert all(int((groups_of_four(p) != 0).sum(1).max()) <= 2 for p in before.values())
    quantize_aware(AwareConfig.model_validate({"epochs": 1, "distill": False}), sparse)
    file = tmp_path / "m.onnx"
    export_onnx(sparse.open(sparse.out), file)
    model = onnx.load(file)
    assert {p.key: p.value for p in model.metadata_props}["edgekit.sparsity"] == "2:4"
    kernels = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    kernels = [k for k in kernels if k.ndim > 1 and k.shape[1] % 4 == 0]
    assert len(kernels) == len(before)
    assert all(int((groups_of_four(k) != 0).sum(1).max()) <= 2 for k in kernels)


def test_zeros_by_magnitude_last_too(step_of: Prepare, tmp_path: Path) -> None:
    step = step_of("cnn", batch_size=64)
    prune_magnitude(MagnitudeConfig(ratio=0.6, finetune=None), step)
    pruned = after(step, tmp_path / "next")
    zeros, total = zeros_of(pruned.model.module, prunable(pruned.model.module))
    distil(LogitsConfig.model_validate({"train": {"epochs": 1}}), pruned)
    module = pruned.open(pruned.out).module
    assert zeros_of(module, prunable(module)) == (zeros, total)
    assert zeros / total == pytest.approx(0.6, abs=0.005)


def test_without_training_normalisation_is_estimated_anew(step_of: Prepare) -> None:
    step = step_of("resnet")
    result = prune_magnitude(MagnitudeConfig(ratio=0.5, finetune=None), step)
    assert [link["name"] for link in result.details["links"]] == ["pruned", "normalised anew"]


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        (["prune: nm", "prune: channels"], "it would break the pattern of zeros; put `prune: nm` behind it"),
        (["prune: nm", "prune: heads"], "it would break the pattern of zeros"),
        (["prune: nm", "prune: magnitude"], "it would break the pattern of zeros"),
        (["prune: nm", "prune: onnx-channels"], "use `prune: channels`, and `prune: nm` behind it"),
        (["prune: magnitude", "prune: onnx-channels"], "fills the zeros again"),
        (["quantize: static", "prune: onnx-channels"], "it works on float weights; put it before"),
    ],
)
def test_orders_that_make_no_sense(chain: list[str], said: str) -> None:
    ((index, reason),) = misplaced(chain)
    assert index == 1
    assert said in reason
    assert reason.startswith(f"`{chain[1]}` cannot follow `{chain[0]}`: ")
    assert not misplaced(["prune: channels", "prune: nm", "distill: logits", "quantize: aware"])
