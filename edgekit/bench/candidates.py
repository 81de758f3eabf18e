"""What tuning tries: single changes of session options, and for which objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from edgekit import machine
from edgekit.bench.records import BenchRequest
from edgekit.ort import SessionOptions


class Objective(StrEnum):
    """What is to become shorter or more."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    SESSION_MS = "session_ms"


@dataclass(frozen=True)
class Change:
    """One setting that may help.

    Attributes:
        title: For people.
        settings: Fields of SessionOptions and their new values.
    """

    title: str
    settings: Mapping[str, Any]

    def applied_to(self, options: SessionOptions) -> SessionOptions:
        """The options with this change; config entries are added to those that are there."""
        entries = {**options.config_entries, **self.settings.get("config_entries", {})}
        return replace(options, **{**self.settings, "config_entries": entries})

    def matters_to(self, options: SessionOptions) -> bool:
        """Whether it can change anything: a file that is optimised already has no level of optimisation."""
        return options.optimized_model is None or "graph_optimization_level" not in self.settings

    def undone_in(self, options: SessionOptions) -> SessionOptions:
        """The options with the defaults where this change is."""
        defaults = {name: getattr(SessionOptions(), name) for name in self.settings}
        own = self.settings.get("config_entries", {})
        entries = {key: value for key, value in options.config_entries.items() if key not in own}
        return replace(options, **{**defaults, "config_entries": entries})


def candidates(request: BenchRequest, objective: Objective) -> list[Change]:
    """The settings that are tried, those that usually matter most first."""
    cores = machine.available_cores()
    fewer = [] if request.threads is not None else sorted({1, 2, 4, 8, 16, 32, cores // 2} - {0})
    found = [Change(f"{n} thread{'s'[: n > 1]}", {"threads": n}) for n in reversed(fewer) if n < cores]
    if objective is not Objective.SESSION_MS:
        found.append(_entry("no spinning", "session.intra_op.allow_spinning", "0"))
    levels = ("ORT_ENABLE_LAYOUT", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_BASIC", "ORT_DISABLE_ALL")
    found += [Change(f"graph {name.split('_', 1)[1].lower()}", {"graph_optimization_level": name}) for name in levels]
    found.append(_entry("no prepacking", "session.disable_prepacking", "1"))
    if objective is not Objective.SESSION_MS:
        if cores > 1:
            side_by_side = {"execution_mode": "ORT_PARALLEL", "inter_op_num_threads": cores}
            found.append(Change("nodes side by side", side_by_side))
        found.append(_entry("dynamic block base 4", "session.dynamic_block_base", "4"))
        found.append(Change("no memory arena", {"enable_cpu_mem_arena": False}))
        found.append(Change("no memory pattern", {"enable_mem_pattern": False}))
    return found


def _entry(title: str, key: str, value: str) -> Change:
    return Change(title, {"config_entries": {key: value}})
