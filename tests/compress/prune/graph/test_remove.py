"""Removal, operator by operator: what is left computes exactly what the original does with those channels silenced."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from edgekit.compress.prune.graph.groups import Channels, find_channels
from edgekit.compress.prune.graph.remove import disagreement, prove_removal, remove_channels, silence_channels
from edgekit.errors import CompressError
from edgekit.graph.normalise import normalise
from edgekit.specs import Array
from tests.compress.quantize.nets import Net, normal

IMAGE = ("batch", 3, 8, 8)
Build = Callable[[Net, np.random.Generator], str]


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def built(build: Build, *, opset: int = 18, rank: int = 4, shape: tuple[object, ...] = IMAGE) -> onnx.ModelProto:
    net = Net(x=shape)
    return normalise(net.model(build(net, np.random.default_rng(0)), rank=rank, opset=opset))


def conv(
    net: Net, rng: np.random.Generator, x: str, out: int, inner: int, kernel: int = 3, **attributes: object
) -> str:
    weight, bias = normal(rng, out, inner, kernel, kernel), 0.5 * normal(rng, out)
    return net.add("Conv", x, weight, bias, pads=[kernel // 2] * 4, **attributes)


def half(channels: Channels) -> Array:
    return np.concatenate([g.units[::2] for g in channels.groups])


def feeds(shape: tuple[object, ...] = IMAGE, batch: int = 2) -> dict[str, Array]:
    dims = [batch if isinstance(d, str) else d for d in shape]
    return {"x": np.random.default_rng(5).standard_normal(dims).astype(np.float32)}


def plain(net: Net, rng: np.random.Generator) -> str:
    return conv(net, rng, net.add("Sigmoid", conv(net, rng, "x", 8, 3)), 4, 8)


def batch_norm(net: Net, rng: np.random.Generator) -> str:
    x = net.add("Relu", conv(net, rng, "x", 8, 3))  # not behind a convolution, or it would be folded
    stats = [1 + 0.1 * np.abs(normal(rng, 8)) for _ in range(4)]
    return conv(net, rng, net.add("Sigmoid", net.add("BatchNormalization", x, *stats)), 4, 8)


def residual(net: Net, rng: np.random.Generator) -> str:
    stem = net.add("Relu", conv(net, rng, "x", 8, 3))
    body = conv(net, rng, net.add("Relu", conv(net, rng, stem, 8, 8)), 8, 8)
    return conv(net, rng, net.add("Relu", net.add("Add", body, stem)), 4, 8)


def two_joined(net: Net, rng: np.random.Generator) -> str:
    parts = [net.add("Relu", conv(net, rng, "x", n, 3)) for n in (8, 4)]
    return conv(net, rng, net.add("Concat", *parts, axis=1), 4, 12)


def joined_with_input(net: Net, rng: np.random.Generator) -> str:
    return conv(net, rng, net.add("Concat", "x", net.add("Relu", conv(net, rng, "x", 8, 3)), axis=1), 4, 11)


def depthwise(net: Net, rng: np.random.Generator) -> str:
    wide = net.add("Relu", conv(net, rng, "x", 8, 3))
    return conv(net, rng, net.add("Relu", conv(net, rng, wide, 8, 1, group=8)), 4, 8)


def depthwise_twice_as_wide(net: Net, rng: np.random.Generator) -> str:
    wide = net.add("Relu", conv(net, rng, "x", 8, 3))
    return conv(net, rng, net.add("Relu", conv(net, rng, wide, 16, 1, group=8)), 4, 16)


def grouped(net: Net, rng: np.random.Generator) -> str:
    wide = net.add("Relu", conv(net, rng, "x", 8, 3))
    return conv(net, rng, net.add("Relu", conv(net, rng, wide, 12, 4, group=2)), 4, 12)


def shuffled(net: Net, rng: np.random.Generator) -> str:
    wide = net.add("Relu", conv(net, rng, "x", 8, 3))
    parted = net.add("Reshape", wide, ints(0, 2, 4, 8, 8))
    mixed = net.add("Reshape", net.add("Transpose", parted, perm=[0, 2, 1, 3, 4]), ints(0, -1, 8, 8))
    return conv(net, rng, mixed, 4, 8)


def transposed(net: Net, rng: np.random.Generator) -> str:
    up = net.add("ConvTranspose", conv(net, rng, "x", 8, 3), normal(rng, 8, 6, 2, 2), normal(rng, 6), strides=[2, 2])
    return conv(net, rng, net.add("Relu", up), 4, 6)


def squeeze_excite(net: Net, rng: np.random.Generator) -> str:
    wide = net.add("Relu", conv(net, rng, "x", 8, 3))
    small = net.add("Relu", conv(net, rng, net.add("GlobalAveragePool", wide), 4, 8, 1))
    gate = net.add("HardSigmoid", conv(net, rng, small, 8, 4, 1))
    return conv(net, rng, net.add("Mul", wide, gate), 4, 8)


def split_and_joined(net: Net, rng: np.random.Generator) -> str:
    wide = conv(net, rng, "x", 12, 3)
    net.nodes.append(onnx.helper.make_node("Split", [wide, net._weight(ints(4, 8))], ["a", "b"], name="split", axis=1))
    changed = net.add("Relu", conv(net, rng, "b", 8, 8))
    return conv(net, rng, net.add("Concat", "a", changed, "b", axis=1), 4, 20)


def split_evenly(net: Net, rng: np.random.Generator) -> str:
    wide = conv(net, rng, "x", 16, 3)
    net.nodes.append(onnx.helper.make_node("Split", [wide], ["a", "b"], name="split", axis=1, num_outputs=2))
    return conv(net, rng, net.add("Mul", "a", net.add("Sigmoid", "b")), 4, 8)


def sliced(net: Net, rng: np.random.Generator) -> str:
    wide = net.add("Relu", conv(net, rng, "x", 12, 3))
    first = net.add("Slice", wide, ints(0), ints(8), ints(1))
    last = net.add("Slice", wide, ints(-4), ints(1 << 40), ints(1))
    return net.add("Add", conv(net, rng, first, 4, 8), conv(net, rng, last, 4, 4))


def padded_and_resized(net: Net, rng: np.random.Generator) -> str:
    x = net.add("Pad", conv(net, rng, "x", 8, 3), ints(0, 0, 1, 1, 0, 0, 1, 1))
    x = net.add("Resize", net.add("PRelu", x, 0.1 * np.ones((8, 1, 1), np.float32)), "", "", ints(2, 8, 20, 20))
    return conv(net, rng, net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 4, 8)


def instance_norm(net: Net, rng: np.random.Generator) -> str:
    x = net.add("InstanceNormalization", conv(net, rng, "x", 8, 3), 1 + normal(rng, 8), normal(rng, 8))
    return conv(net, rng, net.add("Relu", x), 4, 8)


def group_norm(net: Net, rng: np.random.Generator) -> str:
    flat = net.add("Reshape", conv(net, rng, "x", 8, 3), ints(0, 4, -1))
    one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    x = net.add("Reshape", net.add("InstanceNormalization", flat, one, zero), ints(0, 8, 8, 8))
    return conv(net, rng, net.add("Mul", x, 1 + normal(rng, 8, 1, 1)), 4, 8)


def depth_to_space(net: Net, rng: np.random.Generator) -> str:
    x = net.add("DepthToSpace", net.add("Relu", conv(net, rng, "x", 16, 3)), blocksize=2, mode="CRD")
    return conv(net, rng, net.add("SpaceToDepth", x, blocksize=2), 4, 16)


def einsum(net: Net, rng: np.random.Generator) -> str:
    wide = conv(net, rng, "x", 8, 3)
    gate = net.add("ReduceMean", wide, ints(2, 3), keepdims=0)
    return conv(net, rng, net.add("Einsum", wide, gate, equation="bchw,bc->bchw"), 4, 8)


IMAGES = [
    *((plain, [8]), (batch_norm, [8]), (residual, [8, 8]), (two_joined, [8, 4]), (joined_with_input, [8])),
    *((depthwise, [8]), (depthwise_twice_as_wide, [8]), (grouped, [4, 6]), (shuffled, [4]), (transposed, [8, 6])),
    *((squeeze_excite, [8, 4]), (split_and_joined, [4, 8, 8]), (split_evenly, [8]), (sliced, [8, 4])),
    *((padded_and_resized, [8]), (instance_norm, [8]), (group_norm, [4]), (depth_to_space, [4]), (einsum, [8])),
]


@pytest.mark.parametrize(("build", "units"), IMAGES, ids=lambda v: getattr(v, "__name__", ""))
def test_what_is_left_is_the_original_with_channels_silenced(build: Build, units: list[int]) -> None:
    model = built(build)
    channels = find_channels(model)
    assert [len(g) for g in channels.groups] == units
    gone = half(channels)
    smaller = remove_channels(channels, gone)
    onnx.checker.check_model(smaller, full_check=True)
    assert [o.name for o in smaller.graph.output] == [o.name for o in model.graph.output]
    silenced = silence_channels(channels, gone)
    assert disagreement(silenced, smaller, feeds()) < 1e-5
    assert disagreement(model, smaller, feeds()) > 1e-3, "what was removed did nothing: the test says nothing"
    assert sum(map(len, (t.raw_data for t in smaller.graph.initializer))) < sum(
        map(len, (t.raw_data for t in model.graph.initializer))
    )


def features(net: Net, rng: np.random.Generator) -> str:
    x = net.add("MaxPool", net.add("Relu", conv(net, rng, "x", 8, 3)), kernel_shape=[4, 4], strides=[4, 4])
    hidden = net.add("Relu", net.add("Gemm", net.add("Flatten", x), normal(rng, 8, 32), normal(rng, 8), transB=1))
    return net.add("Gemm", hidden, normal(rng, 8, 5), normal(rng, 5))


def rows(net: Net, rng: np.random.Generator) -> str:
    x = net.add("Reshape", net.add("Relu", conv(net, rng, "x", 8, 3)), ints(-1, 512))
    return net.add("Add", net.add("MatMul", x, normal(rng, 512, 5)), normal(rng, 5))


@pytest.mark.parametrize(("build", "units"), [(features, [8, 8]), (rows, [8])])
def test_channels_become_features(build: Build, units: list[int]) -> None:
    channels = find_channels(built(build, rank=2))
    assert [len(g) for g in channels.groups] == units
    assert prove_removal(channels, half(channels), feeds()) == ""


TOKENS = ("batch", "time", 16)


def attention(net: Net, rng: np.random.Generator) -> str:
    """Four heads of four, their shapes put together from the input's, and a feed-forward part behind a norm."""
    shape = net.add("Shape", "x", start=0, end=2)
    split, merged = net.add("Concat", shape, ints(4, 4), axis=0), net.add("Concat", shape, ints(16), axis=0)

    def heads(perm: list[int]) -> str:
        dense = net.add("Add", net.add("MatMul", "x", normal(rng, 16, 16)), normal(rng, 16))
        return net.add("Transpose", net.add("Reshape", dense, split), perm=perm)

    scores = net.add("MatMul", heads([0, 2, 1, 3]), heads([0, 2, 3, 1]))
    mixed = net.add("MatMul", net.add("Softmax", scores, axis=-1), heads([0, 2, 1, 3]))
    back = net.add("Reshape", net.add("Transpose", mixed, perm=[0, 2, 1, 3]), merged)
    total = net.add("Add", net.add("MatMul", back, normal(rng, 16, 16)), "x")
    normed = net.add("LayerNormalization", total, np.ones(16, np.float32), np.zeros(16, np.float32))
    wide = net.add("Erf", net.add("Add", net.add("MatMul", normed, normal(rng, 16, 32)), normal(rng, 32)))
    return net.add("MatMul", wide, normal(rng, 32, 16))


