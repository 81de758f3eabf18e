"""Export to ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.load import Description, Hints, ModelSource
    from edgekit.load.language import LanguageModel


def export_source(
    source: Path | str | None,
    out: Path,
    *,
    opset: int | None = None,
    target_ort: str | None = None,
    fix: Sequence[str] = (),
    hints: Hints | None = None,
    described: Description | None = None,
    part: str = "",
) -> dict[str, Any]:
    """Write an ONNX file from whatever holds a model.

    Args:
        source: A checkpoint directory of ours, an .onnx file, a Hugging Face directory or hub id, a file of weights, or
            None where `hints` name a builder.
        out: The file to write.
        opset: Of the default domain.
        target_ort: Version of the oldest ONNX Runtime that must load the file.
        fix: `name=value` for dynamic dimensions and scalar inputs.
        hints: What the source is, beyond its path.
        described: What a model of weights alone, or of a builder, does not tell of itself.
        part: Of the model, such as "decoder"; "" for the whole.

    Raises:
        ExportError: if it does not export, or differs from what it was made of.
        ModelError: if the source cannot be used.
    """
    from edgekit.files import check_output
    from edgekit.load import recognise

    place = None if source is None else Path(source)
    if place is not None:
        check_output(out, place)
    found = recognise(None if source is None else str(source), hints)
    how: dict[str, Any] = {"opset": opset, "target_ort": target_ort, "fix": fix}
    if found.onnx is not None:
        return _rewrite(found.onnx, out, part, how)
    language = _language(found, described.task if described else "") if found.hf is not None else None
    if language is None:
        return _export_module(found, place, out, described, part, how)
    from edgekit.export.language import export_language

    return export_language(language, out, **how)


def _rewrite(source: str, out: Path, part: str, how: Mapping[str, Any]) -> dict[str, Any]:
    from edgekit.errors import ExportError
    from edgekit.export.onnx_onnx import rewrite_onnx

    if part:
        raise ExportError(f"{source} is an ONNX file and has no parts, got {part!r}; give the checkpoint")
    return rewrite_onnx(Path(source), out, **how)


def _export_module(
    source: ModelSource,
    place: Path | None,
    out: Path,
    described: Description | None,
    part: str,
    how: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a torch module, with the tokeniser that lies at its place, where one does."""
    from edgekit.export.torch_onnx import export_onnx
    from edgekit.load import Description, load_model
    from edgekit.load.builder import users_code

    with users_code(Path()):
        model = load_model(source, described or Description())
        model = model.take(part) if part else model
        result = export_onnx(model, out, **how).as_dict()
    if place is None:
        return result
    from edgekit.data.text.beside import carry_tokenizer

    tokenizer = carry_tokenizer(place, out, model.card.preprocessing)
    return {**result, "tokenizer": str(tokenizer)} if tokenizer else result


def _language(source: ModelSource, task: str) -> LanguageModel | None:
    """The language or speech model that a Hugging Face source holds; None for one of pictures."""
    from edgekit.load.language import find_head, load_language
    from edgekit.load.source import hugging_face_place

    place = hugging_face_place(source.hf or "")
    head = find_head(place, task)
    return load_language(place, head, trust_remote_code=source.trust_remote_code) if head else None
