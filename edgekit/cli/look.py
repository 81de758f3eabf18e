"""edgekit inspect, doctor, list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.command import command, emit, refuse

if TYPE_CHECKING:
    from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "inspect")(inspect)
    command(app, "doctor")(doctor)
    command(app, "list")(list_names)


def inspect(
    model: Annotated[Path, typer.Argument(help="An .onnx file.")],
    shape: Annotated[list[str] | None, typer.Option(help="Settle a symbolic dimension: --shape sequence=128")] = None,
) -> None:
    """Say what a model holds, what it costs, and what can be quantised."""
    from edgekit.export.onnx_onnx import parse_fix
    from edgekit.graph.info import describe
    from edgekit.report.inspection import inspection_table

    info = describe(model, {name: int(value) for name, value in parse_fix(shape or ()).items()})
    emit(info.as_dict(), lambda: inspection_table(info))


def doctor() -> None:
    """Say what this machine has: packages, CPU features, cores, memory, and providers that really work."""
    from edgekit.doctor import examine
    from edgekit.report.diagnosis import diagnosis_table

    found = examine()
    emit(found.as_dict(), lambda: diagnosis_table(found))
    if not found.healthy:
        refuse("; ".join(f"{p.what}: {p.fix}" for p in found.problems))


def list_names(
    what: Annotated[str, typer.Argument(help="families, techniques, providers, data, recipes or metrics")],
) -> None:
    """List what there is."""
    from edgekit.errors import EdgekitError, unknown

    if what not in _LISTS:
        raise EdgekitError(unknown("list", what, _LISTS))
    rows = _LISTS[what]()
    emit(rows, lambda: _table(what, rows))


def _families() -> list[dict[str, Any]]:
    from edgekit.families import FAMILIES

    return [
        {
            "name": f.name,
            "summary": f.summary,
            "sizes": ", ".join(f.sizes),
            "tasks": ", ".join(f.tasks),
            "paper": f.paper,
        }
        for f in FAMILIES.values()
    ]


def _techniques() -> list[dict[str, Any]]:
    import edgekit.search  # noqa: F401  registers `quantize: auto`
    from edgekit.compress import TECHNIQUES

    return [{"name": t.name, "summary": t.summary, "stage": t.stage, "paper": t.paper} for t in TECHNIQUES.values()]


def _providers() -> list[dict[str, Any]]:
    from edgekit.ort import PROVIDERS, require_ort

    there = require_ort().get_available_providers()
    return [
        {
            "name": p.name,
            "in this ONNX Runtime": p.ort_name in there,
            "precisions": ", ".join(p.precisions),
            "--device": bool(p.device_options),
            "comes with": p.package,
            "needs": p.needs,
        }
        for p in PROVIDERS.values()
    ]


def _data() -> list[dict[str, Any]]:
    from edgekit.data import SOURCES

    return [
        {"name": s.name, "tasks": ", ".join(s.tasks), "summary": s.summary, "licence": s.licence}
        for s in SOURCES.values()
    ]


def _recipes() -> list[dict[str, Any]]:
    from edgekit.recipe import list_recipes, load_recipe

    found = {name: load_recipe(path) for name, path in list_recipes().items()}
    return [
        {
            "name": name,
            "family": r.subject,
            "data": r.data if isinstance(r.data, str) else r.data.title,
            "variants": ", ".join(r.variants),
        }
        for name, r in found.items()
    ]


def _metrics() -> list[dict[str, Any]]:
    from edgekit.tasks import METRICS

    return [
        {"name": m.name, "better": "higher" if m.higher_is_better else "lower", "needs labels": m.needs_labels}
        for m in METRICS.values()
    ]


_LISTS = {
    "families": _families,
    "techniques": _techniques,
    "providers": _providers,
    "data": _data,
    "recipes": _recipes,
    "metrics": _metrics,
}


def _table(what: str, rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text  # names of packages hold brackets, which are no markup

    table = Table(title=what, title_justify="left")
    for number, column in enumerate(rows[0] if rows else ()):
        table.add_column(column, overflow="fold", no_wrap=number == 0)  # the name is there to be copied
    for row in rows:
        table.add_row(*("yes" if v is True else "no" if v is False else Text(str(v)) for v in row.values()))
    return table
