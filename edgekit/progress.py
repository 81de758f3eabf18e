"""Progress for people, on stderr; silent when asked, when nobody looks, and when output is JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
_quiet = False


def set_quiet(quiet: bool) -> None:
    """Switch progress and notes off (or on again)."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Whether progress and notes are switched off."""
    return _quiet


def color_system() -> Literal["auto"] | None:
    """What Rich may style with: nothing at all where NO_COLOR is set, not even bold."""
    return None if os.environ.get("NO_COLOR") else "auto"


def console() -> Console:
    """A console on stderr; dumb terminals are honoured by Rich."""
    from rich.console import Console

    return Console(stderr=True, quiet=_quiet, highlight=False, soft_wrap=True, color_system=color_system())


def note(text: str, style: str | None = None) -> None:
    """Tell a person what is going on; the text is printed as it is, brackets of paths included."""
    if not _quiet:
        console().print(text, style=style, markup=False)


def counted(number: int, what: str) -> str:
    """A number of things, in words.

    >>> counted(1, "variant"), counted(2, "file")
    ('1 variant', '2 files')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def warn(text: str) -> None:
    """Tell a person what they should know; also with --quiet, never on stdout."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False, soft_wrap=True, color_system=color_system()).print(
        Text("warning:", "yellow"), Text(text)
    )


@contextmanager
def advancing(description: str, total: float) -> Iterator[Callable[[float], object]]:
    """Draw a bar on stderr while a person watches; what is yielded sets how much is done."""
    out = console()
    if _quiet or not out.is_terminal:
        yield lambda done: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def waiting(description: str) -> Iterator[None]:
    """Show that something goes on whose end nobody knows, while a person watches."""
    out = console()
    if _quiet or not out.is_terminal:
        note(description)
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        bar.add_task(description, total=None)
        yield


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, drawing a bar on stderr while a person watches."""
    out = console()
    if _quiet or not out.is_terminal:
        yield from items
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        yield from bar.track(items, description=description, total=total)
