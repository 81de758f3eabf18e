"""edgekit export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.command import command, emit
from edgekit.cli.texts import shown_facts

if TYPE_CHECKING:
    from edgekit.load import Description, Hints

_SAYS = "What the source does not say"
_NAMES = "Names of weights from elsewhere"


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
    family: Annotated[str | None, typer.Option(help="Family that weights are for.", rich_help_panel=_SAYS)] = None,
    size: Annotated[str | None, typer.Option(help="Size of that family.", rich_help_panel=_SAYS)] = None,
    builder: Annotated[
        str | None,
        typer.Option(
            help="Your code that gives the torch module: package.module:function or file.py:function. It runs.",
            rich_help_panel=_SAYS,
        ),
    ] = None,
    argument: Annotated[
        list[str] | None, typer.Option(help="Of the builder: --argument depth=18", rich_help_panel=_SAYS)
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", help="Name, shape (the batch first) and dtype: --input ids=1x128:int64", rich_help_panel=_SAYS
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="How many classes there are, or a file with one name a line.", rich_help_panel=_SAYS),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="What the outputs mean, or what a Hugging Face model is for.", rich_help_panel=_SAYS),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data set that it takes; tells inputs, classes and preprocessing.", rich_help_panel=_SAYS),
    ] = None,
    preprocessing: Annotated[
        Path | None, typer.Option(help="A preprocessor_config.json as Hugging Face has it.", rich_help_panel=_SAYS)
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option(help="Run the Python code of a Hugging Face model.", rich_help_panel=_SAYS)
    ] = False,
    entry: Annotated[
        str, typer.Option(help="Name of the state dict in a file that holds several.", rich_help_panel=_NAMES)
    ] = "",
    mapping: Annotated[
        Path | None,
        typer.Option(help="YAML with strip, rename, transpose, allow_missing, allow_extra.", rich_help_panel=_NAMES),
    ] = None,
    strip: Annotated[
        str | None, typer.Option(help="Prefix to take off every name: --strip module.", rich_help_panel=_NAMES)
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="OURS=THEIRS: --rename 'features.*=trunk.*'", rich_help_panel=_NAMES)
    ] = None,
    allow_missing: Annotated[
        list[str] | None, typer.Option(help="Our names that may keep initial values.", rich_help_panel=_NAMES)
    ] = None,
    allow_extra: Annotated[
        list[str] | None, typer.Option(help="Names in the file not to take.", rich_help_panel=_NAMES)
    ] = None,
) -> None:
    """Write an ONNX file with a parity check: from a checkpoint, weights, your code, Hugging Face, or another ONNX."""
    from edgekit.export import export_source
    from edgekit.load.flags import described_by, hints_from

    names = {"strip": strip, "rename": rename, "allow_missing": allow_missing, "allow_extra": allow_extra}
    hints: Hints = hints_from(
        family, size, builder, argument or (), entry, _mapping(mapping, names), trust_remote_code=trust_remote_code
    )
    described: Description = described_by(inputs or (), classes, task, data, preprocessing)
    if part and streaming:
        raise typer.BadParameter("--streaming is a part of its own; leave --part out")
    chosen = "streaming" if streaming else part

    def write(place: Path) -> dict[str, Any]:
        return export_source(
            source,
            place,
            opset=opset,
            target_ort=target_ort,
            fix=fix or (),
            hints=hints,
            described=described,
            part=chosen,
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


def _mapping(path: Path | None, names: dict[str, Any]) -> Any:
    """The mapping of a file, changed by flags."""
    from edgekit.recipe import read_mapping

    return read_mapping(path, {k: v for k, v in names.items() if v})
