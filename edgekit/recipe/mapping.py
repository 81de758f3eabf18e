"""A mapping of weight names in a file of its own, read as carefully as a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgekit.errors import RecipeError, unknown
from edgekit.load.mapping import WeightMapping
from edgekit.recipe.source import Location, RecipeSource, read_recipe


def read_mapping(path: Path | None, flags: Mapping[str, Any]) -> WeightMapping | None:
    """The mapping of a file, with what flags add to it.

    Args:
        path: YAML with the fields of WeightMapping.
        flags: Fields of it; `rename` as a list of OURS=THEIRS.

    Returns:
        None where neither says anything.

    Raises:
        RecipeError: with one line for each mistake, with the line of the file.
    """
    source = read_recipe(path, "mapping") if path else RecipeSource("flags", {})
    for key, value in flags.items():
        source.data[key] = _joined(source.data.get(key), dict(map(_pair, value)) if key == "rename" else value)
    return validate_mapping(source) if source.data else None


def _joined(known: Any, added: Any) -> Any:
    if isinstance(known, dict) and isinstance(added, dict):
        return {**known, **added}
    return [*known, *added] if isinstance(known, list) and isinstance(added, list) else added


def include_mapping(source: RecipeSource, location: Location, path: Path) -> None:
    """Put the content of a mapping's file in the place where a recipe names it; mistakes are told by its lines."""
    read = read_recipe(path, "mapping")
    parent = source.data
    for key in location[:-1]:
        parent = parent[str(key)]
    parent[str(location[-1])] = read.data
    source.places |= {(*location, *inner): place for inner, place in read.places.items()}


def validate_mapping(source: RecipeSource) -> WeightMapping:
    """Validate what was read.

    Raises:
        RecipeError: with one line for each mistake.
    """
    try:
        return WeightMapping.model_validate(source.data)
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(detail, source) for detail in error.errors())) from None


def _explain(detail: Any, source: RecipeSource) -> str:
    location = tuple(part for part in detail["loc"] if part != "[key]")
    place, name = source.place(location), ".".join(map(str, location))
    if detail["type"] == "extra_forbidden":
        return f"{place}: {unknown('key', name, WeightMapping.model_fields)}"
    return f"{place}: {name}: {detail['msg'].removeprefix('Value error, ')}, got {str(detail['input'])[:60]!r}"


def _pair(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not equals or not ours or not theirs:
        raise RecipeError(f"--rename {text}: got no OURS=THEIRS; write it as --rename 'features.*=trunk.*'")
    return ours, theirs
