"""A comparison of models, as a table and as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.comparison import ModelComparison
from edgekit.files import write_text
from edgekit.report.comparison import drop_text, metric_text
from edgekit.report.figures import figure, human_bytes, machine_lines, percent_or_value, ratio, with_interval
from edgekit.report.pictures import draw
from edgekit.report.sheets import Line, Mark, Sheet

_MARKS: dict[str, Mark] = {"FASTER": "good", "SLOWER": "bad", "TOO NOISY": "doubtful"}


def comparison_sheets(found: ModelComparison) -> list[Sheet]:
    """One line a model: what it is worth, and how fast it is where that was measured."""
    content = found.as_dict()
    streams = any(model["state_drift_db"] for model in content["models"])
    speed = [_speed(content)] if content["models"][0]["latency"] else []
    return [_worth(content), *([_state(content)] if streams else []), *speed]


def _worth(content: Mapping[str, Any]) -> Sheet:
    models = content["models"]
    first = models[0]["name"]
    columns: dict[str, list[str]] = {"model": [m["name"] for m in models]}
    if content["metric"]:
        columns[f"{content['metric']} [95 %]"] = [metric_text(m["metric"]) for m in models]
        columns["drop [95 %]"] = [_drop(m) for m in models]
    kinds = dict.fromkeys(m["agreement"]["name"] for m in models[1:])
    columns[" / ".join(kinds)] = [_agreement(m["agreement"]) for m in models]
    for name in models[-1]["also"]:
        columns[name] = [_further(m["also"].get(name)) for m in models]
    columns["size"] = [human_bytes(m["size_bytes"]) for m in models]
    columns["smaller"] = ["" if m["name"] == first else f"{m['size_ratio']:.2f}x" for m in models]
    lines = tuple(Line(cells) for cells in zip(*columns.values(), strict=True))
    paired = "; those of the drop are paired" if content["metric"] else ""
    alike = f"{' / '.join(kinds)}: of the answers to those of {first}"
    caption = f"the first, {first}, is the measure of the others; {alike}; brackets: 95 % intervals{paired}"
    return Sheet(f"models on {_data(content)}", tuple(columns), lines, left=1, key=1, caption=caption)


def _state(content: Mapping[str, Any]) -> Sheet:
    """How far the states are apart at the beginning, in the middle and at the end of the series."""
    first, *others = content["models"]
    steps = len(others[0]["state_drift_db"])
    shown = list(dict.fromkeys((0, steps // 4, steps // 2, steps - 1)))
    lines = []
    for model in others:
        drift = model["state_drift_db"]
        cells = (*(f"{drift[step]:.1f}" for step in shown), f"{min(drift):.1f}")
        lines.append(Line((model["name"], *cells)))
    columns = ("model", *(f"step {step + 1}" for step in shown), "worst")
    caption = (
        f"signal to error in dB against {first['name']}, each carrying its own state; what falls all along adds up"
    )
    return Sheet("drift of the state", columns, tuple(lines), left=1, key=1, caption=caption)


def _speed(content: Mapping[str, Any]) -> Sheet:
    lines = []
    for model in content["models"]:
        latency, gain = model["latency"], model["latency"]["gain"]
        p50 = with_interval(latency["latency_ms"]["p50"], latency["latency_ms"]["ci95_p50"])
        cells = (ratio(gain["speedup"], gain["ci95"]), gain["verdict"]) if gain else ("", "")
        lines.append(Line((model["name"], p50, *cells), _MARKS.get(gain["verdict"], "") if gain else ""))
    caption = f"measured in turns, {content['models'][0]['latency']['threads']} threads"
    columns = ("model", "p50 ms [95 %]", "speed-up [95 %]", "verdict")
    return Sheet(f"latency on {content['provider']}, batch 1", columns, tuple(lines), left=1, key=1, caption=caption)


def _data(content: Mapping[str, Any]) -> str:
    part = "" if content["data"].endswith(".npz") else f", split {content['split']}"
    return f"{content['data']}{part}: {content['n']} samples"


def _drop(model: Mapping[str, Any]) -> str:
    return "" if model["drop"] is None else drop_text(model["drop"], model["metric"]["unit"])


def _agreement(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    value = metric_text(found)
    return value if found["unit"] == "" and found["name"].endswith("agreement") else figure(found["value"])


def _further(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else percent_or_value(found["value"], found["unit"])


def comparison_html(found: ModelComparison) -> str:
    """The page: the table, the pictures, and what it was measured on."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("edgekit.report"), autoescape=True, undefined=StrictUndefined)
    content = found.as_dict()
    return environment.get_template("compare.html.j2").render(
        sheets=comparison_sheets(found),
        sections=draw(content, found.pictures.arrays),
        models=content["models"],
        notes=content["notes"],
        facts=machine_lines(content["machine"]),
        version=__version__,
    )


def write_comparison(path: Path, found: ModelComparison) -> None:
    """Write the page."""
    write_text(path, comparison_html(found))
