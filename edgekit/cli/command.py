"""What every command has in common: --json, --quiet, --debug, exit codes, and errors as one line."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Collection, Mapping
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
    """Register a function as a command, with the common options and the treatment of errors added."""

    def register(body: F) -> F:
        @functools.wraps(body)
        def wrapped(*args: Any, as_json: bool = False, quiet: bool = False, debug: bool = False, **options: Any) -> Any:
            return _guarded(functools.partial(body, *args, **options), as_json, quiet, debug)

        hints = get_type_hints(body, include_extras=True)
        own = [p.replace(annotation=hints[n]) for n, p in inspect.signature(body).parameters.items()]
        common = [
            inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=a)
            for n, a in _COMMON.items()
        ]
        wrapped.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
        wrapped.__annotations__ = {**hints, **_COMMON}
        app.command(name)(wrapped)
        return body

    return register


def json_wanted() -> bool:
    """Whether the answer is one JSON document, so that nothing else may be printed before it."""
    return _json


def emit(value: Any, table: Callable[[], RenderableType] | None = None) -> None:
    """Answer the user: JSON when it was asked for, else the table (or the value itself, if it is text)."""
    if _json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
        return
    from rich.console import Console

    from edgekit.progress import color_system

    answer = table() if table else value
    plain = isinstance(answer, str)
    Console(highlight=False, color_system=color_system()).print(answer, soft_wrap=plain, markup=not plain)


def refuse(reason: str) -> NoReturn:
    """End with exit code 3: done, but the verdict is no."""
    from edgekit.progress import warn

    warn(reason)
    raise typer.Exit(VERDICT_NO)


def refuse_beside(mode: str, body: Callable[..., Any], given: Mapping[str, Any], understood: Collection[str]) -> None:
    """Refuse flags that a mode of a command has no use for, rather than pass over them.

    Args:
        mode: The flag that chose the mode.
        body: The command's function, for its defaults.
        given: Its arguments.
        understood: The names of those that the mode uses.

    Raises:
        BadParameter: for the first other one that is not at its default.
    """
    for name, parameter in inspect.signature(body).parameters.items():
        if name not in understood and (given[name] or None) != (parameter.default or None):
            raise typer.BadParameter(f"--{name.replace('_', '-')} does not go with {mode}")


def _guarded(call: Callable[[], Any], as_json: bool, quiet: bool, debug: bool) -> Any:
    from edgekit import progress
    from edgekit.errors import EdgekitError
    from edgekit.interrupt import interruptible

    global _json
    _json = as_json
    progress.set_quiet(quiet or as_json)
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
