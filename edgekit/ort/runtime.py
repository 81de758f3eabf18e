"""The installed ONNX Runtime."""

from __future__ import annotations

import importlib
from typing import Any

from edgekit.errors import MissingPackageError


def require_ort() -> Any:
    """The onnxruntime module.

    Raises:
        MissingPackageError: where none is installed, with the line that installs one.
        KeyboardInterrupt: where the user stopped it on the way; the library itself makes an ImportError of that.
    """
    try:
        return importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        raise MissingPackageError(
            "ONNX Runtime is not installed; install exactly one: pip install 'edgekit[cpu]' or, with an NVIDIA GPU, "
            "pip install 'edgekit[gpu]'"
        ) from None
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # the user stopped it while its library was starting
            raise KeyboardInterrupt from error
        raise
