"""What quantising and pruning did to a file, as tables for people."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.report.figures import human_bytes

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.search import QuantizeReport
    from edgekit.search.proof import Latency
    from edgekit.search.prune import PruneReport

_MOST_KEPT = 5


def quantising_table(report: QuantizeReport, out: Path) -> Table:
    """Size, latency and quality before and after, and what was tried."""
    from rich.table import Table

    proof, latency, quality = report.proof, report.proof.latency, report.proof.quality
    table = Table(title=f"{out}: {report.status}, {report.method}", title_justify="left", caption=report.reason)
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row(
        "size", human_bytes(proof.size_before), human_bytes(proof.size_after), f"{proof.size_ratio:.2f}x smaller"
    )
    table.add_row("latency", *_latency_cells(latency))
    name = f"{quality.name}{' (proxy, no labels)' if quality.proxy else ''}"
    table.add_row(
        name, f"{quality.before:.4f}", f"{quality.after:.4f}", f"{0.0 - quality.drop:+.4f} on {quality.n} samples"
    )
    table.add_row("left in float", "", str(len(report.excluded_nodes)), _reasons(report))
    for attempt in report.attempts if len(report.attempts) > 1 else ():
        table.add_row(f"tried {attempt.candidate.name}", "", "", attempt.outcome)
    return table


def _reasons(report: QuantizeReport) -> str:
    counted = Counter(n.reason for n in report.excluded_nodes)
    return "; ".join(f"{count}: {reason}" for reason, count in counted.most_common(3))


def pruning_table(report: PruneReport, out: Path) -> Table:
    """Cost, size, latency and quality before and after, and what became of each group of channels."""
    from rich.table import Table

    proof, quality, pruned = report.proof, report.proof.quality, report.pruned
    table = Table(title=f"{out}: {report.status}", title_justify="left", caption=report.reason)
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="left" if not column else "right")
    for name, (before, after) in (("multiply-accumulates", pruned.macs), ("parameters", pruned.parameters)):
        table.add_row(name, f"{before:,}", f"{after:,}", f"{before / max(after, 1):.2f}x fewer")
    sizes = (human_bytes(proof.size_before), human_bytes(proof.size_after))
    table.add_row("size", *sizes, f"{proof.size_ratio:.2f}x smaller")
    table.add_row("latency", *_latency_cells(proof.latency))
    for data, found in (("", quality), (" on test data", report.test)):
        if found is not None:
            name = f"{found.name}{data}{' (proxy, no labels)' if found.proxy else ''}"
            change = f"{0.0 - found.drop:+.4f} on {found.n} samples"
            table.add_row(name, f"{found.before:.4f}", f"{found.after:.4f}", change)
    table.add_section()
    for group in pruned.groups:
        others = f" and {len(group.layers) - 1} more" if len(group.layers) > 1 else ""
        table.add_row(f"{group.layer}{others}", str(group.before), str(group.after), "channels")
    for kept in pruned.kept[:_MOST_KEPT]:
        table.add_row(f"{kept.layer} stays", str(kept.channels), str(kept.channels), kept.reason)
    if len(pruned.kept) > _MOST_KEPT:
        table.add_row(f"{len(pruned.kept) - _MOST_KEPT} more stay", "", "", "--json lists them")
    return table


def _latency_cells(latency: Latency) -> tuple[str, str, str]:
    """Before, after and the change, as a table shows them."""
    if latency.before is None or latency.after is None or latency.speedup is None:
        return "-", "-", latency.verdict
    interval = latency.ci95
    sure = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    return f"{latency.before:.3f} ms", f"{latency.after:.3f} ms", f"{latency.speedup:.2f}x as fast{sure}"
