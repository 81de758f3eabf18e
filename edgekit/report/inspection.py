"""What `edgekit inspect` shows a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekit.report.figures import human_bytes

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from edgekit.graph.info import ModelInfo


def inspection_table(info: ModelInfo) -> Group:
    """The facts, then what each operator weighs and what can be done about it."""
    from rich.console import Group

    return Group(_facts_table(info), _advice_table(info))


def _facts_table(info: ModelInfo) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=info.path, title_justify="left", show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold")
    for what, value in _facts(info):  # what a foreign file says is text, never markup
        table.add_row(escape(what), escape(value), style="red" if what == "problem" else None)
    return table


def _facts(info: ModelInfo) -> Iterator[tuple[str, str]]:
    yield (
        "size",
        human_bytes(info.size_bytes) + (f" with {', '.join(info.external_files)}" if info.external_files else ""),
    )
    yield "made by", info.producer or "unknown"
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in info.opsets.items())
    yield "opset, IR", f"{opsets}; IR {info.ir_version}"
    yield "inputs", "\n".join(map(str, info.inputs)) or "none"
    yield "outputs", "\n".join(map(str, info.outputs)) or "none"
    yield "nodes", f"{info.nodes} ({info.subgraphs} subgraphs, {info.functions} functions)"
    yield "operators", ", ".join(f"{count} {op}" for op, count in sorted(info.ops.items(), key=lambda i: -i[1]))
    yield "parameters", f"{info.parameters:,}: " + ", ".join(f"{human_bytes(w.bytes)} {w.dtype}" for w in info.weights)
    if info.macs is not None:
        settled = ", ".join(f"{name} = {size}" for name, size in info.dims.items())
        yield "MACs", f"{info.macs.total:,}" + (f" with {settled}" if settled else "")
    forms = ", ".join(info.precision.forms) or "not quantised"
    yield "precision", f"weights {info.precision.weights}, activations {info.precision.activations}; {forms}"
    yield from info.metadata.items()
    yield from (("problem", problem) for problem in info.problems)


def _advice_table(info: ModelInfo) -> Table:
    from rich.table import Table

    table = Table(title=f"{human_bytes(info.quantisable_bytes)} of weights can be quantised", title_justify="left")
    for column in ("operator", "nodes", "weights", "methods", "why"):
        table.add_column(column, justify="right" if column in ("nodes", "weights") else "left", overflow="fold")
    for row in info.advice:
        methods = ", ".join(row.methods) or "none"
        table.add_row(row.op_type, str(row.nodes), human_bytes(row.weight_bytes), methods, row.reason)
    return table
