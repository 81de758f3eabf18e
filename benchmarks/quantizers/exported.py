"""Torch's networks as ONNX files, all of one opset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

OPSET = 18


def export(
    net: torch.nn.Module, inputs: tuple[torch.Tensor, ...], names: Sequence[str], dynamic: Any, path: Path
) -> None:
    """Write a network as one ONNX file, with torch's newer exporter."""
    torch.onnx.export(
        net.eval(),
        inputs,
        str(path),
        input_names=list(names),
        output_names=["out"],
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=dynamic,
        external_data=False,
    )
