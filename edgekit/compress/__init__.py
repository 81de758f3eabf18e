"""Techniques. A new one: one module here, one import line below, one test."""

from edgekit.compress.distill import distil
from edgekit.compress.prune import channels, heads, layers, magnitude, nm, onnx_channels
from edgekit.compress.quantize import aware, dynamic, half, int4, static, weights
from edgekit.compress.technique import (
    ELSEWHERE,
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
    "ELSEWHERE",
    "TECHNIQUES",
    "ExcludedNode",
    "OnnxStep",
    "StepConfig",
    "StepResult",
    "Target",
    "Technique",
    "TorchStep",
    "aware",
    "channels",
    "distil",
    "dynamic",
    "half",
    "heads",
    "int4",
    "layers",
    "magnitude",
    "misplaced",
    "name_of",
    "nm",
    "onnx_channels",
    "static",
    "weights",
]
