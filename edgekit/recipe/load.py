"""From YAML to a recipe, with every mistake reported at once, each with its line and the nearest allowed name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edgekit.compress import ELSEWHERE, TECHNIQUES
from edgekit.errors import RecipeError, unknown
from edgekit.recipe.mapping import include_mapping
from edgekit.recipe.model import BASE, DATA_TAGS, Recipe
from edgekit.recipe.source import Location, RecipeSource, read_recipe

_REFUSED = re.compile(r"variants\.(?P<variant>[^\[]+)\[(?P<index>\d+)\]: (?P<message>.*)")


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Read, change by `--set`, and validate a recipe.

    Args:
        path: The file.
        settings: `path.to.key=value`, applied in order.

    Raises:
        RecipeError: with one line for each mistake.
    """
    source = read_recipe(path)
    for assignment in settings:
        source.set(assignment)
    resolve_paths(source, path.parent)
    return validate(source)


def resolve_paths(source: RecipeSource, directory: Path) -> None:
    """What `model` and teachers name is looked for beside the recipe; a mapping in a file of its own is read."""
    _resolve_teachers(source.data.get("variants"), directory)
    model = source.data.get("model")
    if not isinstance(model, dict):
        return
    for key in ("onnx", "checkpoint", "weights"):
        if isinstance(model.get(key), str):
            model[key] = str(directory / model[key])
    if isinstance(model.get("hf"), str) and (directory / model["hf"]).exists():  # else it is a hub id
        model["hf"] = str(directory / model["hf"])
    if ".py:" in str(model.get("builder")):  # else it is a module
        model["builder"] = str(directory / str(model["builder"]))
    if isinstance(model.get("mapping"), str):
        include_mapping(source, ("model", "mapping"), directory / model["mapping"])


def _resolve_teachers(variants: Any, directory: Path) -> None:
    """Teachers beside the recipe; "base" is no file."""
    chains = variants.values() if isinstance(variants, dict) else ()
    steps = [step for chain in chains if isinstance(chain, list) for step in chain]
    for step in steps:
        named = step.get("teacher") if isinstance(step, dict) else None
        if isinstance(named, str) and named != BASE:
            step["teacher"] = str(directory / named)
        elif isinstance(named, list):
            step["teacher"] = [n if n == BASE else str(directory / n) if isinstance(n, str) else n for n in named]


def recipe_directory() -> Path:
    """Where the recipes that come with edgekit lie: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def list_recipes() -> dict[str, Path]:
    """The recipes that come with edgekit, by name."""
    return {path.stem: path for path in sorted(recipe_directory().glob("*.yaml"))}


def find_recipe(path: Path) -> Path:
    """A recipe file; a bare name that is no file stands for the recipe of that name that comes with edgekit."""
    if not path.exists() and not path.suffix and path.name == str(path):
        known = list_recipes()
        if path.name not in known:
            raise RecipeError(unknown("recipe", path.name, known) + "; or the path of a .yaml file")
        return known[path.name]
    return path


def validate(source: RecipeSource) -> Recipe:
    """Validate what was read.

    Raises:
        RecipeError: with one line for each mistake, in the order of the file.
    """
    try:
        return Recipe.model_validate(source.data)
    except ValidationError as error:
        found = [line for detail in error.errors() for line in _explain(detail, source)]
        raise RecipeError("\n".join(sorted(dict.fromkeys(found), key=_line))) from None


def _line(mistake: str) -> int:
    """The line that a mistake stands on; 0 for `--set`."""
    match = re.search(r":(\d+): ", mistake)
    return int(match[1]) if match else 0


def _explain(detail: ErrorDetails, source: RecipeSource) -> Iterator[str]:
    location = _in_source(detail["loc"], source.data)
    if not location and detail["type"] == "value_error":
        key, _, said = _message(detail).partition(": ")
        if key in Recipe.model_fields:
            yield f"{source.place((key,))}: {key}: {said}"
        for match in map(_REFUSED.fullmatch, _message(detail).split("\n")):
            if match:
                place = source.place(("variants", match["variant"], int(match["index"])))
                yield f"{place}: variants.{match['variant']}[{match['index']}]: {match['message']}"
        return
    yield f"{source.place(location)}: {_dotted(location)}: {_say(detail, location)}"


def _say(detail: ErrorDetails, location: Location) -> str:
    kind, got = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        return _unknown_key(str(location[-1]), detail["loc"])
    if kind == "missing":
        return "is missing; add it"
    if kind == "union_tag_invalid" and detail["ctx"]["tag"]:
        name = str(detail["ctx"]["tag"])
        return f"`{name}`: {ELSEWHERE[name]}" if name in ELSEWHERE else unknown("technique", name, TECHNIQUES)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        kinds = sorted({t.kind for t in TECHNIQUES.values()})
        keys = f"exactly one of the keys {', '.join(kinds)}" if len(kinds) > 1 else f"the key {kinds[0]}"
        return f"got {_short(got)}; a step is a mapping with {keys}, such as {{quantize: static}}"
    if kind == "value_error":
        return _message(detail)
    if kind == "model_type":
        return f"must be a mapping of keys, got {_short(got)}"
    return f"{detail['msg'][0].lower()}{detail['msg'][1:]}, got {_short(got)}"


def _unknown_key(key: str, loc: tuple[int | str, ...]) -> str:
    allowed = _allowed_keys(loc)
    near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return f"unknown key;{hint} allowed: {', '.join(allowed)}"


def _allowed_keys(loc: tuple[int | str, ...]) -> list[str]:
    """The keys of the model that the last entry of a pydantic location stands in."""
    model: Any = Recipe
    for part in loc[:-1]:
        if part in TECHNIQUES:
            model = TECHNIQUES[str(part)].config
        elif hasattr(model, "model_fields") and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation)
    return list(model.model_fields) if hasattr(model, "model_fields") else []


def _model_in(annotation: Any) -> Any:
    """The model class inside an annotation such as `Model | None`."""
    from typing import get_args

    options = [annotation, *get_args(annotation)]
    return next((o for o in options if hasattr(o, "model_fields")), None)


def _in_source(loc: tuple[int | str, ...], data: Any) -> Location:
    """A pydantic location without what stands for union branches, so that it is a path in the data."""
    path: list[str | int] = []
    node = data
    for position, part in enumerate(loc):
        inside = (isinstance(node, dict) and part in node) or (
            isinstance(node, list) and isinstance(part, int) and part < len(node)
        )
        if inside:
            node = node[part]
            path.append(part)
        elif position == len(loc) - 1 and isinstance(node, dict) and part not in (*TECHNIQUES, *DATA_TAGS):
            path.append(part)
    return tuple(path)


def _dotted(location: Location) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "the recipe"


def _message(detail: ErrorDetails) -> str:
    return detail["msg"].removeprefix("Value error, ")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
