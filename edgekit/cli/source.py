"""What `edgekit export` is told of a source that does not say it itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgekit.load import Description, Hints

_SAYS = "What the source does not say"
_NAMES = "Names of weights from elsewhere"


@dataclass(frozen=True)
class Unsaid:
    """The flags of what a model is and takes."""

    family: Annotated[str | None, typer.Option(help="Family that weights are for.", rich_help_panel=_SAYS)] = None
    size: Annotated[str | None, typer.Option(help="Size of that family.", rich_help_panel=_SAYS)] = None
    builder: Annotated[
        str | None,
        typer.Option(
            help="Your code that gives the torch module: package.module:function or file.py:function. It runs.",
            rich_help_panel=_SAYS,
        ),
    ] = None
    argument: Annotated[
        list[str] | None, typer.Option(help="Of the builder: --argument depth=18", rich_help_panel=_SAYS)
    ] = None
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", help="Name, shape (the batch first) and dtype: --input ids=1x128:int64", rich_help_panel=_SAYS
        ),
    ] = None
    classes: Annotated[
        str | None,
        typer.Option(help="How many classes there are, or a file with one name a line.", rich_help_panel=_SAYS),
    ] = None
    task: Annotated[
        str | None,
        typer.Option(help="What the outputs mean, or what a Hugging Face model is for.", rich_help_panel=_SAYS),
    ] = None
    data: Annotated[
        str | None,
        typer.Option(help="Data set that it takes; tells inputs, classes and preprocessing.", rich_help_panel=_SAYS),
    ] = None
    preprocessing: Annotated[
        Path | None, typer.Option(help="A preprocessor_config.json as Hugging Face has it.", rich_help_panel=_SAYS)
    ] = None
    trust_remote_code: Annotated[
        bool, typer.Option(help="Run the Python code of a Hugging Face model.", rich_help_panel=_SAYS)
    ] = False

    def described(self) -> Description:
        """What the model takes and gives."""
        from edgekit.load.flags import described_by

        return described_by(self.inputs or (), self.classes, self.task, self.data, self.preprocessing)


@dataclass(frozen=True)
class WeightNames:
    """The flags of where weights stand in a file, and what they are called there."""

    entry: Annotated[
        str, typer.Option(help="Name of the state dict in a file that holds several.", rich_help_panel=_NAMES)
    ] = ""
    mapping: Annotated[
        Path | None,
        typer.Option(help="YAML with strip, rename, transpose, allow_missing, allow_extra.", rich_help_panel=_NAMES),
    ] = None
    strip: Annotated[
        str | None, typer.Option(help="Prefix to take off every name: --strip module.", rich_help_panel=_NAMES)
    ] = None
    rename: Annotated[
        list[str] | None, typer.Option(help="OURS=THEIRS: --rename 'features.*=trunk.*'", rich_help_panel=_NAMES)
    ] = None
    allow_missing: Annotated[
        list[str] | None, typer.Option(help="Our names that may keep initial values.", rich_help_panel=_NAMES)
    ] = None
    allow_extra: Annotated[
        list[str] | None, typer.Option(help="Names in the file not to take.", rich_help_panel=_NAMES)
    ] = None

    def mapped(self) -> Any:
        """The mapping of the file, changed by the flags."""
        from edgekit.recipe import read_mapping

        flags = {name: getattr(self, name) for name in ("strip", "rename", "allow_missing", "allow_extra")}
        return read_mapping(self.mapping, {name: value for name, value in flags.items() if value})


def hints(said: Unsaid, names: WeightNames) -> Hints:
    """How the source is to be read."""
    from edgekit.load import Hints
    from edgekit.load.flags import parse_arguments

    return Hints(
        family=said.family,
        size=said.size,
        builder=said.builder,
        arguments=parse_arguments(said.argument or ()),
        entry=names.entry,
        mapping=names.mapped(),
        trust_remote_code=said.trust_remote_code,
    )
