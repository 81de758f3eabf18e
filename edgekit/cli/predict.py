"""edgekit predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgekit.cli.command import command, emit, json_wanted

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.runtime import Model, Prediction
    from edgekit.runtime.sources import Answered

_MOST_NUMBERS = 6  # of an output, in the table
_WRITING = "A bundle of a language model"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "predict")(predict)


def predict(
    bundle: Annotated[Path, typer.Argument(help="A directory or a .zip that `edgekit pack` made.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Pictures, .wav, .npy, .npz, .txt, folders of them, - for standard input; for a model of text, texts.",
        ),
    ],
    provider: Annotated[str | None, typer.Option(help="Only this one; by default the first that works.")] = None,
    variant: Annotated[str | None, typer.Option(help="Only this one; by default the first that works.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="By default what the bundle says, or all cores.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to name, at most.")] = 3,
    guard: Annotated[
        Literal["warn", "error", "off"], typer.Option(help="What to do about inputs that are unlike calibration data.")
    ] = "warn",
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut texts that are too long.")] = False,
    key: Annotated[Path | None, typer.Option(help="Public key, PEM, of who must have signed it.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Key of encrypted models.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable with that key.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory for pictures that the model makes.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens to write.", rich_help_panel=_WRITING)] = 128,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token always.", rich_help_panel=_WRITING)
    ] = 0.8,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same text.", rich_help_panel=_WRITING)] = 0,
) -> None:
    """Answer inputs with a bundle's model, as an app that embeds it would."""
    from edgekit.runtime import load
    from edgekit.runtime.seal import read_key
    from edgekit.runtime.sources import answer_words

    asked: Any = {"provider": provider, "variant": variant, "threads": threads, "truncate": truncate or None}
    keys: Any = {"public_key": key, "key": read_key(key_file, key_env)}
    with load(bundle, guard=None if guard == "off" else guard, **keys, **asked) as model:
        model.run_options = _stopped_by_ctrl_c()
        writing = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
        answers = list(answer_words(model, inputs, top=top, writing=writing))
        if out is not None:
            _write_pictures(answers, out)
        emit(_document(bundle, model, answers), lambda: _texts(answers) or _table(model, answers))
    _tell(answers)


def _stopped_by_ctrl_c() -> Any:
    """Options of runs that end as soon as somebody asks for it."""
    from edgekit.interrupt import watch
    from edgekit.runtime.choose import import_ort

    options = import_ort().RunOptions()
    watch(options)
    return options


def _document(bundle: Path, model: Model, answers: list[Answered]) -> dict[str, Any]:
    told = [a.prediction.as_dict() if a.prediction else {"error": a.error} for a in answers]
    return {
        "bundle": str(bundle),
        "name": model.manifest.name,
        "version": model.manifest.version,
        "variant": model.variant.name,
        "provider": model.provider,
        "predictions": [{"input": a.name, **one} for a, one in zip(answers, told, strict=True)],
    }


def _texts(answers: list[Answered]) -> str:
    """What a language model wrote behind each prompt; "" of other models."""
    written = [a.name + a.prediction.text for a in answers if a.prediction and a.prediction.text is not None]
    return "\n\n".join(written)


def _table(model: Model, answers: list[Answered]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        box=None, title=f"{model.manifest.name}: {model.variant.name} on {model.provider}", title_justify="left"
    )
    for heading in ("input", "answer"):
        table.add_column(heading, overflow="fold")
    for answered in answers:
        shown = "-" if answered.prediction is None else _in_words(answered.prediction)
        table.add_row(escape(_short(answered.name)), escape(shown))
    return table


def _in_words(prediction: Prediction) -> str:
    if prediction.top:
        return ", ".join(f"{c.label} {c.score:.1%}" for c in prediction.top)
    if prediction.values:
        return ", ".join(f"{name} {value:.6g}" for name, value in prediction.values.items())
    return "; ".join(f"{name} {_numbers(array)}" for name, array in prediction.outputs.items())


def _numbers(array: Any) -> str:
    """The first numbers of an output, and its shape where there are more."""
    flat = array.reshape(-1)
    first = " ".join(f"{value:.4g}" for value in flat[:_MOST_NUMBERS].tolist())
    return first if len(flat) <= _MOST_NUMBERS else f"{'x'.join(map(str, array.shape))}: {first} …"


def _write_pictures(answers: list[Answered], out: Path) -> None:
    """A PNG file for each picture that the model made, numbered in the order of the inputs."""
    from edgekit.errors import InputError
    from edgekit.files import make_directory, replacing
    from edgekit.runtime.pictures import import_pillow

    found = [(i, a.prediction.outputs.get("pixels")) for i, a in enumerate(answers) if a.prediction]
    made = [(i, pixels) for i, pixels in found if pixels is not None]
    if found and not made:
        raise InputError("--out is for pictures, and the model makes none; leave it out")
    library = import_pillow()
    for index, pixels in made:
        with replacing(make_directory(out) / f"{index}.png") as temporary:
            library.fromarray(pixels).save(temporary)


def _short(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= 60 else f"{line[:57]}…"


def _tell(answers: list[Answered]) -> None:
    """What was unusual, and what had no answer; exit code 1 for the latter."""
    import sys

    from edgekit.progress import warn

    for answered in answers:
        for text in answered.prediction.warnings if answered.prediction and not json_wanted() else ():
            warn(f"{_short(answered.name)}: {text}")
    wrong = [answered for answered in answers if answered.prediction is None]
    for answered in wrong:
        where = "" if answered.name in answered.error else f"{_short(answered.name)}: "
        print(f"error: {where}{answered.error}", file=sys.stderr)
    if wrong:
        raise typer.Exit(1)
