"""The report for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.recipe import BASE
from edgekit.report.chain import chain_markdown
from edgekit.report.comparison import COLUMNS, comparison_lines, why_unchanged
from edgekit.report.further import further_lines, worse_by
from edgekit.report.pictures.section import Section, markdown_sections
from edgekit.report.robustness import robust_markdown

if TYPE_CHECKING:
    from rich.table import Table

_LONGEST_NAME = 20


def terminal_table(report: Mapping[str, Any]) -> Table:
    """The comparison as a Rich table that fits 80 columns: what belongs together stands below each other."""
    from rich import box
    from rich.table import Table

    table = Table(title=f"{report['name']}: accuracy, size and speed against the base", title_justify="left")
    table.box, table.collapse_padding, table.pad_edge = box.HORIZONTALS, True, False
    longest = max(len(model["name"]) for model in report["models"])
    table.add_column("model", min_width=min(longest, _LONGEST_NAME))
    for column in (f"{report['metric']}\n(test)", "drop", "size", "latency\np50", "faster"):
        table.add_column(column, justify="right", no_wrap=True)
    notes = []
    for line in comparison_lines(report):
        model, on, metric, drop, size, smaller, latency, faster, note = line.cells
        cells = (f"{model}\n{on}", _stacked(metric), _stacked(drop), f"{size}\n{smaller}", latency, _stacked(faster))
        table.add_row(*cells, style="bold green" if line.best else "dim" if line.is_base else None, end_section=True)
        notes += [f"{model}: {note}"] if note else []
    table.caption = "\n".join(dict.fromkeys([*notes, *why_unchanged(report)])) or None
    table.caption_justify = "left"
    return table


def _stacked(cell: str) -> str:
    """The interval below its value; escaped, for Rich takes brackets for markup."""
    return cell.replace(" [", "\n\\[")


def markdown(report: Mapping[str, Any], sections: Sequence[Section] = ()) -> str:
    """The whole report as Markdown, with links to its pictures."""
    lines = [f"# {report['name']}", "", *_summary(report), "", "## Comparison", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for line in comparison_lines(report):
        cells = [f"**{c}**" if line.best and c else c.replace("|", "/") for c in line.cells]
        lines.append("| " + " | ".join(cells) + " |")
    lines += chain_markdown(report)
    lines += robust_markdown(report)
    lines += markdown_sections(sections)
    lines += ["", "## How it was measured", "", *method_lines(report), ""]
    return "\n".join(lines)


def verdict(report: Mapping[str, Any]) -> str:
    """One sentence: what to take, or why nothing can be taken."""
    if report["best"] is None:
        return "No variant keeps the accuracy floor on validation data; the base model stays the answer."
    if report["best"] == BASE:
        return "No variant is faster than the base and keeps its accuracy; the base model stays the answer."
    best = next(m for m in report["models"] if m["name"] == report["best"])
    gain = best["bench"][0]["speedup"]["ratio"]
    text = f"Take {best['name']} ({best['path']}): {best['size_ratio']:.2f}x smaller, {gain:.2f}x as fast"
    text += f", {worse_by(best)}" if worse_by(best) else ""
    return text + ("." if report["accepted"] is not False else "; that misses the floor the recipe asks for.")


def _summary(report: Mapping[str, Any]) -> list[str]:
    return [verdict(report), "", f"- model: {model_of(report)}", _export(report["export"]), *further_lines(report)]


def data_of(recipe: Mapping[str, Any]) -> str:
    """What the data of a recipe is called."""
    data = recipe["data"]
    return str(data if isinstance(data, str) else data["name"] or data["file"])


def model_of(report: Mapping[str, Any]) -> str:
    """What the base model is and where it comes from, in few words."""
    recipe = report["recipe"]
    source = recipe.get("model")
    if not source:
        return f"{recipe['family']}/{recipe['size']}, trained on {data_of(recipe)}"
    kind = next(k for k in ("onnx", "checkpoint", "hf", "builder", "family") if source[k])
    weights = f" with {source['weights']}" if source["weights"] else ""
    tuned = "fine-tuned on" if report["training"].get("train") else "used on"
    return f"{source[kind]}{weights}, {tuned} {data_of(recipe)}"


def _export(export: Mapping[str, Any]) -> str:
    if export["exporter"] == "onnx":
        differs = export["max_abs"]
        said = "not compared with the original" if differs is None else f"largest difference from it {differs:.2g}"
        return f"- export: the ONNX file written anew, opset {export['opset']}; {said}"
    parity, batches = export["parity"], ", ".join(map(str, export["parity"]["batches"]))
    return (
        f"- export: {export['exporter']} exporter, opset {export['opset']}; largest difference from torch "
        f"{parity['max_abs']:.2g} (relative {parity['max_rel']:.2g}) at batches {batches}"
    )


def _limited(report: Mapping[str, Any]) -> str:
    """What of a text was judged, where the recipe sets a limit."""
    data = report["recipe"]["data"]
    most = None if isinstance(data, str) else data.get("most_tokens")
    return f" (the first {most:,} tokens of the split at most, `most_tokens`)" if most else ""


def method_lines(report: Mapping[str, Any]) -> list[str]:
    """How the figures were measured, on what."""
    machine, first = report["machine"], report["models"][0]
    row = first["bench"][0]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    used = sorted({p for m in report["models"] for r in m["bench"] for p in r["providers_used"]})
    lines = [
        f"- {report['metric']}: {first['metric']['test']['n']} test samples{_limited(report)} that nothing was chosen "
        "on; brackets hold 95 % intervals, those of the drop are paired; the best is chosen on validation data",
        f"- latency: models in turns, {row['threads']} threads, {row['n']} runs of the base; speed-up is the median "
        "ratio of paired rounds with its 95 % interval",
        f"- providers really used: {', '.join(used)}",
        f"- machine: {machine['cpu']}, {machine['cores']} cores, {', '.join(machine['cpu_features'])}",
        f"- versions: Python {machine['python']}, {versions}",
    ]
    return lines + [f"- note: {n}" for n in report["bench"]["notes"]]
