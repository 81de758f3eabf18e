"""The technique: a file in, a smaller file out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from edgekit.compress import TECHNIQUES, OnnxStep
from edgekit.compress.prune.onnx_channels import OnnxChannelsConfig
from edgekit.compress.technique import StepResult
from edgekit.data.split import Split
from edgekit.errors import CompressError, DataError
from edgekit.graph.read import read_model
from tests.compress.prune.graph.nets import images, labelled, outputs, redundant
from tests.compress.quantize.nets import Net, normal

APPLY = TECHNIQUES["prune: onnx-channels"].apply


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(redundant(), path)
    return path


def pruned(model: Path, data: Split | None = None, **config: Any) -> tuple[StepResult, onnx.ModelProto]:
    out = model.with_name("out.onnx")
    result = APPLY(OnnxChannelsConfig(**config), OnnxStep(model, out, data))
    return result, read_model(out)


def error_of(model: Path, smaller: onnx.ModelProto) -> float:
    """Of the logits on samples that nothing was learnt from, in parts of their variance."""
    fresh = images(200, seed=9)
    wanted, got = outputs(read_model(model), fresh), outputs(smaller, fresh)
    return float(np.square(wanted - got).sum() / np.square(wanted - wanted.mean(0)).sum())


def test_half_the_cost_and_nearly_the_same_answers(model: Path) -> None:
    result, smaller = pruned(model, images(256), macs=2.0)
    details = result.details
    assert details["macs"]["before"] / details["macs"]["after"] >= 2.0
    assert details["parameters"]["after"] == sum(
        int(np.prod(i.dims)) for i in smaller.graph.initializer if i.data_type == 1
    )
    assert sum(g["before"] - g["after"] for g in details["groups"]) > 0
    assert all(g["after"] % 8 == 0 for g in details["groups"])
    assert [k["layer"] for k in details["kept"]] == ["gemm9"]
    assert error_of(model, smaller) < 0.05
    test = labelled(read_model(model), 200, seed=9)
    assert test.labels is not None
    assert np.mean(outputs(smaller, test).argmax(axis=1) == test.labels) > 0.9
    assert (smaller.graph.input[0].name, smaller.graph.output[0].name) == ("image", "gemm9")


def test_fitting_makes_good_for_most_of_the_loss(model: Path) -> None:
    _, plain = pruned(model, images(256), ratio=0.5, allocation="layer", reconstruct=False)
    before = error_of(model, plain)
    result, fitted = pruned(model, images(256), ratio=0.5, allocation="layer")
    assert error_of(model, fitted) < 0.1 * before
    assert all(r["error_after"] <= r["error_before"] for r in result.details["refits"])
    assert [r["layer"] for r in result.details["refits"]] == ["conv2", "conv4", "gemm9"]


@pytest.mark.parametrize("importance", ["l1", "l2"])
def test_without_data_weights_decide(model: Path, importance: str) -> None:
    result, _ = pruned(model, ratio=0.5, importance=importance)
    assert result.details["asked"]["allocation"] == "global"
    assert not result.details["refits"]
    gone = sum(g["before"] - g["after"] for g in result.details["groups"])
    assert gone / 48 == pytest.approx(0.5)


def test_scales_of_batch_normalisation(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = Net(image=("batch", 3, 8, 8))
    x = net.add("Conv", "image", normal(rng, 16, 3, 3, 3))
    scale = np.where(np.arange(16) % 2, 1.0, 1e-3).astype(np.float32)
    x = net.add("BatchNormalization", x, scale, *(np.full(16, v, np.float32) for v in (0, 0, 1)))
    x = net.add("GlobalAveragePool", net.add("Relu", x))
    path = tmp_path / "model.onnx"
    onnx.save(net.model(net.add("Conv", x, normal(rng, 4, 16, 1, 1)), rank=4), path)
    _, smaller = pruned(path, ratio=0.5, importance="bn-scale")
    assert error_of_images(path, smaller) < 1e-2, "channels with a scale of next to nothing went"
    assert "BatchNormalization" not in {n.op_type for n in smaller.graph.node}


def error_of_images(model: Path, smaller: onnx.ModelProto) -> float:
    wanted, got = outputs(read_model(model), images(16)), outputs(smaller, images(16))
    return float(np.abs(wanted - got).max() / np.abs(wanted).max())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"importance": "energy"}, "importance 'energy' looks at calibration data, and there is none; give --data"),
        ({"allocation": "sensitivity"}, "allocation 'sensitivity' looks at calibration data"),
        ({"importance": "bn-scale"}, "'bn-scale' needs a BatchNormalization at every layer, and 'conv0' has none"),
        ({"ratio": 0.99, "allocation": "layer", "round_to": 1}, "ratio 0.99 would leave nothing of layer 'conv0'"),
        ({"ratio": 0.01, "allocation": "layer"}, "so little pruning removes nothing"),
        ({"macs": 1000.0}, "pruning can take away at most 86% of the multiply-accumulates, and 100% were asked for"),
        ({"round_to": 64}, "what stays is a multiple of 64 channels, and it has 16; a smaller round_to helps"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(model: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(CompressError, match=message) as caught:
        pruned(model, **config)
    assert "\n" not in str(caught.value)
    assert not model.with_name("out.onnx").exists()


@pytest.mark.parametrize(
    "config", [{"ratio": 0.0}, {"ratio": 1.0}, {"macs": 1.0}, {"ratio": 0.5, "macs": 2.0}, {"ratios": 0.5}]
)
def test_a_config_that_makes_no_sense(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OnnxChannelsConfig(**config)


def test_data_that_does_not_fit(model: Path) -> None:
    with pytest.raises(DataError, match="does not fit"):
        pruned(model, Split("wrong", {"image": np.zeros((9, 3, 9, 9), np.float32)}), ratio=0.5)


def test_nothing_to_prune(tmp_path: Path) -> None:
    net = Net(x=("batch", 8))
    path = tmp_path / "model.onnx"
    onnx.save(net.model(net.add("Relu", net.add("MatMul", "x", normal(np.random.default_rng(0), 8, 4)))), path)
    with pytest.raises(CompressError, match="no channels can be removed: 'matmul0': output 'relu1' of the model"):
        pruned(path, ratio=0.5)


def test_a_model_that_is_quantised_already(model: Path) -> None:
    int8 = model.with_name("int8.onnx")
    config = TECHNIQUES["quantize: static"].config()
    TECHNIQUES["quantize: static"].apply(config, OnnxStep(model, int8, images(16)))
    with pytest.raises(CompressError, match=r"quantised already.*; prune the float model before"):
        pruned(int8, ratio=0.5)


def test_the_result_can_be_quantised(model: Path) -> None:
    pruned(model, images(64), ratio=0.5)
    config = TECHNIQUES["quantize: static"].config()
    step = OnnxStep(model.with_name("out.onnx"), model.with_name("int8.onnx"), images(16))
    assert TECHNIQUES["quantize: static"].apply(config, step).changed


def test_weights_that_callers_may_override(model: Path) -> None:
    open_to_callers = read_model(model)
    weight = open_to_callers.graph.initializer[0]
    declared = onnx.helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
    open_to_callers.graph.input.append(declared)
    onnx.save(open_to_callers, model)
    with pytest.raises(CompressError, match=r"callers may override \(weight0\); take them out of its inputs"):
        pruned(model, ratio=0.5)
