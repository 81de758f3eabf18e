"""Export to ONNX."""

from __future__ import annotations

from collections.abc import Sequence
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
    from edgekit.errors import ExportError
    from edgekit.files import check_output
    from edgekit.load import Description, recognise

    if source is not None:
        check_output(out, Path(source))
    found = recognise(None if source is None else str(source), hints)
    if found.onnx is not None:
        from edgekit.export.onnx_onnx import rewrite_onnx

        if part:
            raise ExportError(f"{found.onnx} is an ONNX file and has no parts, got {part!r}; give the checkpoint")
        return rewrite_onnx(Path(found.onnx), out, opset=opset, target_ort=target_ort, fix=fix)
    from edgekit.export.torch_onnx import export_onnx
    from edgekit.load import load_model
    from edgekit.load.builder import users_code

    if found.hf is not None:
        language = _language(found, described.task if described else "")
        if language is not None:
            from edgekit.export.language import export_language

            return export_language(language, out, opset=opset, target_ort=target_ort, fix=fix)
    with users_code(Path()):
        model = load_model(found, described or Description())
        model = model.take(part) if part else model
        result = export_onnx(model, out, opset=opset, target_ort=target_ort, fix=fix).as_dict()
    if source is not None:
        from edgekit.data.text.beside import carry_tokenizer

        place = carry_tokenizer(Path(source), out, model.card.preprocessing)
        result |= {"tokenizer": str(place)} if place else {}
    return result


def _language(source: ModelSource, task: str) -> LanguageModel | None:
    """The language or speech model that a Hugging Face source holds; None for one of pictures."""
    from edgekit.load.language import find_head, load_language
    from edgekit.load.source import hugging_face_place

    place = hugging_face_place(source.hf or "")
    head = find_head(place, task)
    return load_language(place, head, trust_remote_code=source.trust_remote_code) if head else None
