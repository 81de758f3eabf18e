"""edgekit prune CHECKPOINT: what the command does for a torch model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.cli.command import emit, refuse

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.pipeline.prune import PruneReport


def prune_directory(
    source: Path,
    out: Path,
    data: str | None,
    method: str,
    options: Mapping[str, Any],
    *,
    max_drop: float | None,
    threads: int | None,
) -> None:
    """Prune a checkpoint and answer; `options` are keys of the recipe's step."""
    from edgekit.errors import CompressError
    from edgekit.pipeline.prune import PruneRequest, prune_checkpoint

    if data is None:
        raise CompressError("pruning a checkpoint needs data to choose by and to fine-tune on; name it with --data")
    report = prune_checkpoint(PruneRequest(source, out, data, method, options, threads))
    emit({"out": str(out), **report.as_dict()}, lambda: _table(report, out))
    if max_drop is not None and report.drop > max_drop:
        refuse(f"{report.metric} drops by {report.drop:.4g}, more than --max-drop {max_drop}; {out} holds the result")


def _table(report: PruneReport, out: Path) -> Table:
    from rich.table import Table

    from edgekit.report.figures import human_count

    table = Table(title=f"{out}: {report.method}", title_justify="left", caption=report.reason, caption_justify="left")
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="left" if not column else "right")
    for name in ("macs", "parameters"):
        cost = report.details.get(name)
        if cost:
            cells = (human_count(cost["before"]), human_count(cost["after"]), f"{cost['ratio']:.2f}x fewer")
            table.add_row("MACs" if name == "macs" else name, *cells)
    if "speedup" in report.details:
        table.add_row("latency, exported", "", "", f"{report.details['speedup']:.2f}x as fast")
    for link in report.details.get("links", ()):
        table.add_row(f"{report.metric}, {link['name']} (validation)", "", f"{link['validation']:.4f}", "")
    table.add_row(f"{report.metric} (test)", f"{report.before:.4f}", f"{report.after:.4f}", f"{0.0 - report.drop:+.4f}")
    return table
