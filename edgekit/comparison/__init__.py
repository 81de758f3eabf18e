"""Models beside each other on the same data: how good, how much alike, how large, how fast."""

from edgekit.comparison.compare import compare_models
from edgekit.comparison.records import ComparedModel, CompareRequest, ModelComparison

__all__ = ["CompareRequest", "ComparedModel", "ModelComparison", "compare_models"]