def test_heads_and_hidden_features_of_a_transformer() -> None:
    channels = find_channels(built(attention, rank=3, shape=TOKENS))
    assert [(len(g), g.width) for g in channels.groups] == [(4, 4), (32, 1)]
    assert all("LayerNormalization" in k.reason or "output" in k.reason or "meets" in k.reason for k in channels.kept)
    gone = half(channels)
    for batch, time in ((1, 1), (2, 7)):
        given = {"x": np.random.default_rng(1).standard_normal((batch, time, 16)).astype(np.float32)}
        assert disagreement(silence_channels(channels, gone), remove_channels(channels, gone), given) < 1e-5


def lstm(net: Net, rng: np.random.Generator, kind: str = "LSTM") -> str:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    x = net.add("Transpose", net.add("MatMul", "x", normal(rng, 16, 8)), perm=[1, 0, 2])
    for inner in (8, 12):
        sizes = ((2, gates * 6, inner), (2, gates * 6, 6), (2, 2 * gates * 6))
        y = net.add(kind, x, *(0.4 * normal(rng, *s) for s in sizes), hidden_size=6, direction="bidirectional")
        x = net.add("Reshape", net.add("Transpose", y, perm=[0, 2, 1, 3]), ints(0, 0, 12))
    return net.add("MatMul", x, normal(rng, 12, 4))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_hidden_units_of_recurrent_layers(kind: str) -> None:
    channels = find_channels(built(lambda net, rng: lstm(net, rng, kind), rank=3, shape=("batch", 5, 16)))
    assert [len(g) for g in channels.groups] == [8, 6, 6]
    given = {"x": np.random.default_rng(1).standard_normal((2, 5, 16)).astype(np.float32)}
    gone = half(channels)
    assert disagreement(silence_channels(channels, gone), remove_channels(channels, gone), given) < 1e-5


