from __future__ import annotations

import numpy as np
import pytest

from edgekit.compress.quantize.calibration import observe
from edgekit.compress.quantize.equalize import equalise, links, unevenness
from edgekit.specs import Array
from tests.compress.quantize.nets import Net, images, mobile_block, normal, run, snr_db

SPREAD = 1.5


def peaks_of(model, tensors) -> dict[str, Array]:  # type: ignore[no-untyped-def]
    return {name: seen.channel_peak for name, seen in observe(model, images(16), tensors).items()}


def test_links_of_a_mobile_block_lie_inside_it() -> None:
    assert [(k.before, k.tensor, k.after) for k in links(mobile_block())] == [
        ("conv2", "relu3", "conv4"),
        ("conv4", "relu5", "conv6"),
    ]


def test_equalising_keeps_the_function_and_evens_the_channels() -> None:
    model = mobile_block(spread=SPREAD)
    tensors = [k.tensor for k in links(model)]
    before = peaks_of(model, tensors)
    result = equalise(model, before)
    feeds = dict(images(8).arrays)
    assert snr_db(run(model, feeds)[0], run(result, feeds)[0]) > 100
    after = peaks_of(result, tensors)
    assert unevenness(before["relu3"]) > 8
    assert unevenness(after["relu3"]) == pytest.approx(1.0, abs=0.01)
    assert unevenness(after["relu5"]) < np.sqrt(unevenness(before["relu5"])) * 2


def test_the_given_model_is_not_changed() -> None:
    model = mobile_block(spread=SPREAD)
    bytes_before = model.SerializeToString(deterministic=True)
    equalise(model, peaks_of(model, ["relu3"]))
    assert model.SerializeToString(deterministic=True) == bytes_before


def test_a_clip_that_clips_is_left_alone_and_one_that_never_does_becomes_a_relu() -> None:
    model = mobile_block(activation="Clip")
    assert {k.bound for k in links(model)} == {6.0}
    kept = equalise(model, {"clip3": np.full(64, 6.0), "clip5": np.full(64, 6.0)})
    assert kept.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)
    loose = equalise(model, {"clip3": np.linspace(0.5, 3.0, 64)})
    assert next(n for n in loose.graph.node if n.output[0] == "clip3").op_type == "Relu"


def test_dead_channels_stay_as_they_are() -> None:
    model = mobile_block(spread=SPREAD)
    peak = peaks_of(model, ["relu3"])["relu3"]
    peak[5] = 0.0
    feeds = dict(images(4).arrays)
    result = run(equalise(model, {"relu3": peak}), feeds)[0]
    assert np.isfinite(result).all()
    assert snr_db(run(model, feeds)[0], result) > 100


def test_fully_connected_layers_are_linked_too() -> None:
    rng = np.random.default_rng(0)
    net = Net(x=("batch", 8))
    hidden = net.add("Relu", net.add("Gemm", "x", normal(rng, 8, 16), normal(rng, 16)))
    model = net.model(net.add("Gemm", hidden, normal(rng, 4, 16), normal(rng, 4), transB=1))
    assert [k.tensor for k in links(model)] == ["relu1"]
    feeds = {"x": rng.standard_normal((5, 8)).astype(np.float32)}
    result = equalise(model, {"relu1": np.geomspace(0.01, 100, 16)})
    assert snr_db(run(model, feeds)[0], run(result, feeds)[0]) > 100


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh"])
def test_other_activations_are_no_link(op: str) -> None:
    assert links(mobile_block(activation=op)) == []


def test_a_tensor_that_is_read_twice_or_given_out_is_no_link() -> None:
    rng = np.random.default_rng(0)
    net = Net(x=("batch", 3, 8, 8))
    hidden = net.add("Relu", net.add("Conv", "x", normal(rng, 8, 3, 3, 3), normal(rng, 8)))
    end = net.add("Conv", hidden, normal(rng, 4, 8, 1, 1))
    assert len(links(net.model(end, rank=4))) == 1
    assert links(net.model(end, hidden, rank=4)) == []
    net.add("Add", hidden, end)
    assert links(net.model("add3", rank=4)) == []


def test_unevenness() -> None:
    assert unevenness(np.ones(4)) == pytest.approx(1)
    assert unevenness(np.array([0.0, 0.0])) == 1
    assert unevenness(np.array([1.0, 100.0, 0.0])) == pytest.approx(10)
