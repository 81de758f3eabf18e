"""What each variant of a bundle is meant for, where the user says so: a model file does not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from edgekit.bench.tuned import read_tuned
from edgekit.bundle.records import Candidate
from edgekit.compress import Target
from edgekit.errors import BundleError, unknown
from edgekit.ort import PROVIDERS
from edgekit.runtime.session import LEVELS_OF_ORT, MODES_OF_ORT

_LEVELS = {name: level for level, name in LEVELS_OF_ORT.items()}
_MODES = {name: mode for mode, name in MODES_OF_ORT.items()}
ALL = ""  # in the place of a variant's name


def mean_for(
    candidates: Sequence[Candidate],
    targets: Mapping[str, str],
    providers: Mapping[str, Sequence[str]],
    sessions: Mapping[str, str] = MappingProxyType({}),
) -> list[Candidate]:
    """The candidates with the targets, providers and session options that were asked for.

    Args:
        candidates: The variants.
        targets: Variant -> target; ALL for those that are not named.
        providers: Variant -> short names of the providers that it may run on and no others, the best first; ALL for
            those that are not named.
        sessions: Variant -> file of `edgekit bench --tune --out`; ALL for those that are not named.

    Raises:
        BundleError: for a variant, target or provider that there is not, a provider twice, or an optimised model
            among the session options.
        ModelError: for a file of session options that is not there or is none.
    """
    names = [c.name for c in candidates]
    for name in (*targets, *providers, *sessions):
        if name != ALL and name not in names:
            raise BundleError(unknown("variant", name, names))
    return [
        replace(
            c,
            **_told("target", c.name, targets, _target),
            **_told("providers", c.name, providers, _providers),
            **_told("session", c.name, sessions, _session),
        )
        for c in candidates
    ]


def _told(field: str, name: str, asked: Mapping[str, Any], read: Any) -> dict[str, Any]:
    given = asked.get(name, asked.get(ALL))
    return {} if given is None else {field: read(given)}


def _target(name: str) -> str:
    if name not in get_args(Target):
        raise BundleError(unknown("target", name, get_args(Target)))
    return name


def _providers(names: Sequence[str]) -> tuple[str, ...]:
    wrong = next((name for name in names if name not in PROVIDERS), None)
    if wrong is not None:
        raise BundleError(unknown("provider", wrong, PROVIDERS))
    if len(set(names)) < len(names):
        raise BundleError(f"providers {','.join(names)} name one twice; name each once, the best first")
    return tuple(names)


def _session(path: str) -> dict[str, Any]:
    """The manifest's `session` out of a file of session options: what the file says, and nothing of the rest."""
    tuned = read_tuned(Path(path))
    if tuned.optimized_model:
        raise BundleError(
            f"{path}: a bundle does not carry optimized_model, which is for one machine and one ONNX Runtime; leave it "
            "out of the file"
        )
    said = tuned.session_options
    found = {
        "graph_optimization_level": _LEVELS.get(said.graph_optimization_level or ""),
        "intra_op_threads": tuned.threads,
        "execution_mode": _MODES.get(said.execution_mode or ""),
        "inter_op_threads": said.inter_op_num_threads,
        "enable_mem_pattern": said.enable_mem_pattern,
        "enable_cpu_mem_arena": said.enable_cpu_mem_arena,
    }
    return {**{key: value for key, value in found.items() if value is not None}, "config": dict(tuned.config_entries)}
