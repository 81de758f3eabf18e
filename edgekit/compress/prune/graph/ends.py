"""Where channels end: a weight as a matrix, what it multiplies as rows, and which columns a channel has in both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.compress.prune.graph.trace import Contraction
from edgekit.compress.quantize.moments import Window, as_matrices, from_matrices
from edgekit.graph.scopes import attribute
from edgekit.specs import Array

_PRODUCTS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class End:
    """A node that multiplies channels by a weight.

    Attributes:
        node: As it is in the original.
        weight: The original's, in its own shape.
        value: The value that is multiplied.
        labels: Of the axis of the weight that is summed over.
    """

    node: onnx.NodeProto
    weight: Array
    value: str
    labels: Array

    @property
    def is_product(self) -> bool:
        """Whether its output is the product and nothing else, so that it can be fitted to what it should be."""
        return self.node.op_type in _PRODUCTS

    @cached_property
    def window(self) -> Window | None:
        """Of a convolution."""
        if self.node.op_type != "Conv":
            return None
        ones = [1] * (self.weight.ndim - 2)
        return Window(
            int(attribute(self.node, "group", 1)),
            self.weight.shape[2:],
            tuple(attribute(self.node, "strides", ones)),
            tuple(attribute(self.node, "dilations", ones)),
            tuple(attribute(self.node, "pads", [0] * 2 * len(ones))),
        )

    @property
    def matrices(self) -> Array:
        """The weight as (groups, out / groups, columns): outputs are rows @ matrix.T."""
        return matrices_of(self.node, self.weight)

    @property
    def column_labels(self) -> Array:
        """The label of each column of `matrices`; int64 (columns,)."""
        return np.repeat(self.labels, self.matrices.shape[2] // len(self.labels))

    def places(self, value: Array, positions: int, rng: np.random.Generator) -> Array:
        """Random positions of the grid on which a convolution works, or of the vectors that a product takes."""
        window = self.window
        if window is not None:
            most = int(np.prod(grid_of(self.padded(window, value.shape), value.shape)))
        elif self.node.op_type == "ConvTranspose":
            most = int(np.prod(value.shape[2:]))
        else:
            most = int(np.prod(value.shape[1:-1]))
        return np.sort(rng.choice(most, min(positions, most), replace=False))

    def rows(self, value: Array, places: Array) -> Array:
        """What is multiplied at these places of each sample: float32 (groups, batch * places, columns)."""
        window = self.window
        if window is not None:
            return replace(self.padded(window, value.shape), groups=self._groups(value)).rows_at(value, places)
        if self.node.op_type == "ConvTranspose":
            flat = value.reshape(*value.shape[:2], -1)[:, :, places]
            return flat.transpose(0, 2, 1).reshape(1, -1, value.shape[1]).astype(np.float32)
        taken = value.reshape(len(value), -1, value.shape[-1])[:, places]
        return taken.reshape(1, -1, value.shape[-1]).astype(np.float32)

    def outputs(self, value: Array, places: Array, groups: int) -> Array:
        """An output's values at the places of `rows`: (groups, batch * places, out / groups)."""
        if self.window is not None:
            flat = value.reshape(*value.shape[:2], -1)[:, :, places].transpose(0, 2, 1)
        else:
            flat = value.reshape(len(value), -1, value.shape[-1])[:, places]
        rows = flat.reshape(-1, groups, flat.shape[-1] // groups)
        return np.ascontiguousarray(rows.transpose(1, 0, 2), np.float32)

    def _groups(self, value: Array) -> int:
        """A depthwise convolution has as many groups as its input has channels, however many are left."""
        window = self.window
        if window is None:
            return 1
        return int(value.shape[1] // self.weight.shape[1])

    def padded(self, window: Window, shape: tuple[int, ...]) -> Window:
        """The window with the borders that `auto_pad` means for an input of this shape."""
        automatic = attribute(self.node, "auto_pad", b"NOTSET")
        if automatic not in (b"SAME_UPPER", b"SAME_LOWER"):
            return window
        steps = zip(shape[2:], window.kernel, window.strides, window.dilations, strict=True)
        totals = [max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0) for size, k, s, d in steps]
        low, high = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        return replace(window, pads=low + high if automatic == b"SAME_UPPER" else high + low)


def grid_of(window: Window, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The size of a convolution's output."""
    n = len(window.kernel)
    sizes = zip(
        shape[2:], window.pads[:n], window.pads[n:], window.kernel, window.strides, window.dilations, strict=True
    )
    return tuple((size + low + high - (k - 1) * d - 1) // s + 1 for size, low, high, k, s, d in sizes)


def end_of(model: onnx.ModelProto, constants: dict[str, onnx.TensorProto], contraction: Contraction) -> End:
    """What a contraction is in numbers."""
    use = contraction.use
    labels = use.axes[contraction.axis]
    values = np.asarray(numpy_helper.to_array(constants[use.name]), np.float32)
    return End(
        model.graph.node[use.node], values, contraction.value, np.zeros(0, np.int64) if labels is None else labels
    )


def matrices_of(node: onnx.NodeProto, weight: Array) -> Array:
    """A weight as (groups or directions, rows, columns)."""
    if node.op_type == "ConvTranspose":
        return weight.reshape(len(weight), -1).T[None]
    return as_matrices(node, weight)


def weight_of(node: onnx.NodeProto, matrices: Array, shape: tuple[int, ...]) -> Array:
    """What `matrices_of` took apart, in a weight's shape."""
    if node.op_type == "ConvTranspose":
        return np.ascontiguousarray(matrices[0].T).reshape(shape)
    return np.ascontiguousarray(from_matrices(node, matrices, shape))
