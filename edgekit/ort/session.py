"""Sessions that run where they were asked to run, and stop when they are asked to stop."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit import interrupt
from edgekit.errors import MissingPackageError, ModelError, ProviderError
from edgekit.machine import available_cores
from edgekit.ort.options import SessionOptions
from edgekit.ort.providers import find_provider, preload_libraries, why_not_loaded
from edgekit.specs import Array, Feeds, TensorSpec

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "bool": "bool",
    "string": "object",
    **{name: name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}


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


def numpy_dtype(ort_type: str) -> str:
    """NumPy's name for ONNX Runtime's type string.

    >>> numpy_dtype("tensor(float)")
    'float32'
    """
    inner = ort_type.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(inner, ort_type)


class Session:
    """An ONNX Runtime session on exactly the provider that was asked for.

    Args:
        model: Path of an .onnx file, or its bytes.
        provider: Short name; the CPU takes the nodes that the provider has no kernel for, and nothing else.
        threads: Intra-op threads; by default what affinity and cgroup allow.
        config: Extra session config entries.
        tuned: Options that replace the defaults; `threads`, where given, wins over theirs.
        graph_optimization: False switches ONNX Runtime's graph optimisation off.
        log_severity: ONNX Runtime's own log level; 4 keeps it silent, errors come as exceptions.

    Raises:
        ProviderError: if the provider is unknown, not in the installed ONNX Runtime, or does not load.
        ModelError: if ONNX Runtime refuses the model.
    """

    def __init__(
        self,
        model: Path | bytes,
        provider: str = "cpu",
        *,
        threads: int | None = None,
        config: Mapping[str, str] | None = None,
        tuned: SessionOptions | None = None,
        graph_optimization: bool = True,
        profile_prefix: Path | None = None,
        log_severity: int = 4,
    ) -> None:
        ort = require_ort()
        wanted = find_provider(provider)
        if wanted.ort_name not in ort.get_available_providers():
            raise ProviderError(
                f"provider {provider!r} is not in the installed ONNX Runtime; it comes with {wanted.package}"
            )
        options = ort.SessionOptions()
        options.log_severity_level = log_severity
        options.intra_op_num_threads = threads if threads is not None else available_cores()
        options.inter_op_num_threads = 1
        if tuned is not None:
            tuned.apply(options)
            if threads is not None:
                options.intra_op_num_threads = threads
        if not graph_optimization:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile_prefix)
        for key, value in (config or {}).items():
            options.add_session_config_entry(key, value)
        names = list(dict.fromkeys([wanted.ort_name, "CPUExecutionProvider"]))
        source = model if isinstance(model, bytes) else str(model)
        try:
            # ONNX Runtime's Python prints that it falls back on stdout, where JSON goes; the check follows below
            with contextlib.redirect_stdout(io.StringIO()):
                preload_libraries(wanted)
                self.raw = ort.InferenceSession(source, options, providers=names)
            self.raw.disable_fallback()  # a provider that fails in a run must not be replaced by the CPU
        except Exception as error:
            interrupt_or(error)
            raise ModelError(f"ONNX Runtime cannot load {_title(model)}: {brief(error)}") from error
        if wanted.ort_name not in self.raw.get_providers():
            raise ProviderError(f"provider {provider!r} did not load on this machine: {why_not_loaded(wanted)}")
        self.provider = provider
        self.threads: int = options.intra_op_num_threads
        self.inputs = tuple(_spec(i) for i in self.raw.get_inputs())
        self.outputs = tuple(_spec(o) for o in self.raw.get_outputs())
        self.run_options = ort.RunOptions()
        interrupt.watch(self.run_options)

    @property
    def metadata(self) -> dict[str, str]:
        """The model's metadata_props."""
        return dict(self.raw.get_modelmeta().custom_metadata_map)

    @property
    def providers_used(self) -> list[str]:
        """ONNX Runtime's names of the providers that this session really has."""
        return list(self.raw.get_providers())

    def run(self, feeds: Feeds, outputs: list[str] | None = None) -> list[Array]:
        """Run once; stops at once when the user asks to stop.

        Raises:
            ModelError: if ONNX Runtime refuses the inputs or fails.
        """
        try:
            return list(self.raw.run(outputs, dict(feeds), self.run_options))
        except Exception as error:
            interrupt_or(error)
            raise ModelError(f"the model failed to run: {brief(error)}") from error

    __call__ = run


def interrupt_or(error: Exception) -> None:
    """Raise KeyboardInterrupt if `error` comes from a run that the user stopped."""
    if interrupt.requested():
        raise KeyboardInterrupt from error


def brief(error: Exception, limit: int = 300) -> str:
    """An error's text as one line."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def _spec(argument: Any) -> TensorSpec:
    # Paddle's exporter writes -1 for what is dynamic
    shape = tuple((d if d >= 0 else "") if isinstance(d, int) else d or "" for d in argument.shape or ())
    return TensorSpec(argument.name, numpy_dtype(argument.type), shape)


def _title(model: Path | bytes) -> str:
    return "the model" if isinstance(model, bytes) else str(model)
