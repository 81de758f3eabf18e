"""Layers behind removed channels: which are fitted, to what, and what that is worth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from edgekit.compress.prune.graph.groups import Channels, find_channels
from edgekit.compress.prune.graph.refit import layers_behind, refit
from edgekit.compress.prune.graph.remove import remove_channels
from edgekit.data.split import Split
from edgekit.graph.normalise import normalise
from edgekit.specs import Array
from tests.compress.quantize.nets import Net, normal, run

Build = Callable[[Net, np.random.Generator], str]


def low_rank(rng: np.random.Generator, rows: int, columns: int, rank: int = 4) -> Array:
    return (normal(rng, rows, rank) @ normal(rng, rank, columns) + 0.05 * normal(rng, rows, columns)).astype(np.float32)


def branches(net: Net, rng: np.random.Generator) -> str:
    """Two convolutions that join, as where a residual network halves its images."""

    def conv(x: str, out: int, inner: int) -> str:
        return net.add("Conv", x, low_rank(rng, out, inner)[:, :, None, None], 0.1 * normal(rng, out))

    stem = net.add("Relu", conv("x", 16, 8))
    joined = net.add("Add", conv(net.add("Relu", conv(stem, 16, 16)), 16, 16), conv(stem, 16, 16))
    return conv(net.add("Relu", joined), 4, 16)


def feed_forward(net: Net, rng: np.random.Generator) -> str:
    """Two residual parts as in a transformer, the biases added apart."""
    x = "x"
    for _ in range(2):
        wide = net.add("Relu", net.add("Add", net.add("MatMul", x, low_rank(rng, 8, 24)), 0.1 * normal(rng, 24)))
        x = net.add("Add", net.add("Add", net.add("MatMul", wide, low_rank(rng, 24, 8)), 0.1 * normal(rng, 8)), x)
    return net.add("MatMul", net.add("LayerNormalization", x, np.ones(8, np.float32)), low_rank(rng, 8, 3))


CASES: list[tuple[Build, tuple[object, ...], list[str]]] = [
    (branches, ("batch", 8, 6, 6), ["conv2", "conv4", "conv5", "conv8"]),
    (feed_forward, ("batch", 5, 8), ["matmul3", "matmul6", "matmul9", "matmul13"]),
]


def made(build: Build, shape: tuple[object, ...]) -> tuple[Channels, Split, Split]:
    net = Net(x=shape)
    model = normalise(net.model(build(net, np.random.default_rng(0)), rank=len(shape)))
    samples = np.random.default_rng(1).standard_normal((300, *shape[1:])).astype(np.float32)  # type: ignore[arg-type]
    return find_channels(model), Split("learnt", {"x": samples[:200]}), Split("fresh", {"x": samples[200:]})


def error(one: onnx.ModelProto, other: onnx.ModelProto, split: Split) -> float:
    wanted, got = (run(m, dict(split.arrays))[0] for m in (one, other))
    return float(np.square(wanted - got).sum() / np.square(wanted).sum())


@pytest.mark.parametrize(("build", "shape", "layers"), CASES, ids=["branches", "feed forward"])
def test_every_layer_behind_is_fitted(build: Build, shape: tuple[object, ...], layers: list[str]) -> None:
    channels, learnt, fresh = made(build, shape)
    units = np.concatenate([g.units[::2] for g in channels.groups])
    pruned = remove_channels(channels, units)
    before = error(channels.model, pruned, fresh)
    found = refit(channels, units, pruned, learnt, 200, macs=1.0)
    onnx.checker.check_model(pruned, full_check=True)
    assert [r.layer for r in found] == layers
    assert all(r.error_after <= r.error_before for r in found)
    assert error(channels.model, pruned, fresh) < 0.2 * before


def test_only_layers_behind_are_fitted() -> None:
    channels, _, _ = made(branches, ("batch", 8, 6, 6))
    last = channels.groups[-1]
    gone = channels.gone(last.units[:4])
    assert [channels.model.graph.node[0].output[0], *layers_behind(channels, gone)] == ["conv0", "conv8"]


def test_values_that_are_not_finite_leave_a_layer_as_it_is() -> None:
    net = Net(x=("batch", 8))
    hidden = net.add("Log", net.add("MatMul", "x", low_rank(np.random.default_rng(0), 8, 16)))
    model = normalise(net.model(net.add("MatMul", hidden, low_rank(np.random.default_rng(1), 16, 4))))
    channels, units = find_channels(model), find_channels(model).groups[0].units[:8]
    pruned = remove_channels(channels, units)
    split = Split("d", {"x": np.random.default_rng(2).standard_normal((64, 8)).astype(np.float32)})
    assert refit(channels, units, pruned, split, 64, macs=1.0) == []
