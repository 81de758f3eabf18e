"""Reading YAML that nobody vouches for, and knowing the line on which everything stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.errors import RecipeError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
Location = tuple[str | int, ...]


@dataclass
class RecipeSource:
    """A recipe's plain data, and where each part of it stands.

    Attributes:
        name: The file, for messages.
        data: Mappings, lists and scalars.
        places: Path of keys and indices -> "file:line", or the `--set` that put it there.
    """

    name: str
    data: dict[str, Any]
    places: dict[Location, str] = field(default_factory=dict)

    def place(self, location: Location) -> str:
        """Where a part stands; the nearest part around it, if it is not there itself."""
        for length in range(len(location), -1, -1):
            if location[:length] in self.places:
                return self.places[location[:length]]
        return self.name

    def set(self, assignment: str) -> None:
        """Apply one `a.b=value` of `--set`; the value is YAML."""
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise RecipeError(f"--set {assignment}: got no `path=value`; write it as --set train.epochs=3")
        value, _ = _parse(text, f"--set {path}")
        node: Any = self.data
        for depth, key in enumerate(keys[:-1]):
            node = _child(node, key, f"--set {path}", ".".join(keys[:depth]) or "the recipe")
        last: str | int = int(keys[-1]) if isinstance(node, list) and keys[-1].isdigit() else keys[-1]
        try:
            node[last] = value
        except (TypeError, IndexError):
            raise RecipeError(f"--set {path}: {'.'.join(keys[:-1])} has no entry {keys[-1]!r}") from None
        self.places[tuple(int(k) if k.isdigit() else k for k in keys)] = f"--set {path}"


_HINTS = {
    "recipe": (
        "`edgekit list recipes` names those that come with edgekit",
        "`name`, `family` and `data`",
        "family: cnn",
    ),
    "mapping": ("give a YAML file", "one of `strip` and `rename`", "strip: module."),
}


def assigned(data: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Plain data, with each `a.b=value` of `--set` applied.

    Raises:
        RecipeError: for one that is none.
    """
    source = RecipeSource("--set", data)
    for assignment in assignments:
        source.set(assignment)
    return source.data


def read_recipe(path: Path, what: str = "recipe") -> RecipeSource:
    """Read a recipe's YAML: size, depth, aliases, tags and duplicate keys are checked before anything is built.

    Args:
        path: The file.
        what: "recipe" or "mapping", for the messages.

    Raises:
        RecipeError: if it is not there, not UTF-8, empty, too large, too deep, or not one mapping.
    """
    missing, needs, example = _HINTS[what]
    if not path.is_file():
        raise RecipeError(f"{what} {path} is not there; {missing}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise RecipeError(f"{what} {path} has {size:,} bytes; at most {MAX_BYTES:,} are read, a {what} is a short file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{what} {path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    data, lines = _parse(text, str(path))
    if data is None:
        raise RecipeError(f"{what} {path} is empty; it needs at least {needs}")
    if not isinstance(data, dict):
        raise RecipeError(f"{what} {path} is a {type(data).__name__}; it must be a mapping of keys such as `{example}`")
    return RecipeSource(str(path), data, {loc: f"{path}:{line}" for loc, line in lines.items()})


def _parse(text: str, name: str) -> tuple[Any, dict[Location, int]]:
    """YAML 1.2 text -> (value, location -> line counted from 1)."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        _refuse_bombs(text, name)
        tree = YAML(typ="safe", pure=True).compose(text)
        lines: dict[Location, int] = {}
        _walk(tree, (), lines)
        return YAML(typ="safe", pure=True).load(text), lines
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        problem = (error.problem or str(error)).split(' with value "')[0].split(" (original value")[0]
        raise RecipeError(f"{where}: {problem}") from error
    except YAMLError as error:
        raise RecipeError(f"{name}: {' '.join(str(error).split())}") from error


def _refuse_bombs(text: str, name: str) -> None:
    """Look at the flat stream of events, which needs no recursion and expands no alias."""
    from ruamel.yaml import YAML
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if isinstance(event, AliasEvent):
            raise RecipeError(
                f"{name}:{event.start_mark.line + 1}: aliases (*{event.anchor}) are not allowed; write the value out"
            )
        if depth > MAX_DEPTH:
            raise RecipeError(f"{name}:{event.start_mark.line + 1}: nested deeper than {MAX_DEPTH} levels")


def _walk(node: Any, location: Location, lines: dict[Location, int]) -> None:
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    if node is None:
        return
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, MappingNode):
        for key, value in node.value:
            lines[(*location, key.value)] = key.start_mark.line + 1
            _walk(value, (*location, key.value), lines)
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*location, index), lines)


def _child(node: Any, key: str, what: str, parent: str) -> Any:
    if isinstance(node, dict):
        return node.setdefault(key, {})
    if isinstance(node, list) and key.isdigit() and int(key) < len(node):
        return node[int(key)]
    raise RecipeError(f"{what}: {parent} has no entry {key!r}")
