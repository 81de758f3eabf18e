"""What each variant of a bundle is meant for, where the user says so: a model file does not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from edgekit.bundle.records import Candidate
from edgekit.compress import Target
from edgekit.errors import BundleError, unknown
from edgekit.ort import PROVIDERS

ALL = ""  # in the place of a variant's name


def mean_for(
    candidates: Sequence[Candidate], targets: Mapping[str, str], providers: Mapping[str, Sequence[str]]
) -> list[Candidate]:
    """The candidates with the targets and providers that were asked for.

    Args:
        candidates: The variants.
        targets: Variant -> target; ALL for those that are not named.
        providers: Variant -> short names of the providers that it may run on and no others, the best first; ALL for
            those that are not named.

    Raises:
        BundleError: for a variant, target or provider that there is not, or a provider twice.
    """
    names = [c.name for c in candidates]
    for name in (*targets, *providers):
        if name != ALL and name not in names:
            raise BundleError(unknown("variant", name, names))
    return [
        replace(c, **_told("target", c.name, targets, _target), **_told("providers", c.name, providers, _providers))
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
