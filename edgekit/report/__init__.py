"""Reports: results.json, report.md, report.html, and the table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.files import write_json, write_text
from edgekit.report.text import markdown, terminal_table, verdict


def write_report(report: Mapping[str, Any], out: Path) -> None:
    """Write results.json, report.md and report.html into a directory."""
    from edgekit.report.html import html

    write_json(out / "results.json", report)
    write_text(out / "report.md", markdown(report))
    write_text(out / "report.html", html(report))


__all__ = ["markdown", "terminal_table", "verdict", "write_report"]
