"""Texts that flags name, and facts as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer


def texts_from(flag: str, text: str) -> Sequence[str]:
    """Every text of a corpus or file that a flag names."""
    from edgekit.data import is_text, resolve_source
    from edgekit.data.text.source import texts_of

    config = resolve_source(text).text if is_text(text) else None
    if config is None:
        raise typer.BadParameter(f"{flag} {text} is no text; give a .txt, .csv, .tsv, .jsonl or a corpus")
    return texts_of(config)


def shown_facts(facts: Mapping[str, Any]) -> str:
    """One line a fact; those with nothing to say are left out.

    >>> print(shown_facts({"opset": 18, "parity": {"max_abs": 2.9e-06, "batches": [1, 2], "padded": True}, "note": ""}))
    opset: 18
    parity: max_abs 2.9e-06, batches 1 2, padded yes
    """
    return "\n".join(f"{key}: {_shown(value)}" for key, value in facts.items() if value not in ("", {}))


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2g}" if isinstance(value, float) else str(value)