def test_groups_of_a_group_normalisation_go_as_a_whole() -> None:
    def build(net: Net, rng: np.random.Generator) -> str:
        x = conv(net, rng, "x", 8, 3)
        scale = 1 + 0.1 * normal(rng, 8)
        return conv(net, rng, net.add("GroupNormalization", x, scale, normal(rng, 8), num_groups=4), 4, 8)

    channels = find_channels(built(build, opset=21))
    assert [(len(g), g.width) for g in channels.groups] == [(4, 2)]
    assert prove_removal(channels, half(channels), feeds()) == ""


def test_what_a_branch_reads_stays() -> None:
    def build(net: Net, rng: np.random.Generator) -> str:
        x = net.add("Relu", conv(net, rng, "x", 8, 3))
        ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("then", "else")]
        bodies = [
            onnx.helper.make_graph([onnx.helper.make_node(op, [x], [e.name])], e.name, [], [e])
            for op, e in zip(("Neg", "Abs"), ends, strict=True)
        ]
        largest = net.add("ReduceMax", "x", keepdims=0)
        condition = net.add("Greater", largest, np.array(0, np.float32))
        branch = net.add("If", condition, then_branch=bodies[0], else_branch=bodies[1])
        return conv(net, rng, branch, 4, 8)

    channels = find_channels(built(build))
    assert not channels.groups
    assert any("If" in k.reason and k.layer == "conv0" for k in channels.kept)


