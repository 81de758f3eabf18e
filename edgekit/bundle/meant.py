"""What each variant of a bundle is meant for, where the user says so: a model file does not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from edgekit.bench.tuned import TunedFile, read_tuned
from edgekit.bundle.records import Candidate
from edgekit.compress import Target
from edgekit.errors import BundleError, unknown
from edgekit.ort import PROVIDERS
from edgekit.runtime.session import LEVELS_OF_ORT

_LEVELS = {name: level for level, name in LEVELS_OF_ORT.items()}
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
        BundleError: for a variant, target or provider that there is not, a provider twice, or session options that a
            bundle does not carry.
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
    """The manifest's `session` out of a file of session options."""
    tuned = read_tuned(Path(path))
    if foreign := _not_carried(tuned):
        raise BundleError(
            f"{path}: a bundle does not carry {', '.join(foreign)}, only graph_optimization_level "
            f"({', '.join(_LEVELS)}), threads and config_entries; leave the rest out of the file"
        )
    level, threads = tuned.session_options.graph_optimization_level, tuned.threads
    said = {"graph_optimization_level": _LEVELS.get(level or ""), "intra_op_threads": threads}
    return {**{key: value for key, value in said.items() if value}, "config": dict(tuned.config_entries)}


def _not_carried(tuned: TunedFile) -> list[str]:
    """What a file says that changes a session, and that a manifest has no key for."""
    said = tuned.session_options.model_dump(exclude_none=True)
    level = said.pop("graph_optimization_level", None)
    found = [f"graph_optimization_level {level}"] if level and level not in _LEVELS else []
    optimized = ["optimized_model"] if tuned.optimized_model else []
    return [*found, *said, *optimized]
