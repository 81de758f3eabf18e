"""edgekit run, schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.command import command, emit, refuse

if TYPE_CHECKING:
    from rich.console import RenderableType


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "run")(run)
    command(app, "schema")(schema)


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file, or the name of one that comes with edgekit.")],
    out: Annotated[Path | None, typer.Option(help="Directory of the results; runs/NAME by default.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Change a key: --set train.epochs=3")] = None,
) -> None:
    """Train, export, compress, evaluate, measure, report and pack, as a recipe says."""
    from edgekit.pipeline import run_recipe
    from edgekit.recipe import find_recipe, load_recipe
    from edgekit.report import verdict

    loaded = load_recipe(find_recipe(recipe), settings or ())
    place = out if out is not None else Path("runs") / loaded.name
    report = run_recipe(loaded, place)
    content = report.as_dict()
    steps = [{"name": s.name, "reused": s.reused, "seconds": round(s.seconds, 3)} for s in report.steps]
    packed = {"bundle": report.bundle} if report.bundle else {}
    emit({**content, "out": str(place), **packed, "steps": steps}, lambda: _tables(content))
    _tell(verdict(content), place, all(s.reused for s in report.steps), report.bundle)
    if report.accepted is False:
        refuse(f"accuracy floor missed: {verdict(content)}")


def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    import json

    from edgekit.recipe import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))


def _tables(content: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    from edgekit.report import terminal_table
    from edgekit.report.chain import chain_table
    from edgekit.report.robustness import robust_table

    tables = (terminal_table(content), chain_table(content), robust_table(content))
    return Group(*(table for table in tables if table))


def _tell(sentence: str, place: Path, idle: bool, bundle: str | None) -> None:
    from edgekit.progress import note

    note(sentence)
    note(f"report: {place / 'report.html'}, {place / 'report.md'}, {place / 'results.json'}")
    if bundle:
        note(f"bundle: {bundle}; check it: edgekit verify {bundle}")
    if idle:
        note("nothing had to be done: every step was reused")
