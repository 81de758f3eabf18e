from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgekit.report.sheets import FittedTable, Line, Sheet, markdown_table

SHEET = Sheet(
    "latency [of two]",
    ("model", "on", "batch", "p50 ms [95 %]"),
    (Line(("[red]a.onnx", "cpu", "1", "1.000 [0.900, 1.100]")), Line(("b|c.onnx", "cpu", "8", "2.000 [n/a]"), "bad")),
    caption="[bold]brackets",
)


def _printed(sheet: Sheet, width: int) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(FittedTable(sheet))
    return console.export_text().splitlines()


def test_intervals_stand_beside_their_values_where_there_is_room() -> None:
    lines = _printed(SHEET, 80)
    assert any("1.000 [0.900, 1.100]" in line for line in lines)
    assert any("[red]a.onnx" in line for line in lines)
    assert any("[bold]brackets" in line for line in lines)


@pytest.mark.parametrize("width", [36, 44])
def test_what_belongs_together_stands_in_two_lines_where_there_is_none(width: int) -> None:
    lines = _printed(SHEET, width)
    assert max(map(len, lines)) <= width
    at = next(i for i, line in enumerate(lines) if "1.000" in line)
    assert lines[at].split() == ["[red]a.onnx", "1.000"]
    assert " ".join(lines[at + 1].split()) == "cpu, batch 1 [0.900, 1.100]"


def test_markdown_escapes_bars_and_marks_bad_news() -> None:
    assert markdown_table(SHEET).splitlines() == [
        "| model | on | batch | p50 ms [95 %] |",
        "|---|---|--:|--:|",
        "| [red]a.onnx | cpu | 1 | 1.000 [0.900, 1.100] |",
        "| **b\\|c.onnx** | **cpu** | **8** | **2.000 [n/a]** |",
    ]


def test_long_names_lose_their_middle_where_there_is_no_room() -> None:
    names = [f"a-model-of-many-words-{n}-quantised-static.onnx" for n in ("x", "y")]
    other = Sheet(
        "", SHEET.columns, tuple(Line((name, "cpu", "1", "1.000 [0.900, 1.100]")) for name in (names[0], "b.onnx"))
    )
    assert "a-model-o…tatic.onnx" in "\n".join(_printed(other, 50))
    assert names[0] in "\n".join(_printed(other, 100))
    alike = Sheet("", SHEET.columns, tuple(Line((name, "cpu", "1", "1.000 [0.900, 1.100]")) for name in names))
    assert "…" not in "\n".join(_printed(alike, 50))
