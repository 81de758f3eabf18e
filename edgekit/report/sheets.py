"""A table once, for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

Mark = Literal["", "good", "bad", "doubtful"]
_LONGEST_NAME = 20
_SHORT_TITLE = 6
_STYLES = {"good": "green", "bad": "red", "doubtful": "yellow"}


@dataclass(frozen=True)
class Line:
    """One row of a sheet.

    Attributes:
        cells: One text a column; an interval follows its value as " [low, high]".
        mark: Whether the row is good or bad news.
    """

    cells: tuple[str, ...]
    mark: Mark = ""


@dataclass(frozen=True)
class Sheet:
    """A titled table of texts.

    Attributes:
        left: How many columns, from the first, hold names rather than figures.
        key: How many columns, from the first, say which row it is.
        caption: What has to be known to read it.
    """

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    left: int = 2
    key: int = 3
    caption: str = ""


@dataclass(frozen=True)
class FittedTable:
    """A sheet in the terminal: a column for everything where there is room, else what belongs together in two lines."""

    sheet: Sheet

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """Rich asks this for what to print."""
        from rich.measure import Measurement

        wide = _table(self.sheet, stacked=False)
        needs = Measurement.get(console, options.update(max_width=1000), wide).maximum
        yield wide if needs <= options.max_width else _table(self.sheet, stacked=True)


def _table(sheet: Sheet, *, stacked: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = _stacked(sheet) if stacked else sheet
    table = Table(title=Text(shown.title, "bold"), title_justify="left", title_style="", box=box.HORIZONTALS)
    table.caption, table.caption_justify = Text(shown.caption) if shown.caption else None, "left"
    table.pad_edge, table.collapse_padding = False, True
    for number, column in enumerate(shown.columns):
        is_name = number < shown.left
        # a name gives way before a figure does
        table.add_column(
            Text(column), justify="left" if is_name else "right", overflow="fold", no_wrap=number >= shown.key
        )
    for line in shown.lines:  # names of files are text, never markup
        table.add_row(*map(Text, line.cells), style=_STYLES.get(line.mark))
    return table


def _stacked(sheet: Sheet) -> Sheet:
    """A narrower sheet: one column that says which row it is, intervals below their values."""
    shorter = _elided({line.cells[0] for line in sheet.lines})
    lines = []
    for line in sheet.lines:
        name, *setting = line.cells[: sheet.key]
        told = [cell if n < sheet.left else f"{sheet.columns[n]} {cell}" for n, cell in enumerate(setting, start=1)]
        which = "\n".join(filter(None, [shorter.get(name, name), ", ".join(told)]))
        lines.append(Line((which, *map(_below, line.cells[sheet.key :])), line.mark))
    columns = (sheet.columns[0], *map(_in_two_lines, sheet.columns[sheet.key :]))
    return Sheet(sheet.title, columns, tuple(lines), left=1, key=1, caption=sheet.caption)


def _below(text: str) -> str:
    return text.replace(" [", "\n[")


def _in_two_lines(title: str) -> str:
    if " [" in title or len(title) <= _SHORT_TITLE:
        return _below(title)
    return "\n".join(title.rsplit(" ", 1))


def _elided(names: set[str]) -> dict[str, str]:
    """Long names without their middle, where that still tells them apart."""
    half = _LONGEST_NAME // 2
    shorter = {n: n if len(n) <= _LONGEST_NAME else f"{n[: half - 1]}…{n[-half:]}" for n in names}
    return shorter if len(set(shorter.values())) == len(names) else {}


def markdown_table(sheet: Sheet) -> str:
    r"""A table as GitHub's Markdown has it; bad news in bold.

    >>> print(markdown_table(Sheet("", ("model", "ms"), (Line(("a|b", "1.0"), "bad"),), left=1)))
    | model | ms |
    |---|--:|
    | **a\|b** | **1.0** |
    """
    rules = ["---" if number < sheet.left else "--:" for number in range(len(sheet.columns))]
    rows = [_markdown_row(line.cells, bold=line.mark == "bad") for line in sheet.lines]
    return "\n".join([_markdown_row(sheet.columns), "|" + "|".join(rules) + "|", *rows])


def _markdown_row(cells: Sequence[str], *, bold: bool = False) -> str:
    plain = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return "| " + " | ".join(f"**{cell}**" if bold and cell else cell for cell in plain) + " |"
