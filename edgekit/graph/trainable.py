"""An ONNX graph as a torch module that can be trained: weights, and steps of what is quantised. Imports torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edgekit.errors import ModelError
from edgekit.graph.fake import is_fake
from edgekit.graph.learnt import learnt_constants, learnt_steps, whole_pairs
from edgekit.graph.learnt_steps import dequantise, quantise, quantise_bias, quantise_pair, quantise_weight
from edgekit.graph.operators import OPERATORS
from edgekit.specs import Array

_INTEGERS = (np.int8, np.uint8)


@dataclass(frozen=True)
class _Call:
    """One node, ready to run.

    Attributes:
        op: Its operator; those of training begin with "edgekit.".
        inputs: Names, "" for one that is left out.
        outputs: Names.
        attributes: By name.
        drops: Values that nobody reads afterwards.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    drops: tuple[str, ...]


class GraphModule(nn.Module):
    """Runs a graph in torch, the same in training and in evaluation.

    What is trained are weights and biases of products, convolutions and normalisations, and every step of a tensor that
    is not tied to a bound of the graph. All other constants stay.

    Args:
        model: A graph without subgraphs of the operators of `graph.operators` and `graph.fake`.

    Raises:
        ModelError: for an operator that cannot be trained through, or a step that is no positive number.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        _require_operators(model)
        self.model = model
        self.inputs = [i.name for i in model.graph.input]
        self.outputs = [o.name for o in model.graph.output]
        self.steps, self.pairs = learnt_steps(model), whole_pairs(model)
        self.held: dict[str, str] = {}  # float constant of the graph -> attribute of this module
        self.whole: dict[str, Tensor] = {}  # other constants
        self.ranges: dict[str, tuple[int, int, int]] = {}  # zero point -> it, and the bounds of its type
        trained = learnt_constants(model)
        for stored in model.graph.initializer:
            self._hold(stored.name, numpy_helper.to_array(stored), trained)
        self.calls = _calls(model)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The graph's inputs in their order -> its output, or its outputs."""
        values: dict[str, Tensor] = dict(zip(self.inputs, inputs, strict=True))
        for call in self.calls:
            made = self._run(call, values)
            values.update(zip(call.outputs, made if isinstance(made, tuple) else (made,), strict=False))
            for name in call.drops:
                values.pop(name, None)
        found = tuple(values[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found

    def step(self, name: str) -> Tensor:
        """A step as it is now: where it began, times e to the power of what was learnt."""
        if name not in self.steps:
            return self._constant(name)
        start: Tensor = getattr(self, f"{self.held[name]}_start")
        return start * self._constant(name).exp()

    def to_proto(self) -> onnx.ModelProto:
        """The graph with its constants as they are now."""
        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        trained = dict(self.named_parameters())
        for stored in result.graph.initializer:
            if self.held.get(stored.name) in trained:
                value = self.step(stored.name).detach().cpu().contiguous().numpy()
                stored.CopyFrom(numpy_helper.from_array(value, stored.name))
        return result

    def _hold(self, name: str, value: Array, trained: set[str]) -> None:
        tensor = torch.from_numpy(np.array(value))
        if not tensor.is_floating_point():
            self.whole[name] = tensor
            if value.dtype in _INTEGERS and value.size:
                bounds = np.iinfo(value.dtype)
                self.ranges[name] = (int(value.reshape(-1)[0]), int(bounds.min), int(bounds.max))
            return
        plain = re.sub(r"\W", "_", name) or "constant"
        self.held[name] = next(
            n for n in (plain, *(f"{plain}_{i}" for i in range(len(self.held) + 1))) if self._free(n)
        )
        if name in self.steps:
            _require_step(name, value)
            self.register_buffer(f"{self.held[name]}_start", tensor)
            self.register_parameter(self.held[name], nn.Parameter(torch.zeros_like(tensor)))
        elif name in trained:
            self.register_parameter(self.held[name], nn.Parameter(tensor))
        else:
            self.register_buffer(self.held[name], tensor, persistent=False)

    def _free(self, attribute: str) -> bool:
        return not hasattr(self, attribute) and not hasattr(self, f"{attribute}_start")

    def _constant(self, name: str) -> Tensor:
        value: Tensor = self.whole[name] if name in self.whole else getattr(self, self.held[name])
        return value

    def _run(self, call: _Call, values: Mapping[str, Tensor]) -> Any:
        x: list[Any] = [None if not n else values[n] if n in values else self._constant(n) for n in call.inputs]
        if call.op in _SPECIAL:
            return _SPECIAL[call.op](self, call, x)
        return OPERATORS[call.op](call.attributes, *x)

    def _quantise(self, call: _Call, x: list[Tensor]) -> Tensor:
        scale, bounds = self.step(call.inputs[1]), self.ranges[call.inputs[2]]
        return (quantise_pair if call.outputs[0] in self.pairs else quantise)(x[0], scale, *bounds)

    def _dequantise(self, call: _Call, x: list[Tensor]) -> Tensor:
        if call.inputs[0] in self.pairs:
            return x[0]
        bounds = self.ranges[call.inputs[2]] if len(call.inputs) > 2 else (0, -128, 127)
        return dequantise(x[0], self.step(call.inputs[1]), *bounds)

    def _weight(self, call: _Call, x: list[Tensor]) -> Tensor:
        return quantise_weight(x[0], self.step(call.inputs[1]), call.attributes["axis"], call.attributes["peak"])

    def _bias(self, call: _Call, x: list[Tensor]) -> Tensor:
        return quantise_bias(x[0], self.step(call.inputs[1]) * self.step(call.inputs[2]))


_SPECIAL = {
    "QuantizeLinear": GraphModule._quantise,
    "DequantizeLinear": GraphModule._dequantise,
    "edgekit.Weight": GraphModule._weight,
    "edgekit.Bias": GraphModule._bias,
}


def _calls(model: onnx.ModelProto) -> tuple[_Call, ...]:
    """Every node, with what may be forgotten behind it."""
    kept, calls = {o.name for o in model.graph.output}, []
    for node in reversed(model.graph.node):
        last = tuple(dict.fromkeys(n for n in node.input if n and n not in kept))
        kept |= set(last)
        said = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        plain = {name: list(v) if isinstance(v, (list, tuple)) else v for name, v in said.items()}
        op = f"edgekit.{node.op_type}" if is_fake(node) else node.op_type
        calls.append(_Call(op, tuple(node.input), tuple(node.output), plain, last))
    return tuple(reversed(calls))


def _require_operators(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        known = is_fake(node) or (node.domain in ("", "ai.onnx") and node.op_type in {*OPERATORS, *_SPECIAL})
        if not known:
            raise ModelError(
                f"operator {node.op_type} of node {node.name or node.output[0]!r} cannot be trained through; "
                "use `quantize: static` for this model"
            )


def _require_step(name: str, value: Array) -> None:
    if not (np.isfinite(value) & (value > 0)).all():
        raise ModelError(
            f"step {name!r} of a quantised tensor is {float(value.reshape(-1)[0])}, and must be a number above 0; look "
            "at the calibration data with `edgekit inspect`, it may hold values that are not finite"
        )
