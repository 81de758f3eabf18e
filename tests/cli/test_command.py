"""Records of options: a parameter of a command that is a dataclass stands for its fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from edgekit.cli.command import command, emit, flat, refuse_beside, usual_values


@dataclass(frozen=True)
class Size:
    """Two options."""

    width: Annotated[int, typer.Option(min=1, help="In pixels.")] = 8
    square: Annotated[bool, typer.Option("--square", help="As high as wide.")] = False


def body(
    name: Annotated[str, typer.Argument(help="Of the picture.")],
    depth: Annotated[int, typer.Option()] = 1,
    *,
    size: Size,
) -> None:
    """Draw."""
    given = flat(locals())
    if name == "plain":
        refuse_beside("plain", body, given, {"name", "depth"})
    emit({"given": given, "size": [size.width, size.square]})


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    command(made, "draw")(body)
    return made


def test_the_body_gets_the_record(app: typer.Typer) -> None:
    said = CliRunner().invoke(app, ["a", "--width", "3", "--square", "--json"])
    assert said.exit_code == 0, said.output
    assert '"given": {"name": "a", "depth": 1, "width": 3, "square": true}, "size": [3, true]' in said.output


def test_its_fields_are_options_with_their_limits_and_defaults(app: typer.Typer) -> None:
    assert usual_values(body) | {"name": ""} == {"name": "", "depth": 1, "width": 8, "square": False}
    assert CliRunner().invoke(app, ["a", "--width", "0"]).exit_code == 2
    assert "In pixels." in CliRunner().invoke(app, ["--help"]).output


def test_they_are_refused_beside_a_mode_like_any_other(app: typer.Typer) -> None:
    assert CliRunner().invoke(app, ["plain", "--depth", "2", "--json"]).exit_code == 0
    said = CliRunner().invoke(app, ["plain", "--square"])
    assert said.exit_code == 2
    assert "--square does not go with plain" in said.output
