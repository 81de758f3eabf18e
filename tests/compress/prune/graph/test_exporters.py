"""Shapes as exporters write them: packed attention, merged batches, computed sizes, repeated and grouped axes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.compress import TECHNIQUES, OnnxStep
from edgekit.compress.prune.graph.groups import Channels, find_channels
from edgekit.compress.prune.graph.remove import disagreement, prove_removal, remove_channels, silence_channels
from edgekit.compress.prune.graph.runs import sample_feeds
from edgekit.compress.prune.onnx_channels import OnnxChannelsConfig
from edgekit.graph.normalise import normalise
from edgekit.graph.read import read_model
from edgekit.specs import Array
from tests.compress.prune.graph.test_remove import built, conv, feeds, half, ints
from tests.compress.quantize.nets import Net, normal

TOKENS, MOST = ("batch", "time", 16), 1 << 62
Build = Callable[[Net, np.random.Generator], str]


def dense(net: Net, rng: np.random.Generator, x: str, out: int, inner: int) -> str:
    return net.add("Add", net.add("MatMul", x, normal(rng, inner, out)), normal(rng, out))


def tokens(batch: int, time: int) -> dict[str, Array]:
    return {"x": np.random.default_rng(1).standard_normal((batch, time, 16)).astype(np.float32)}


def prove_on_tokens(channels: Channels) -> None:
    gone = half(channels)
    smaller = remove_channels(channels, gone)
    for batch, time in ((1, 1), (2, 7)):
        given = tokens(batch, time)
        assert disagreement(silence_channels(channels, gone), smaller, given) < 1e-5
        assert disagreement(channels.model, smaller, given) > 1e-3


def packed_attention(net: Net, rng: np.random.Generator, *, turned: bool = False) -> str:
    """Queries, keys and values of four heads of four in one product; keys turned with batch and heads merged or not."""
    shape = net.add("Shape", "x", start=0, end=2)
    parts = net.add(
        "Reshape", dense(net, rng, "x", 48, 16), net.add("Concat", shape, ints(3), ints(4), ints(4), axis=0)
    )
    moved = net.add("Transpose", parts, perm=[2, 0, 3, 1, 4])
    query, key, value = (net.add("Gather", moved, np.array(i, np.int64), axis=0) for i in range(3))
    scores = net.add("MatMul", query, _turned(net, key) if turned else net.add("Transpose", key, perm=[0, 1, 3, 2]))
    mixed = net.add("Transpose", net.add("MatMul", net.add("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
    back = net.add("Reshape", mixed, net.add("Concat", shape, ints(16), axis=0))
    return net.add("MatMul", back, normal(rng, 16, 5))


def _turned(net: Net, key: str) -> str:
    """The last two axes exchanged as torch's exporter writes it since 2.5."""
    sizes = net.add("Shape", key)
    last, second = (net.add("Slice", sizes, ints(a), ints(b)) for a, b in ((-1, MOST), (-2, -1)))
    flat = net.add("Reshape", key, net.add("Concat", ints(-1), second, last, axis=0))
    leading = net.add("Slice", sizes, ints(-MOST), ints(-2))
    return net.add(
        "Reshape",
        net.add("Transpose", flat, perm=[0, 2, 1]),
        net.add("Concat", leading, last, second, axis=0),
    )


@pytest.mark.parametrize("turned", [False, True])
def test_heads_of_packed_attention(turned: bool) -> None:
    channels = find_channels(built(lambda n, r: packed_attention(n, r, turned=turned), rank=3, shape=TOKENS))
    assert [(len(g), g.width) for g in channels.groups] == [(4, 12)]
    prove_on_tokens(channels)


def test_keys_and_values_that_several_queries_share() -> None:
    def build(net: Net, rng: np.random.Generator) -> str:
        def heads(count: int) -> str:
            parts = net.add("Reshape", dense(net, rng, "x", 4 * count, 16), ints(0, 0, count, 4))
            return net.add("Transpose", parts, perm=[0, 2, 1, 3])

        query, shared = heads(4), heads(2)
        repeated = net.add("Tile", net.add("Unsqueeze", shared, ints(2)), ints(1, 1, 2, 1, 1))
        shape = net.add("Shape", query)
        key = net.add("Reshape", repeated, shape)
        scores = net.add("Softmax", net.add("MatMul", query, net.add("Transpose", key, perm=[0, 1, 3, 2])), axis=-1)
        mixed = net.add("Transpose", net.add("MatMul", scores, key), perm=[0, 2, 1, 3])
        return net.add("MatMul", net.add("Reshape", mixed, ints(0, 0, 16)), normal(rng, 16, 5))

    channels = find_channels(built(build, rank=3, shape=TOKENS))
    assert [(len(g), g.width) for g in channels.groups] == [(2, 8)], "a shared key goes with all of its queries"
    prove_on_tokens(channels)


