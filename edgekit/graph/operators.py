"""ONNX operators in torch, those that trained graphs are made of. Imports torch.

Each function takes the node's attributes and its inputs, None where one is left out. Sizes and shapes are int64 tensors
as in the graph. Source: the ONNX operator schemas, github.com/onnx/onnx/blob/main/docs/Operators.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.nn import functional

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]
_CONVOLUTIONS: tuple[Operator, ...] = (functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED: tuple[Operator, ...] = (
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)
_MAXIMA: tuple[Operator, ...] = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
_MEANS: tuple[Operator, ...] = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def sizes(shape: Tensor | Sequence[int]) -> list[int]:
    """A shape that the graph computed, as plain numbers."""
    return [int(d) for d in (shape.tolist() if isinstance(shape, Tensor) else shape)]


def _plain(function: Callable[..., Any]) -> Operator:
    """An operator without attributes."""
    return lambda a, *x: function(*x)


def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = x.ndim - 2
    x, pads = _padded(a, x, rank, 0.0)
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    out: Tensor = _CONVOLUTIONS[rank - 1](x, weight, bias, strides, pads, dilations, a.get("group", 1))
    return out


def _conv_transpose(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = x.ndim - 2
    pads, extra = a.get("pads", [0] * 2 * rank), a.get("output_padding", [0] * rank)
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    if pads[:rank] != pads[rank:] or "output_shape" in a:
        raise NotImplementedError("uneven padding")
    out: Tensor = _TRANSPOSED[rank - 1](x, weight, bias, strides, pads[:rank], extra, a.get("group", 1), dilations)
    return out


def _padded(a: Attributes, x: Tensor, rank: int, value: float) -> tuple[Tensor, list[int]]:
    """The input and the padding that is left to do; uneven padding is done here."""
    if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise NotImplementedError("auto_pad")
    pads = list(a.get("pads", [0] * 2 * rank))
    if pads[:rank] == pads[rank:]:
        return x, pads[:rank]
    both = [p for i in reversed(range(rank)) for p in (pads[i], pads[i + rank])]
    return functional.pad(x, both, value=value), [0] * rank


def _gemm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    left, right = (x.T if a.get("transA", 0) else x), (weight.T if a.get("transB", 0) else weight)
    product = a.get("alpha", 1.0) * (left @ right)
    out: Tensor = product if bias is None else product + a.get("beta", 1.0) * bias
    return out


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    rank = x.ndim - 2
    x, pads = _padded(a, x, rank, -torch.inf)
    kernel = a["kernel_shape"]
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    out: Tensor = _MAXIMA[rank - 1](x, kernel, strides, pads, dilations, bool(a.get("ceil_mode", 0)))
    return out


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    rank = x.ndim - 2
    pads, counts = list(a.get("pads", [0] * 2 * rank)), bool(a.get("count_include_pad", 0))
    if pads[:rank] != pads[rank:] or a.get("auto_pad", b"NOTSET") != b"NOTSET" or a.get("dilations", [1]) != [1]:
        raise NotImplementedError("uneven padding")
    strides = a.get("strides", [1] * rank)
    out: Tensor = _MEANS[rank - 1](x, a["kernel_shape"], strides, pads[:rank], bool(a.get("ceil_mode", 0)), counts)
    return out


def _global_average(a: Attributes, x: Tensor) -> Tensor:
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def _batch_norm(a: Attributes, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, shift, eps=a.get("epsilon", 1e-5))


def _layer_norm(a: Attributes, x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1) % x.ndim
    return functional.layer_norm(x, x.shape[axis:], scale, shift, a.get("epsilon", 1e-5))


def _reduced(function: Callable[..., Tensor]) -> Operator:
    def reduce(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = sizes(axes) if axes is not None else list(a.get("axes", range(x.ndim)))
        return function(x, dim=chosen, keepdim=bool(a.get("keepdims", 1)))

    return reduce


def _clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x if low is None and high is None else torch.clamp(x, low, high)


def _hard_sigmoid(a: Attributes, x: Tensor) -> Tensor:
    return torch.clamp(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1)


def _gelu(a: Attributes, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=a.get("approximate", b"none").decode())


def _pow(a: Attributes, x: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(x, exponent).to(x.dtype)


def _div(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _cast(a: Attributes, x: Tensor) -> Tensor:
    return x.to(_type(a["to"]))


def _type(element: int) -> torch.dtype:
    name = str(onnx.helper.tensor_dtype_to_np_dtype(element))
    kind: torch.dtype = getattr(torch, name)
    return kind


def _shape(a: Attributes, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape), dtype=torch.int64)[a.get("start", 0) : a.get("end", None)]


def _reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    wanted = sizes(shape)
    kept = wanted if a.get("allowzero", 0) else [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    return x.reshape(kept)


def _flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1)
    rows = x.shape[:axis].numel() if axis else 1
    return x.reshape(rows, -1)


def _transpose(a: Attributes, x: Tensor) -> Tensor:
    return x.permute(*a.get("perm", reversed(range(x.ndim))))


def _concat(a: Attributes, *parts: Tensor) -> Tensor:
    return torch.cat([p.to(parts[-1].device) for p in parts], dim=a["axis"])


def _squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = sizes(axes) if axes is not None else a.get("axes")
    return x.squeeze() if chosen is None else x.squeeze(tuple(chosen))


def _unsqueeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = sizes(axes) if axes is not None else a["axes"]
    rank = x.ndim + len(chosen)
    for axis in sorted(c % rank for c in chosen):
        x = x.unsqueeze(axis)
    return x


def _slice(
    a: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    first, last = sizes(starts), sizes(ends)
    along = sizes(axes) if axes is not None else list(range(len(first)))
    strides = sizes(steps) if steps is not None else [1] * len(first)
    if min(strides) < 1:
        raise NotImplementedError("backward slices")
    parts = [slice(None)] * x.ndim
    for axis, start, end, stride in zip(along, first, last, strides, strict=True):
        size = x.shape[axis]  # torch warns of the largest number there is, which files have for "to the end"
        parts[axis] = slice(max(-size, min(start, size)), max(-size, min(end, size)), stride)
    return x[tuple(parts)]


def _gather(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.ndim
    index = indices.to(x.device, torch.int64)
    index = torch.where(index < 0, index + x.shape[axis], index)
    picked = x.index_select(axis, index.reshape(-1))
    return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _gather_nd(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    batch = a.get("batch_dims", 0)
    inner = indices.ndim - 1 - batch
    counts = (torch.arange(n, device=x.device) for n in x.shape[:batch])
    places = [n.reshape(-1, *(1,) * (batch - 1 - axis + inner)) for axis, n in enumerate(counts)]  # broadcast
    return x[(*places, *indices.to(x.device, torch.int64).unbind(-1))]


def _expand(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    wanted = torch.broadcast_shapes(x.shape, sizes(shape))  # type: ignore[no-untyped-call]
    return x.expand(wanted)


def _split(a: Attributes, x: Tensor, parts: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    lengths = sizes(parts) if parts is not None else -(-x.shape[axis] // a["num_outputs"])
    return torch.split(x, lengths, dim=axis)


def _pad(a: Attributes, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
    around, rank = sizes(pads), x.ndim
    if axes is not None:
        raise NotImplementedError("axes")
    both = [p for i in reversed(range(rank)) for p in (around[i], around[i + rank])]
    mode = _PAD_MODES[a.get("mode", b"constant").decode()]
    if mode == "constant":
        return functional.pad(x, both, mode, 0.0 if value is None else float(value))
    while both[-2:] == [0, 0]:  # torch mirrors the last axes only
        both = both[:-2]
    return functional.pad(x, both, mode)


def _depth_to_space(a: Attributes, x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    block = a["blocksize"]
    if a.get("mode", b"DCR") == b"CRD":
        return functional.pixel_shuffle(x, block)
    blocks = x.reshape(n, block, block, channels // block**2, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, channels // block**2, height * block, width * block)


def _range(a: Attributes, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _filled(a: Attributes, shape: Tensor) -> Tensor:
    value = a.get("value")
    filler = torch.zeros(1) if value is None else torch.from_numpy(onnx.numpy_helper.to_array(value).copy())
    return filler.reshape(()).expand(sizes(shape))


def _triangle(a: Attributes, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    k = int(diagonal) if diagonal is not None else 0
    return torch.triu(x, k) if a.get("upper", 1) else torch.tril(x, k)


def _where(a: Attributes, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition, x, y)


OPERATORS: Mapping[str, Operator] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Cos": _plain(torch.cos),
    "DepthToSpace": _depth_to_space,
    "Div": _div,
    "Elu": lambda a, x: functional.elu(x, a.get("alpha", 1.0)),
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(functional.hardswish),
    "Identity": lambda a, x: x,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda a, x: functional.leaky_relu(x, a.get("alpha", 0.01)),
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Log": _plain(torch.log),
    "LogSoftmax": lambda a, x: torch.log_softmax(x, a.get("axis", -1)),
    "MatMul": _plain(torch.matmul),
    "Max": lambda a, *x: functools.reduce(torch.maximum, x),
    "MaxPool": _max_pool,
    "Min": lambda a, *x: functools.reduce(torch.minimum, x),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "Or": _plain(torch.logical_or),
    "Pad": _pad,
    "Pow": _pow,
    "Range": _range,
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Sin": _plain(torch.sin),
    "Slice": _slice,
    "Softmax": lambda a, x: torch.softmax(x, a.get("axis", -1)),
    "Softplus": _plain(functional.softplus),
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Transpose": _transpose,
    "Trilu": _triangle,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