def test_what_is_not_known_stays_with_the_reason() -> None:
    def build(net: Net, rng: np.random.Generator) -> str:
        return conv(net, rng, net.add("CumSum", conv(net, rng, "x", 8, 3), np.array(1, np.int64)), 4, 8)

    channels = find_channels(built(build))
    assert not channels.groups
    assert [(k.layer, k.channels) for k in channels.kept] == [("conv0", 8), ("conv2", 4)]
    assert channels.kept[0].reason == "CumSum 'cumsum1' is not known to keep channels apart"
    assert "output 'conv2' of the model keeps its shape" in channels.kept[1].reason


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (lambda net, x: net.add("ReduceMean", x, ints(1), keepdims=1), "sums channels up"),
        (lambda net, x: net.add("Gather", x, ints(0, 3, 5), axis=1), "picks channels by their number"),
        (lambda net, x: net.add("Slice", x, ints(0), ints(8), ints(1), ints(2)), "takes every other channel"),
        (lambda net, x: net.add("Softmax", x, axis=1), "mixes the channels"),
        (lambda net, x: net.add("Add", x, net.add("Transpose", x, perm=[0, 2, 1, 3])), "meets a value"),
        (lambda net, x: net.add("Pad", x, ints(0, 1, 0, 0, 0, 1, 0, 0)), "adds to it"),
    ],
)
def test_what_mixes_channels_stays(last: Callable[[Net, str], str], reason: str) -> None:
    channels = find_channels(built(lambda net, rng: last(net, conv(net, rng, "x", 8, 3))))
    assert not channels.groups
    assert reason in channels.kept[0].reason


def test_a_layer_is_never_emptied() -> None:
    channels = find_channels(built(plain))
    with pytest.raises(CompressError, match="nothing of layer 'conv0'; remove fewer channels"):
        remove_channels(channels, channels.groups[0].units)


def test_random_stacks() -> None:
    """Chains of randomly chosen parts: whatever groups are found, removing them is silencing them."""
    for seed in range(12):
        rng = np.random.default_rng(seed)

        def build(net: Net, weights: np.random.Generator, rng: np.random.Generator = rng) -> str:
            x, width = conv(net, weights, "x", 8, 3), 8
            for _ in range(4):
                kind = rng.integers(5)
                if kind == 0:
                    x = net.add("Add", x, conv(net, weights, net.add("Tanh", x), width, width))
                elif kind == 1:
                    x = conv(net, weights, net.add("Sigmoid", x), width, 1, group=width)
                elif kind == 2:
                    x, width = net.add("Concat", x, conv(net, weights, x, 4, width), axis=1), width + 4
                elif kind == 3:
                    x, width = conv(net, weights, net.add("Elu", x), 8, width), 8
                else:
                    gate = conv(net, weights, net.add("GlobalAveragePool", x), width, width, 1)
                    x = net.add("Mul", x, net.add("Sigmoid", gate))
            return conv(net, weights, x, 4, width)

        channels = find_channels(built(build))
        assert channels.groups, seed
        gone = np.concatenate([rng.permutation(g.units)[: len(g) // 2] for g in channels.groups])
        assert prove_removal(channels, gone, feeds()) == "", seed
