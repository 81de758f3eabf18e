"""What a report says beside the metric that decides: the baseline, further metrics, drift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgekit.recipe import BASE
from edgekit.recipe.floor import base_value
from edgekit.report.comparison import why_unchanged
from edgekit.report.figures import human_bytes, percent_or_value


def further_lines(report: Mapping[str, Any]) -> list[str]:
    """One line for the baseline, one for each model that has more to tell, one for each step that changed nothing."""
    also = (line for model in report["models"] for line in _also(model))
    states = (line for model in report["models"] for line in _state(model))
    writing = (line for model in report["models"] for line in _writing(model))
    return [*base_lines(report), *also, *states, *writing, *(f"- {r}" for r in why_unchanged(report))]


def base_lines(report: Mapping[str, Any]) -> list[str]:
    """What was cut off the base, how it compares with torch, and what it has to beat."""
    return [*_cuts(report), *_in_torch(report), *_baseline(report)]


def worse_by(model: Mapping[str, Any]) -> str:
    """How much worse or better than the base a model is on test data, for a sentence; "" where nothing can be said."""
    metric, drop = model["metric"]["test"], model["drop"]["test"]["value"]
    if drop == 0:
        return "as good on test data"
    word = "better" if drop < 0 else "worse"
    if metric["unit"] == "":
        return f"{100 * abs(drop):.2f} points {word} on test data"
    base = abs(base_value(metric, drop))
    return f"{metric['name']} {100 * abs(drop) / base:.2f} % {word} on test data" if base else ""


def _baseline(report: Mapping[str, Any]) -> Iterator[str]:
    found = report.get("baseline")
    if not found:
        return
    base, beaten = report["models"][0]["metric"]["test"], found["metric"]
    terms = "".join(f", {name} {value:.4g}" for name, value in found.get("terms", {}).items())
    values = (percent_or_value(m["value"], m["unit"]) for m in (base, beaten))
    ours, theirs = values
    yield f"- baseline: {base['name']} {ours} (base{terms}) against {theirs} of {found['name']}; {found['note']}"


def _also(model: Mapping[str, Any]) -> Iterator[str]:
    metric = model["metric"]["test"]
    more = list(metric.get("also", {}).values())
    if model["name"] != BASE and "drift" in metric:
        more += [metric["drift"], *metric["drift"].get("also", {}).values()]
    said = ", ".join(f"{m['name']} {percent_or_value(m['value'], m['unit'])}" for m in more)
    if said:
        yield f"- {model['name']}: {said}"


def _state(model: Mapping[str, Any]) -> Iterator[str]:
    """How far the state of a model that streams is from the base's, as a series goes on."""
    drift = model["metric"]["test"].get("state_drift_db")
    if not drift:
        return
    steps = dict.fromkeys((0, len(drift) // 2, len(drift) - 1))
    told = ", ".join(f"{drift[step]:.1f} dB behind step {step + 1}" for step in steps)
    yield f"- {model['name']}: signal to error of the state {told}; worst {min(drift):.1f} dB"


def _cuts(report: Mapping[str, Any]) -> Iterator[str]:
    """What of the base was left out behind its export."""
    words, length = (report["export"].get(key) for key in ("vocabulary", "max_length"))
    if words:
        sizes = f"{human_bytes(words['size_before'])} before, {human_bytes(words['size_after'])} after"
        yield f"- vocabulary: {words['after']:,} tokens of {words['before']:,} are left; {sizes}"
    if length:
        yield f"- longest text: {length['after']:,} tokens" + (f" of {length['before']:,}" if length["before"] else "")


def _in_torch(report: Mapping[str, Any]) -> Iterator[str]:
    """The base as torch runs it against its export, on the same validation data."""
    told = report["models"][0]["metric"]["validation"]
    exported = {told["name"]: told, **told.get("also", {})}
    for name, torch in report["export"].get("torch", {}).items():
        ours, theirs = exported[name]["value"], torch["value"]
        differs = f": {100 * abs(ours / theirs - 1):.4f} % apart" if theirs else ""
        yield f"- exported on validation data: {name} {ours:.6g}, and {theirs:.6g} in torch{differs}"


def _writing(model: Mapping[str, Any]) -> Iterator[str]:
    found = model.get("generation")
    if not found:
        return
    gain = "" if model["name"] == BASE else f" ({found['ratio']:.2f}x)"
    line = (
        f"- {model['name']} writes {found['tokens_per_second']:.1f} tokens/s{gain}, the first after "
        f"{found['first_token_ms']:.1f} ms (prompt of {found['prompt_tokens']} tokens, {found['tokens']} written, "
        f"median of {found['runs']}); "
    )
    if not found["cache_bytes_per_token"]:
        yield line + f"its state takes {human_bytes(found['cache_bytes'])}, whatever it has read"
        return
    line += f"it remembers {human_bytes(found['cache_bytes_per_token'])} a token"
    longest = found["longest_cache_bytes"]
    yield line + (f", {human_bytes(longest)} at its longest of {found['longest']:,}" if longest else "")