def test_groups_of_a_normalisation_of_any_picture() -> None:
    def build(net: Net, rng: np.random.Generator) -> str:
        x = conv(net, rng, "x", 8, 3)
        one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
        flat = net.add("InstanceNormalization", net.add("Reshape", x, ints(0, 4, -1)), one, zero)
        return conv(
            net, rng, net.add("Mul", net.add("Reshape", flat, net.add("Shape", x)), 1 + normal(rng, 8, 1, 1)), 4, 8
        )

    channels = find_channels(built(build, shape=("batch", 3, "height", "width")))
    assert [(len(g), g.width) for g in channels.groups] == [(4, 2)]
    gone = half(channels)
    for size in (8, 10):
        given = feeds(("batch", 3, size, size + 2))
        assert disagreement(silence_channels(channels, gone), remove_channels(channels, gone), given) < 1e-5


def halved(net: Net, rng: np.random.Generator) -> str:
    """The first and the second half of the channels, told apart by arithmetic on sizes."""
    wide = net.add("Relu", conv(net, rng, "x", 8, 3))
    middle = net.add("Div", net.add("Gather", net.add("Shape", wide), ints(1)), ints(2))
    first = net.add("Slice", wide, ints(0), middle, ints(1))
    second = net.add("Slice", wide, middle, net.add("Mul", middle, ints(2)), ints(1))
    return conv(net, rng, net.add("Concat", first, net.add("Relu", conv(net, rng, second, 4, 4)), axis=1), 4, 8)


def test_sizes_that_are_computed_though_they_are_known() -> None:
    channels = find_channels(built(halved))
    assert [len(g) for g in channels.groups] == [4, 4, 4]
    assert prove_removal(channels, half(channels), feeds()) == ""


def test_sizes_of_an_old_file() -> None:
    def build(net: Net, rng: np.random.Generator) -> str:
        x = conv(net, rng, "x", 8, 3)
        batch = net.add("Gather", net.add("Shape", x), np.array(0, np.int64))
        shape = net.add("Concat", net.add("Unsqueeze", batch, axes=[0]), ints(4, 2, 8, 8), axis=0)
        return conv(net, rng, net.add("ReduceMax", net.add("Reshape", x, shape), axes=[2], keepdims=0), 4, 4)

    channels = find_channels(built(build, opset=9))
    assert [(len(g), g.width) for g in channels.groups] == [(4, 2)]
    assert prove_removal(channels, half(channels), feeds()) == ""


def test_a_state_of_zeros_as_large_as_is_asked_for() -> None:
    def build(net: Net, rng: np.random.Generator) -> str:
        x = net.add("Transpose", "x", perm=[1, 0, 2])
        batch = net.add("Shape", "x", start=0, end=1)
        zeros = net.add("Expand", np.array(0, np.float32), net.add("Concat", ints(2), batch, ints(6), axis=0))
        state = net.add("Slice", zeros, ints(1), ints(2), ints(0))
        sizes = ((1, 24, 16), (1, 24, 6), (1, 48))
        y = net.add("LSTM", x, *(0.4 * normal(rng, *s) for s in sizes), "", state, state, hidden_size=6)
        return net.add("MatMul", net.add("Squeeze", y, ints(1)), normal(rng, 6, 4))

    channels = find_channels(built(build, rank=3, shape=TOKENS))
    assert [len(g) for g in channels.groups] == [6]
    prove_on_tokens(channels)


def test_no_part_is_emptied_though_its_channels_are_the_least(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = Net(x=("batch", 3, 8, 8))
    weight = normal(rng, 16, 3, 3, 3)
    weight[:2] *= 1e-3
    wide = net.add("Conv", "x", weight, pads=[1] * 4)
    net.nodes.append(onnx.helper.make_node("Split", [wide, net._weight(ints(2, 14))], ["a", "b"], name="s", axis=1))
    joined = net.add("Concat", net.add("Tanh", "a"), net.add("Sigmoid", "b"), axis=1)
    path, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save(net.model(conv(net, rng, joined, 4, 16), rank=4), path)
    config = OnnxChannelsConfig(ratio=0.75, round_to=1)
    TECHNIQUES["prune: onnx-channels"].apply(config, OnnxStep(path, out, None))
    smaller = read_model(out)
    split = next(n for n in smaller.graph.node if n.op_type == "Split")
    sizes = next(onnx.numpy_helper.to_array(t) for t in smaller.graph.initializer if t.name == split.input[1])
    assert sizes.tolist() == [1, 3]


def test_ids_are_taken_from_the_table_that_they_are_looked_up_in() -> None:
    rng = np.random.default_rng(0)
    ids = onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["batch", "time"])
    net = Net()
    net.inputs = [ids]
    found = net.add("Gather", normal(rng, 9, 16), "ids")
    model = normalise(
        net.model(net.add("MatMul", net.add("Relu", dense(net, rng, found, 8, 16)), normal(rng, 8, 3)), rank=3)
    )
    given = sample_feeds(model, None)
    assert given["ids"].max() < 9
    channels = find_channels(model)
    assert [len(g) for g in channels.groups] == [8]
    assert prove_removal(channels, half(channels), given) == ""
