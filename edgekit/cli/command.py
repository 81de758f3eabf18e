"""What every command has in common: --json, --quiet, --debug, exit codes, and errors as one line."""

from __future__ import annotations

import functools
import inspect
import io
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, get_type_hints

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

F = TypeVar("F", bound=Callable[..., Any])

VERDICT_NO = 3
INTERRUPTED = 130

Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, nothing else.", rich_help_panel="Output")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.", rich_help_panel="Output")]
Debug = Annotated[bool, typer.Option("--debug", help="Tracebacks of errors.", rich_help_panel="Output")]
_COMMON = {"as_json": Json, "quiet": Quiet, "debug": Debug}
_json = False


def command(app: typer.Typer, name: str | None = None) -> Callable[[F], F]:
    """Register a function as a command, with the common options and the treatment of errors added.

    A parameter that is a dataclass stands for its fields: each is an option, and the function gets the record.
    """

    def register(body: F) -> F:
        hints = get_type_hints(body, include_extras=True)
        records: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

        @functools.wraps(body)
        def wrapped(as_json: bool = False, quiet: bool = False, debug: bool = False, **given: Any) -> Any:
            for name, record in records.items():
                given[name] = record(**{field.name: given.pop(field.name) for field in fields(record)})
            return _guarded(functools.partial(body, **given), as_json, quiet, debug)

        common = [_option(n, a, False) for n, a in _COMMON.items()]
        options = [*_options_of(body, hints), *common]
        wrapped.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {option.name: option.annotation for option in options}
        app.command(name)(wrapped)
        return body

    return register


def _options_of(body: Callable[..., Any], hints: Mapping[str, Any]) -> Iterator[inspect.Parameter]:
    """The options of a command in their order, those of records among them."""
    for name, parameter in inspect.signature(body).parameters.items():
        if not is_dataclass(hints[name]):
            yield _option(name, hints[name], parameter.default)
            continue
        inner = get_type_hints(hints[name], include_extras=True)
        yield from (_option(field.name, inner[field.name], field.default) for field in fields(hints[name]))


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def flat(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a command by the names of its options, those of records among them."""
    inner = {k: v for value in given.values() if is_dataclass(value) for k, v in vars(value).items()}
    return {**{k: v for k, v in given.items() if not is_dataclass(v)}, **inner}


def json_wanted() -> bool:
    """Whether the answer is one JSON document, so that nothing else may be printed before it."""
    return _json


def emit(value: Any, table: Callable[[], RenderableType] | None = None) -> None:
    """Answer the user: JSON when it was asked for, else the table (or the value itself, if it is text)."""
    if _json:
        sys.stdout.write(_json_text(value) + "\n")
        return
    from rich.console import Console

    from edgekit.progress import color_system

    answer = table() if table else value
    plain = isinstance(answer, str)
    Console(highlight=False, color_system=color_system()).print(answer, soft_wrap=plain, markup=not plain)


def _json_text(value: Any) -> str:
    """As people read it; with escapes where stdout cannot hold it, such as half of a character in a file's name."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, default=str)
    return text


def refuse(reason: str) -> NoReturn:
    """End with exit code 3: done, but the verdict is no."""
    from edgekit.progress import warn

    warn(reason)
    raise typer.Exit(VERDICT_NO)


def usual_values(body: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a command's options, those of records among them."""
    hints = get_type_hints(body, include_extras=True)
    return {option.name: option.default for option in _options_of(body, hints)}


def refuse_beside(mode: str, body: Callable[..., Any], given: Mapping[str, Any], understood: Collection[str]) -> None:
    """Refuse flags that a mode of a command has no use for, rather than pass over them.

    Args:
        mode: The flag that chose the mode.
        body: The command's function, for its defaults.
        given: Its arguments, as `flat` gives them.
        understood: The names of those that the mode uses.

    Raises:
        BadParameter: for the first other one that is not at its default.
    """
    for name, usual in usual_values(body).items():
        if name not in understood and (given[name] or None) != (usual or None):
            raise typer.BadParameter(f"--{name.replace('_', '-')} does not go with {mode}")


def _guarded(call: Callable[[], Any], as_json: bool, quiet: bool, debug: bool) -> Any:
    from edgekit import progress
    from edgekit.errors import EdgekitError
    from edgekit.interrupt import interruptible

    global _json
    _json = as_json
    progress.set_quiet(quiet or as_json)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold what no encoding has
    try:
        with interruptible():
            return call()
    except EdgekitError as error:
        if debug:
            raise
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt as stop:
        if debug:
            raise
        print(
            f"interrupted; {str(stop) or 'what was finished is kept, the same command goes on from there'}",
            file=sys.stderr,
        )
        raise typer.Exit(INTERRUPTED) from None
