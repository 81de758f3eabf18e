"""What static quantisation settles before it writes a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import onnx

from edgekit.compress.quantize.observers import Range
from edgekit.compress.quantize.on_data import observe_inputs
from edgekit.compress.quantize.placement import WEIGHTED, Placement
from edgekit.compress.quantize.qdq import Scheme
from edgekit.compress.technique import ExcludedNode
from edgekit.data.split import Split
from edgekit.specs import Array


@dataclass(frozen=True)
class Plan:
    """Everything that is settled before a file is written.

    Attributes:
        model: The float model, normalised, its channels equalised where they were uneven.
        placement: What runs in int8; empty where nothing can.
        scheme: How numbers are represented.
        data: The calibration samples that were looked at.
        ranges: Of every tensor of `placement.observed`.
        means: (channels,) means of the observed tensors.
        left: Nodes with weights that stay in float, and why.
        equalised: Tensors whose channels were rescaled.
        smoothed: Inputs of products whose outlier channels went into the weights.
        masks: How many attention masks got a fill that Softmax is fast on.
    """

    model: onnx.ModelProto
    placement: Placement
    scheme: Scheme
    data: Split
    ranges: dict[str, Range] = field(default_factory=dict)
    means: dict[str, Array] = field(default_factory=dict)
    left: tuple[ExcludedNode, ...] = ()
    equalised: tuple[str, ...] = ()
    smoothed: tuple[str, ...] = ()
    masks: int = 0

    def moments(self, rounding: Literal["auto", "data", "nearest"]) -> dict[str, Array]:
        """Second moments of the inputs of the nodes whose weights are rounded on data, by their first output."""
        nodes = {n.output[0]: n.op_type for n in self.model.graph.node if n.op_type in WEIGHTED}
        convolutional = any(kind == "Conv" and name in self.placement.nodes for name, kind in nodes.items())
        wanted = rounding == "data" or (rounding == "auto" and convolutional)
        return observe_inputs(self.model, set(nodes), self.data) if wanted and self.placement.nodes else {}
