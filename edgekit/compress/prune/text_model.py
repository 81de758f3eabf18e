"""Both cuts of a model of text behind its export: fewer tokens, shorter texts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgekit.compress.prune.length import limit_length
from edgekit.compress.prune.vocabulary import trim_vocabulary
from edgekit.data.text.beside import place_of_tokenizer, put_tokenizer
from edgekit.data.text.tokenizer import load_tokenizer
from edgekit.files import make_directory


def export_cut(
    write: Callable[[Path], dict[str, Any]],
    out: Path,
    *,
    texts: Sequence[str] = (),
    length: int | None = None,
    tokenizer: Path | None = None,
) -> dict[str, Any]:
    """Export a model of text, and write what is left of it.

    Args:
        write: Exports to a path, and says what it did.
        out: The file to write.
        texts: To keep the tokens of; none keeps the whole vocabulary.
        length: Tokens of the longest text; None for as many as it takes.
        tokenizer: Of the model, where the export leaves none beside its file.

    Returns:
        What the export says, with `vocabulary` and `max_length` for each cut.

    Raises:
        EdgekitError: as exporting and cutting raise it.
    """
    make_directory(out.parent)
    with tempfile.TemporaryDirectory(prefix=".edgekit-cut-", dir=out.parent) as work:
        whole, fewer = Path(work) / "whole" / out.name, Path(work) / "fewer" / out.name
        said = write(make_directory(whole.parent) / whole.name)
        known = place_of_tokenizer(whole) or tokenizer
        model = whole
        if texts:
            model = out if length is None else make_directory(fewer.parent) / fewer.name
            trim = trim_vocabulary(whole, model, texts, known)
            said["vocabulary"], known = trim.as_dict(), Path(trim.tokenizer)
        if length is not None:
            said["max_length"] = limit_length(model, out, length)
        place = put_tokenizer(load_tokenizer(known), out) if known else None
        _carry_companions(model.parent, out.parent)
    if texts and place:
        said["vocabulary"]["tokenizer"] = str(place)
    return {**said, "path": str(out), **({"tokenizer": str(place)} if place else {})}


def _carry_companions(source: Path, place: Path) -> None:
    """Put what lies beside an export beside what is left of it; what lies there already stays."""
    for file in source.glob("*"):
        if file.suffix in (".json", ".txt", ".model", ".jinja") and not (place / file.name).exists():
            shutil.copyfile(file, place / file.name)
