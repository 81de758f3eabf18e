"""What neural-compressor found on a torch model (RTN, GPTQ, AWQ), carried over into our export of that model.

neural-compressor searches scales, zero points and codes of Linear layers, but writes no ONNX any more. Layers and
initializers have different names, so a layer is found by the values of its float weight.

Sources: Frantar et al. 2022, arXiv:2210.17323 (GPTQ); Lin et al. 2023, arXiv:2306.00978 (AWQ, whose factors for
activations go into the normalisation before them, or into a Mul).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx

from edgekit.compress.quantize.blockwise import Blocks, Grid
from edgekit.compress.quantize.matrices import Matrix, find_matrices
from edgekit.compress.quantize.nbits import BlockStore, Kernel
from edgekit.compress.quantize.smooth import divide_value
from edgekit.compress.technique import ExcludedNode, StepResult
from edgekit.errors import CompressError
from edgekit.graph.clean import remove_dead
from edgekit.graph.normalise import normalise
from edgekit.graph.read import read_model
from edgekit.graph.scopes import Names
from edgekit.graph.write import write_model
from edgekit.specs import Array

if TYPE_CHECKING:
    from torch import nn

_BITS = (2, 4, 8)
_BLOCKS = (16, 32, 64, 128, 256)
_WEIGHT_ONLY = "INCWeightOnlyLinear"


@dataclass(frozen=True)
class Layer:
    """A Linear layer, as neural-compressor left it.

    Attributes:
        name: In the torch model.
        weight: Its float weight before, float32 (outputs, inputs).
        blocks: What was found for it.
        grid: Width of the codes and length of the blocks.
        input_scale: What its input is multiplied by first, float32 (inputs,); None for nothing.
    """

    name: str
    weight: Array
    blocks: Blocks
    grid: Grid
    input_scale: Array | None = None


def carry_over(
    source: Path, out: Path, original: nn.Module, quantised: nn.Module, *, accuracy_level: Literal[0, 1, 4] = 0
) -> StepResult:
    """Write an exported model with the block-wise weights that neural-compressor found on the torch model.

    Args:
        source: The float export of `original`.
        out: The file to write.
        original: The torch model before quantisation.
        quantised: What neural-compressor's `convert` made of it.
        accuracy_level: 4 lets the kernels quantise activations to int8 a block at a time; 0 and 1 compute in float32.

    Raises:
        CompressError: if the torch model has no quantised layer, one that MatMulNBits has no form for, or none of
            their float weights is in the export.
    """
    layers = read_layers(original, quantised)
    model = normalise(read_model(source))
    missing = store_layers(model, layers, accuracy_level)
    if len(missing) == len(layers):
        raise CompressError(
            f"none of the {len(layers)} quantised layers has its float weight in {source}; export the model that was "
            "quantised, in float32"
        )
    write_model(model, out)
    carried = len(layers) - len(missing)
    reason = f"{carried} layers carry the scales, zero points and codes of neural-compressor"
    left = tuple(ExcludedNode(name, "its float weight is not in the export") for name in missing)
    return StepResult(True, reason, left, {"layers": carried, "layers_missing": len(missing)})


def read_layers(original: nn.Module, quantised: nn.Module) -> list[Layer]:
    """The quantised layers of a torch model, with the float weights that they had.

    Raises:
        CompressError: if there is none, or one has columns in another order, a width or a block that no kernel takes.
    """
    before = dict(original.named_modules())
    layers = [_read_layer(name, module, before[name]) for name, module in _quantised(quantised) if name in before]
    if not layers:
        raise CompressError(
            f"the torch model has no {_WEIGHT_ONLY}; quantise it with neural-compressor's RTN, GPTQ or AWQ"
        )
    return layers


def _quantised(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The outermost module of each quantised layer, by name: AWQ wraps a layer with a factor for its input."""
    for name, module in model.named_modules():
        if type(module).__name__ == "MulLinear" or (
            type(module).__name__ == _WEIGHT_ONLY and not _is_wrapped(name, model)
        ):
            yield name, module


def _is_wrapped(name: str, model: nn.Module) -> bool:
    parent = name.rpartition(".")[0]
    return type(model.get_submodule(parent)).__name__ == "MulLinear"


def _read_layer(name: str, module: Any, before: Any) -> Layer:
    wrapped = type(module).__name__ == "MulLinear"
    linear = module.linear if wrapped else module
    if type(linear).__name__ != _WEIGHT_ONLY:
        raise CompressError(f"layer {name!r} is a {type(linear).__name__}; only {_WEIGHT_ONLY} can be carried over")
    grid = _grid(name, linear)
    factor = _numbers(module.input_scale) if wrapped else None
    weight = _numbers(before.weight)
    if type(before).__name__ == "Conv1D":  # transformers' own, which stores (inputs, outputs)
        weight = weight.T
    return Layer(name, weight, _read_blocks(linear, grid), grid, factor)


