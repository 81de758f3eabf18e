"""Techniques. A new one: one module here, one import line below, one test."""

from edgekit.compress.distill import distil
from edgekit.compress.prune import channels, onnx_channels
from edgekit.compress.quantize import dynamic, half, int4, static, weights
from edgekit.compress.technique import (
    TECHNIQUES,
    ExcludedNode,
    OnnxStep,
    StepConfig,
    StepResult,
    Target,
    Technique,
    TorchStep,
    misplaced,
    name_of,
)

__all__ = [
    "TECHNIQUES",
    "ExcludedNode",
    "OnnxStep",
    "StepConfig",
    "StepResult",
    "Target",
    "Technique",
    "TorchStep",
    "channels",
    "distil",
    "dynamic",
    "half",
    "int4",
    "misplaced",
    "name_of",
    "onnx_channels",
    "static",
    "weights",
]
