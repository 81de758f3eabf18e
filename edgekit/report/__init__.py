"""Reports: results.json, report.md, report.html, their pictures, and the table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.files import write_json, write_text
from edgekit.report.pictures.section import PICTURES
from edgekit.report.text import markdown, terminal_table, verdict


def write_report(report: Mapping[str, Any], out: Path) -> None:
    """Write results.json, report.md, report.html and the files in pictures/ into a directory.

    Raises:
        DataError: if what the pictures are drawn from is not there or damaged.
    """
    from edgekit.report.html import html
    from edgekit.report.pictures import draw, read_pictures, write_pictures

    sections = draw(report, read_pictures(report, out))
    write_json(out / "results.json", report)
    write_pictures(sections, out / PICTURES)
    write_text(out / "report.md", markdown(report, sections))
    write_text(out / "report.html", html(report, sections))


__all__ = ["markdown", "terminal_table", "verdict", "write_report"]
