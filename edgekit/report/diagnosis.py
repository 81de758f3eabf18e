"""What `edgekit doctor` shows a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekit.report.figures import human_bytes

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.doctor import Diagnosis


def diagnosis_table(found: Diagnosis) -> Table:
    """One row a fact; what needs mending last, in red."""
    from rich.table import Table

    table = Table(title="edgekit doctor", title_justify="left", show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold")
    for what, value in _rows(found):
        table.add_row(what, value)
    return table


def _rows(found: Diagnosis) -> Iterator[tuple[str, str]]:
    from rich.markup import escape  # names of packages hold brackets

    yield "Python", f"{found.python} ({found.executable})"
    yield "system", found.system
    yield "CPU", found.cpu
    yield (
        "CPU features",
        "  ".join(f"[green]{n}[/green]" if there else f"[dim]no {n}[/dim]" for n, there in found.cpu_features.items()),
    )
    yield "cores", f"{found.cores} usable of {found.cores_of_machine}"
    yield "memory", human_bytes(found.memory_bytes)
    yield "packages", "  ".join(f"{n} {v}" if v else f"[dim]no {n}[/dim]" for n, v in found.packages.items())
    yield "ONNX Runtime", "  ".join(f"{n} {v}" for n, v in found.ort_distributions.items()) or "[red]none[/red]"
    for gpu in found.gpus:
        facts = f"SM {gpu.compute_capability}, driver {gpu.driver or 'unknown'}, CUDA {gpu.cuda}"
        yield f"GPU {gpu.index}", f"{gpu.name}, {human_bytes(gpu.memory_bytes)}, {facts}"
    for provider in found.providers:
        state = "[green]works[/green]" if provider.works else f"[yellow]{escape(provider.reason)}[/yellow]"
        yield f"provider {provider.name}", state + (f"; {escape(provider.fix)}" if provider.fix else "")
    for problem in found.problems:
        yield "[red]problem[/red]", f"[red]{escape(problem.what)}[/red]; {escape(problem.fix)}"
    if found.healthy:
        yield "problems", "[green]none[/green]"
