"""The installed ONNX Runtime."""

from __future__ import annotations

import importlib
from typing import Any

from edgekit.errors import MissingPackageError


def require_ort() -> Any:
    """The onnxruntime module.

    Raises:
        MissingPackageError: where none is installed, with the line that installs one.
    """
    try:
        return importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        raise MissingPackageError(
            "ONNX Runtime is not installed; install exactly one: pip install 'edgekit[cpu]' or, with an NVIDIA GPU, "
            "pip install 'edgekit[gpu]'"
        ) from None