def _grid(name: str, linear: Any) -> Grid:
    block = int(linear.group_size) if linear.group_size > 0 else int(linear.in_features)
    if linear.bits not in _BITS or block not in _BLOCKS or "int" not in linear.dtype:
        raise CompressError(
            f"layer {name!r} has {linear.bits} bits of {linear.dtype} in groups of {block}; MatMulNBits takes integers "
            f"of {', '.join(map(str, _BITS))} bits in groups of {', '.join(map(str, _BLOCKS))}"
        )
    if linear.g_idx is not None and (np.diff(_numbers(linear.g_idx)) < 0).any():
        raise CompressError(f"layer {name!r} has its columns in another order; quantise with act_order=False")
    return Grid(int(linear.bits), block)


def _read_blocks(linear: Any, grid: Grid) -> Blocks:
    """Codes (outputs, blocks, block) with their scales and zero points; the last block is filled up with zeros."""
    found = linear.unpack()
    codes, scale, zero = (found.get(key) for key in ("int_weight", "scales", "zp"))
    middle = 0 if zero is not None else grid.middle  # without zero points the codes are signed
    values = _numbers(codes).astype(np.int32) + middle
    zeros = np.full(scale.shape, grid.middle, np.float32) if zero is None else _numbers(zero)
    rows, columns = values.shape
    padded = np.repeat(zeros.astype(np.int32), grid.block, axis=1)
    padded[:, :columns] = values
    blocks = padded.reshape(rows, -1, grid.block).astype(np.uint8)
    return Blocks(blocks, _numbers(scale).astype(np.float32), zeros.astype(np.float32), columns)


def _numbers(tensor: Any) -> Array:
    return np.asarray(tensor.detach().cpu().float().numpy())


def store_layers(model: onnx.ModelProto, layers: Sequence[Layer], accuracy_level: Literal[0, 1, 4] = 0) -> list[str]:
    """Put layers into a normalised model, in place.

    Returns:
        Names of the layers whose float weight the model does not have.

    Raises:
        CompressError: if layers of one float weight were quantised in different ways.
    """
    matrices, _ = find_matrices(model, min_elements=1, embeddings=False)
    by_values = {_digest(m.rows): m for m in matrices if m.products}
    found = [(layer, by_values.get(_digest(layer.weight))) for layer in layers]
    pairs = _distinct([(layer, matrix) for layer, matrix in found if matrix is not None])
    scale_inputs(model, pairs)
    store = BlockStore(model, Kernel("packed", accuracy_level))
    for layer, matrix in pairs:
        store.put(matrix, layer.blocks, layer.grid)
    store.finish()
    remove_dead(model)
    return [layer.name for layer, matrix in found if matrix is None]


def _distinct(pairs: list[tuple[Layer, Matrix]]) -> list[tuple[Layer, Matrix]]:
    """One layer a matrix: normalising makes equal weights one."""
    chosen: dict[str, tuple[Layer, Matrix]] = {}
    for layer, matrix in pairs:
        first = chosen.setdefault(matrix.name, (layer, matrix))[0]
        if not np.array_equal(first.blocks.values, layer.blocks.values):
            raise CompressError(
                f"layers {first.name!r} and {layer.name!r} share one float weight and were quantised differently"
            )
    return list(chosen.values())


def scale_inputs(model: onnx.ModelProto, pairs: Sequence[tuple[Layer, Matrix]]) -> None:
    """Multiply what layers read by their factors: once for all layers that read the same and have the same factors."""
    groups: dict[tuple[str, bytes], list[onnx.NodeProto]] = {}
    factors: dict[bytes, Array] = {}
    for layer, matrix in pairs:
        if layer.input_scale is not None:
            key = layer.input_scale.tobytes()
            factors[key] = layer.input_scale
            for node in matrix.products:
                groups.setdefault((node.input[0], key), []).append(node)
    names = Names(model)
    for (value, key), nodes in groups.items():
        divided = divide_value(model, value, {n.name for n in nodes}, 1 / factors[key], names)
        for node in nodes:
            node.input[0] = divided


def _digest(values: Array) -> str:
    data = np.ascontiguousarray(values, np.float32)
    return hashlib.sha256(f"{data.shape}".encode() + data.tobytes()).hexdigest()
