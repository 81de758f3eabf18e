"""A small network whose channels are redundant, so that least squares can make good for most of them."""

from __future__ import annotations

import numpy as np
import onnx

from edgekit.data.split import Split
from edgekit.specs import Array
from tests.compress.quantize.nets import Net, normal

CLASSES = 5


def redundant(seed: int = 0, width: int = 16, rank: int = 6) -> onnx.ModelProto:
    """Stem, residual block, mean and classes; each layer's channels are mixtures of fewer.

    Input `image` (batch, 3, 8, 8), output (batch, 5).
    """
    rng = np.random.default_rng(seed)
    net = Net(image=("batch", 3, 8, 8))

    def conv(x: str, out: int, inner: int) -> str:
        weight = np.tensordot(normal(rng, out, rank) / 2, normal(rng, rank, inner, 3, 3), 1).astype(np.float32)
        return net.add("Conv", x, weight + 0.1 * normal(rng, out, inner, 3, 3), 0.1 * normal(rng, out), pads=[1] * 4)

    stem = net.add("Relu", conv("image", width, 3))
    body = conv(net.add("Relu", conv(stem, 2 * width, width)), width, 2 * width)
    pooled = net.add("GlobalAveragePool", net.add("Relu", net.add("Add", body, stem)))
    return net.model(
        net.add("Gemm", net.add("Flatten", pooled), normal(rng, CLASSES, width), normal(rng, CLASSES), transB=1)
    )


def images(count: int, seed: int = 1) -> Split:
    """Smooth samples for `redundant`."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((count, 3, 4, 4)).repeat(2, axis=2).repeat(2, axis=3)
    return Split("images", {"image": (coarse + 0.2 * rng.standard_normal((count, 3, 8, 8))).astype(np.float32)})


def labelled(model: onnx.ModelProto, count: int, seed: int) -> Split:
    """Samples with the classes that a model finds for them."""
    split = images(count, seed)
    logits = outputs(model, split)
    return Split("labelled", split.arrays, logits.argmax(axis=1))


def outputs(model: onnx.ModelProto, split: Split) -> Array:
    """The logits of a model."""
    from edgekit.ort import Session

    return np.asarray(Session(model.SerializeToString(), threads=1).run(split.arrays)[0])
