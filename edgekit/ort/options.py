"""Session options by ONNX Runtime's own names: what a tuned file holds and any app can set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

GRAPH_LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_LAYOUT", "ORT_ENABLE_ALL")
EXECUTION_MODES = ("ORT_SEQUENTIAL", "ORT_PARALLEL")


@dataclass(frozen=True)
class SessionOptions:
    """How ONNX Runtime sets a session up; None keeps the default.

    Attributes:
        graph_optimization_level: One of GRAPH_LEVELS.
        execution_mode: One of EXECUTION_MODES.
        enable_cpu_mem_arena: Whether memory is kept between runs rather than given back.
        enable_mem_pattern: Whether the memory of a run is planned from the first run of the same shapes.
        inter_op_num_threads: How many nodes may run side by side in ORT_PARALLEL.
        config_entries: Session config entries, keys from `runtime.manifest.SESSION_CONFIG`.
        threads: Intra-op threads, of the machine it was found on.
        optimized_model: Path of the model as ONNX Runtime optimised it before, which is loaded in its place and not
            optimised again.
    """

    graph_optimization_level: str | None = None
    execution_mode: str | None = None
    enable_cpu_mem_arena: bool | None = None
    enable_mem_pattern: bool | None = None
    inter_op_num_threads: int | None = None
    config_entries: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    optimized_model: str | None = None

    def apply(self, options: Any) -> None:
        """Set an `onnxruntime.SessionOptions`."""
        from edgekit.ort.runtime import require_ort

        ort = require_ort()
        kinds = {"graph_optimization_level": ort.GraphOptimizationLevel, "execution_mode": ort.ExecutionMode}
        for name, value in self.attributes().items():
            setattr(options, name, getattr(kinds[name], str(value)) if name in kinds else value)
        if self.optimized_model is not None:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        for key, entry in self.config_entries.items():
            options.add_session_config_entry(key, entry)

    def attributes(self) -> dict[str, object]:
        """The attributes of `onnxruntime.SessionOptions` that are set, threads and config entries left out."""
        others = ("config_entries", "threads", "optimized_model")
        held = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in others}
        return {name: value for name, value in held.items() if value is not None}

    def settings(self) -> dict[str, object]:
        """What is set beside threads, under one roof: attributes, config entries, the optimised file's name."""
        file = {} if self.optimized_model is None else {"optimized_model": Path(self.optimized_model).name}
        return {**self.attributes(), **self.config_entries, **file}

    def __str__(self) -> str:
        """What is set, in one line.

        >>> str(SessionOptions(enable_mem_pattern=False, threads=2))
        'enable_mem_pattern=False, threads=2'
        """
        threads = {} if self.threads is None else {"threads": self.threads}
        held = {**self.settings(), **threads}
        return ", ".join(f"{name}={value}" for name, value in held.items()) or "the defaults"

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        return {
            "session_options": self.attributes(),
            "config_entries": dict(self.config_entries),
            "threads": self.threads,
        }
