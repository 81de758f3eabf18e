"""ONNX Runtime: finding it, its providers, what versions load, and sessions without silent fallback."""

from edgekit.ort.compat import Ceiling, ceiling_of, installed_ceiling
from edgekit.ort.execution import Execution, Node, assigned_nodes
from edgekit.ort.options import SessionOptions
from edgekit.ort.providers import PROVIDERS, Provider, find_provider
from edgekit.ort.runtime import require_ort
from edgekit.ort.session import Session, numpy_dtype

__all__ = [
    "PROVIDERS",
    "Ceiling",
    "Execution",
    "Node",
    "Provider",
    "Session",
    "SessionOptions",
    "assigned_nodes",
    "ceiling_of",
    "find_provider",
    "installed_ceiling",
    "numpy_dtype",
    "require_ort",
]
