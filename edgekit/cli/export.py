"""edgekit export."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli import source as source_flags
from edgekit.cli.command import command, emit
from edgekit.cli.texts import shown_facts


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "export")(export)


def export(
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    source: Annotated[
        str | None,
        typer.Argument(
            help="A checkpoint directory of `edgekit train`, an .onnx file, a Hugging Face directory or hub id, a "
            ".gguf file, or a file of weights (.safetensors, .pt, .pth, .bin).",
        ),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="Opset of the default domain; 18 by default.")] = None,
    target_ort: Annotated[str | None, typer.Option(help="Oldest ONNX Runtime that must load it, such as 1.16.")] = None,
    fix: Annotated[
        list[str] | None, typer.Option(help="Fix a dynamic dimension or scalar input: --fix batch=1")
    ] = None,
    part: Annotated[str, typer.Option(help="Only this part of the model, such as the decoder of a vae.")] = "",
    streaming: Annotated[
        bool, typer.Option("--streaming", help="A recurrent model that takes chunks: its state is input and output.")
    ] = False,
    max_length: Annotated[
        int | None,
        typer.Option(min=2, help="Tokens of the longest text: positions beyond are cut, longer ones refused."),
    ] = None,
    trim_vocabulary: Annotated[
        str | None, typer.Option(help="Text to keep the tokens of, such as mails.csv; rows of all others are cut.")
    ] = None,
    *,
    said: source_flags.Unsaid,
    names: source_flags.WeightNames,
) -> None:
    """Write an ONNX file with a parity check: from a checkpoint, weights, your code, Hugging Face, or another ONNX."""
    from edgekit.export import export_source

    hints, described = source_flags.hints(said, names), said.described()
    if part and streaming:
        raise typer.BadParameter("--streaming is a part of its own; leave --part out")

    write = partial(
        export_source,
        source,
        opset=opset,
        target_ort=target_ort,
        fix=fix or (),
        hints=hints,
        described=described,
        part="streaming" if streaming else part,
    )
    result = _cut(write, source, out, max_length, trim_vocabulary)
    emit(result, lambda: shown_facts(result))


def _cut(
    write: Callable[[Path], dict[str, Any]], source: str | None, out: Path, length: int | None, text: str | None
) -> dict[str, Any]:
    """Export, and cut what was asked for of a model of text."""
    if length is None and text is None:
        return write(out)
    from edgekit.cli.texts import texts_from
    from edgekit.compress.prune.text_model import export_cut
    from edgekit.data.text.beside import place_of_tokenizer
    from edgekit.files import check_output

    if source is not None:
        check_output(out, Path(source))
    beside = place_of_tokenizer(Path(source)) if source and Path(source).is_file() else None
    texts = texts_from("--trim-vocabulary", text) if text is not None else ()
    return export_cut(write, out, texts=texts, length=length, tokenizer=beside)
