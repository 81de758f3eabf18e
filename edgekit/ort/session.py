"""Sessions that run where they were asked to run, and stop when they are asked to stop."""

from __future__ import annotations

import contextlib
import io
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import interrupt
from edgekit.errors import ModelError, ProviderError, brief
from edgekit.machine import available_cores
from edgekit.ort.execution import RECORD_PLACEMENT, Execution, assigned_nodes, check_device
from edgekit.ort.libraries import preload_libraries, why_not_loaded
from edgekit.ort.options import SessionOptions
from edgekit.ort.providers import Provider, find_provider, require_provider
from edgekit.ort.runtime import require_ort
from edgekit.specs import TEXT_INPUTS, Array, Feeds, TensorSpec

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "bool": "bool",
    "string": "object",
    **{name: name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}


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
        tuned: Options that replace the defaults; `threads`, where given, wins over theirs. Their optimised file, where
            there is one, is loaded in place of `model`.
        execution: Device, strictness and further options of the provider.
        graph_optimization: False switches ONNX Runtime's graph optimisation off.
        save_optimized: Where ONNX Runtime writes the model as it optimised it.
        log_severity: ONNX Runtime's own log level; 4 keeps it silent, errors come as exceptions.

    Raises:
        ProviderError: if the provider is unknown, not in the installed ONNX Runtime, or does not load and may not be
            replaced; if the device is not there; if a node runs on the CPU where none may.
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
        execution: Execution | None = None,
        graph_optimization: bool = True,
        profile_prefix: Path | None = None,
        save_optimized: Path | None = None,
        log_severity: int = 4,
    ) -> None:
        ort, execution = require_ort(), execution or Execution()
        wanted = find_provider(provider) if execution.allow_fallback else require_provider(provider)
        check_device(wanted, execution.device)
        options = ort.SessionOptions()
        options.log_severity_level = log_severity
        options.intra_op_num_threads = threads if threads is not None else available_cores()
        options.inter_op_num_threads = 1
        if tuned is not None:
            tuned.apply(options)
            model = model if tuned.optimized_model is None else Path(tuned.optimized_model)
            if threads is not None:
                options.intra_op_num_threads = threads
        if not graph_optimization:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile_prefix)
        if save_optimized is not None:
            options.optimized_model_filepath = str(save_optimized)
        self.provider = provider
        self.device = execution.device or 0
        self.threads: int = options.intra_op_num_threads
        entries = {**wanted.config, **(config or {})}
        self.raw = _create(model, options, wanted, execution, entries)
        self.inputs = tuple(_with_vocabulary(_spec(i), self.metadata) for i in self.raw.get_inputs())
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

    @property
    def fell_back(self) -> bool:
        """Whether the provider that was asked for is not there and the CPU took its place."""
        return find_provider(self.provider).ort_name not in self.raw.get_providers()

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


_WARNING, _SILENT = 2, 4  # the first is the default of ONNX Runtime
_STRICT = "session.disable_cpu_ep_fallback"


def _create(
    model: Path | bytes, options: Any, wanted: Provider, execution: Execution, config: Mapping[str, str]
) -> Any:
    """An `onnxruntime.InferenceSession` on the provider, or an error that says why there is none."""
    strict = execution.strict_placement and wanted.name != "cpu"
    chain = _chain(wanted, execution, options.intra_op_num_threads)
    for key, value in {**config, **({_STRICT: "1"} if strict else {})}.items():
        options.add_session_config_entry(key, value)
    options.intra_op_num_threads = wanted.session_threads or options.intra_op_num_threads
    if not wanted.memory_pattern:
        options.enable_mem_pattern = False
    try:
        # ONNX Runtime's Python prints that it falls back on stdout, where JSON goes; the check follows below
        said = io.StringIO() if options.log_severity_level >= _SILENT else sys.stderr
        with contextlib.redirect_stdout(said), _default_logger(options.log_severity_level):
            preload_libraries(wanted)
            raw = require_ort().InferenceSession(_source(model), options, providers=chain)
        raw.disable_fallback()  # a provider that fails in a run must not be replaced by the CPU
    except Exception as error:
        interrupt_or(error)
        if strict:
            refuse_strays(model, wanted, execution)
        raise ModelError(f"ONNX Runtime cannot load {_title(model)}: {brief(error)}") from error
    if wanted.ort_name not in raw.get_providers() and not execution.allow_fallback:
        reason = why_not_loaded(wanted, chain[0][1])
        raise ProviderError(f"provider {wanted.name!r} did not load on this machine: {reason}")
    return raw


@contextmanager
def _default_logger(severity: int) -> Iterator[None]:
    """What loads providers logs by the process's logger, not by the session's."""
    ort = require_ort()
    ort.set_default_logger_severity(severity)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_WARNING)


def _chain(wanted: Provider, execution: Execution, threads: int) -> list[tuple[str, dict[str, str]]]:
    """The providers in ONNX Runtime's order of preference, with their options."""
    compiled = require_ort().get_available_providers()
    names = dict.fromkeys([wanted.name, *wanted.beside, *(() if execution.strict_placement else ("cpu",))])
    found = [p for p in map(find_provider, names) if p.ort_name in compiled]
    own = {wanted.name: execution.options}
    return [(p.ort_name, {**p.provider_options(threads, execution.device), **own.get(p.name, {})}) for p in found]


def refuse_strays(model: Path | bytes, wanted: Provider, execution: Execution) -> None:
    """Say which nodes would run on the CPU.

    Raises:
        ProviderError: if there are any, or if the provider is not there.
    """
    loose = replace(execution, strict_placement=False, allow_fallback=False)
    recording = Session(model, wanted.name, config={RECORD_PLACEMENT: "1"}, execution=loose)
    nodes = assigned_nodes(recording.raw) or []
    strays = Counter(node.op_type for node in nodes if node.provider == "CPUExecutionProvider")
    if strays:
        listed = ", ".join(f"{op} ({count})" for op, count in strays.most_common(8))
        raise ProviderError(
            f"{_title(model)}: provider {wanted.name!r} has no kernel for {strays.total()} of {len(nodes)} nodes, "
            f"which would run on the CPU: {listed}; leave --strict-placement out to let them"
        )


def _source(model: Path | bytes) -> str | bytes:
    return model if isinstance(model, bytes) else str(model)


def interrupt_or(error: Exception) -> None:
    """Raise KeyboardInterrupt if `error` comes from a run that the user stopped."""
    if interrupt.requested():
        raise KeyboardInterrupt from error


def _spec(argument: Any) -> TensorSpec:
    # Paddle's exporter writes -1 for what is dynamic
    shape = tuple((d if d >= 0 else "") if isinstance(d, int) else d or "" for d in argument.shape or ())
    return TensorSpec(argument.name, numpy_dtype(argument.type), shape)


def _with_vocabulary(spec: TensorSpec, metadata: Mapping[str, str]) -> TensorSpec:
    """An input of ids knows how many there are, where the file says it."""
    said = metadata.get("edgekit.vocabulary", "")
    return replace(spec, vocabulary=int(said)) if spec.name in TEXT_INPUTS["ids"] and said.isdigit() else spec


def _title(model: Path | bytes) -> str:
    return "the model" if isinstance(model, bytes) else str(model)
