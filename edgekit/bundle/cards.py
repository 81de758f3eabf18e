"""The two texts of a bundle: how to use it, and what the model is and how it was judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

README, MODEL_CARD = "README.md", "MODEL_CARD.md"


def write_cards(manifest: Mapping[str, Any], training: Mapping[str, Any], source: str) -> dict[str, bytes]:
    """README.md and MODEL_CARD.md.

    Args:
        manifest: Without its files.
        training: What is known of the training; {} for nothing.
        source: Where the golden samples come from.

    Returns:
        File name -> content.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edgekit.bundle"),
        autoescape=False,  # Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _cell, "kb": _kilobytes, "json": json.dumps, "shape": _shape}
    seen = {
        "bundle": manifest,
        "training": training,
        "source": source,
        "example": _example(manifest),
        "rows": [_row(variant) for variant in manifest["variants"]],
    }
    return {name: environment.get_template(f"{name}.j2").render(seen).encode() for name in (README, MODEL_CARD)}


def _row(variant: Mapping[str, Any]) -> dict[str, str]:
    """A variant in words and figures, with what is not known as a dash."""
    metric, bench = variant["metric"], variant["bench"]
    return {
        "name": variant["name"],
        "precision": variant["precision"],
        "size": _kilobytes(variant["size_bytes"]),
        "metric": _figure(metric) if metric else "-",
        "drop": f"{metric['drop']:.4f}" if metric and metric["drop"] is not None else "-",
        "latency": _latency(bench[0]) if bench else "-",
        "needs": f"ONNX Runtime {variant['minimum_onnxruntime']} or newer",
    }


def _figure(metric: Mapping[str, Any]) -> str:
    interval = metric["interval"]
    between = f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
    return f"{metric['name']} {metric['value']:.4f}{between} (n={metric['n']})"


def _latency(row: Mapping[str, Any]) -> str:
    threads = f"{row['threads']} thread{'s' if row['threads'] != 1 else ''}"
    return f"{row['p50_ms']:.3g} ms ({row['provider']}, batch {row['batch']}, {threads})"


def _example(manifest: Mapping[str, Any]) -> str:
    """What `predict` is called with, in Python."""
    kind = (manifest["preprocessing"] or {}).get("kind")
    if kind == "image":
        return '"picture.png"'
    if kind == "text":
        return '"a text"'
    return "{" + ", ".join(f'"{spec["name"]}": array' for spec in manifest["inputs"]) + "}"


def _kilobytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e3:,.0f} kB" if size_bytes < 10_000_000 else f"{size_bytes / 1e6:,.1f} MB"


def _shape(shape: list[int | str]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _cell(text: object) -> str:
    """One line that ends no cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")
