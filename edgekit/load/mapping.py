"""Another model's names of weights -> ours."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgekit.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

_REGEX = "re:"


class WeightMapping(BaseModel):
    r"""How the names in a file become the names of the module.

    A pattern is a glob whose `*` reaches over dots, or a regular expression behind `re:`. In `rename`, each `*` of our
    name takes what the `*` of its name matched, in order; with `re:`, `\1` takes the first group.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    strip: Annotated[str, Field(description="prefix taken off its names first, such as `module.`")] = ""
    rename: Annotated[dict[str, str], Field(description="our name: its name; the first that matches counts")] = {}
    transpose: Annotated[dict[str, list[int]], Field(description="our name: order of the axes")] = {}
    allow_missing: Annotated[list[str], Field(description="our names that may keep their initial values")] = []
    allow_extra: Annotated[list[str], Field(description="its names that are deliberately not taken")] = []

    @field_validator("rename")
    @classmethod
    def _patterns(cls, value: dict[str, str]) -> dict[str, str]:
        for ours, theirs in value.items():
            _check_rule(ours, theirs)
        return value

    @field_validator("allow_missing", "allow_extra")
    @classmethod
    def _globs(cls, value: list[str]) -> list[str]:
        for pattern in value:
            compile_pattern(pattern)
        return value

    @field_validator("transpose")
    @classmethod
    def _orders(cls, value: dict[str, list[int]]) -> dict[str, list[int]]:
        for name, order in value.items():
            if sorted(order) != list(range(len(order))):
                raise ValueError(f"{name}: {order} is no order of {len(order)} axes; write it as [1, 0]")
        return value

    def renamed(self, name: str) -> str:
        """Our name of what the file calls `name`."""
        name = name.removeprefix(self.strip)
        for ours, theirs in self.rename.items():
            match = compile_pattern(theirs).fullmatch(name)
            if match:
                return match.expand(ours) if theirs.startswith(_REGEX) else _filled(ours, match.groups())
        return name

    def apply(self, weights: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
        """The weights under our names, transposed where that is asked for.

        Args:
            weights: As the file has them.
            where: The file, for messages.

        Raises:
            ModelError: if a rule matches nothing, two names become one, or axes do not fit.
        """
        self._refuse_idle_rules(weights, where)
        found: dict[str, str] = {}
        for theirs in weights:
            ours = self.renamed(theirs)
            if ours in found:
                raise ModelError(f"{where}: both {found[ours]!r} and {theirs!r} become {ours!r}; mend `rename`")
            found[ours] = theirs
        return {ours: self._turned(ours, weights[theirs], where) for ours, theirs in found.items()}

    def _turned(self, name: str, tensor: Tensor, where: str) -> Tensor:
        for pattern, order in self.transpose.items():
            if compile_pattern(pattern).fullmatch(name):
                if len(order) != tensor.ndim:
                    raise ModelError(f"{where}: transpose {order} of {name!r}, which has {tensor.ndim} axes")
                return tensor.permute(order).contiguous()
        return tensor

    def _refuse_idle_rules(self, weights: Mapping[str, Tensor], where: str) -> None:
        if self.strip and not any(name.startswith(self.strip) for name in weights):
            raise ModelError(f"{where}: no name starts with {self.strip!r}, which `strip` names; {_begin(weights)}")
        names = [name.removeprefix(self.strip) for name in weights]
        for ours, theirs in self.rename.items():
            if not any(compile_pattern(theirs).fullmatch(name) for name in names):
                near = difflib.get_close_matches(theirs, names, n=1, cutoff=0.3)
                hint = f"; did you mean {near[0]!r}?" if near else f"; {_begin(weights)}"
                raise ModelError(f"{where}: rename {ours!r}: no name in the file matches {theirs!r}{hint}")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A glob, or a regular expression behind `re:`; each `*` of a glob is a group.

    >>> compile_pattern("slice[1-4].*").fullmatch("slice2.0.weight").groups()
    ('0.weight',)
    """
    if pattern.startswith(_REGEX):
        try:
            return re.compile(pattern.removeprefix(_REGEX))
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    parts = re.split(r"(\*|\?|\[[^\]]+\])", pattern)
    return re.compile("".join({"*": "(.*)", "?": "."}.get(p) or (p if _is_class(p) else re.escape(p)) for p in parts))


def matches_any(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns matches the whole name."""
    return any(compile_pattern(p).fullmatch(name) for p in patterns)


def _is_class(part: str) -> bool:
    return part.startswith("[") and part.endswith("]")


def _check_rule(ours: str, theirs: str) -> None:
    pattern = compile_pattern(theirs)
    if theirs.startswith(_REGEX):
        highest = max(map(int, re.findall(r"\\(\d)", ours)), default=0)
        if highest > pattern.groups:
            raise ValueError(f"{ours!r} takes group {highest}, but {theirs!r} has {pattern.groups}")
    elif ours.count("*") != theirs.count("*"):
        raise ValueError(f"{ours!r} and {theirs!r} need the same number of `*`, one for each part that stays")


def _filled(ours: str, parts: Sequence[str]) -> str:
    pieces = ours.split("*")
    return pieces[0] + "".join(part + piece for part, piece in zip(parts, pieces[1:], strict=True))


def _begin(weights: Mapping[str, Tensor]) -> str:
    return f"its names begin {', '.join(list(weights)[:3])}"
