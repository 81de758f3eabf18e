"""Models of a finished run, with what it found out about them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgekit.bundle.records import Candidate, PackOptions
from edgekit.data import TextConfig
from edgekit.errors import BundleError, brief, unknown
from edgekit.files import sha256_of
from edgekit.pipeline.results import SCHEMA_VERSION
from edgekit.recipe import BASE

RESULTS = "results.json"


def models_of_run(directory: Path, choose: str, options: PackOptions) -> tuple[list[Candidate], PackOptions]:
    """The models of a finished run that are to be packed, and the options with what the run says.

    Args:
        directory: Of `edgekit run`.
        choose: "best", "all" (the best first, then the others by latency), or a model's name.
        options: What was asked for; it wins over what the run says.

    Raises:
        BundleError: if the run is not finished, or has no such model, or a file of it was changed since.
    """
    results = _read(directory)
    found = _chosen(results, choose, directory)
    base = next((m["sha256"] for m in results["models"] if m["name"] == BASE), "")
    candidates = [_candidate(model, directory, results, base) for model in found]
    recipe = results["recipe"]
    return candidates, replace(
        options,
        name=options.name or results["name"],
        data=options.data if options.data is not None else _data(recipe["data"], directory),
        family=options.family or recipe.get("family", ""),
        training=_training(results),
    )


def _read(directory: Path) -> dict[str, Any]:
    place = directory / RESULTS
    if not place.is_file():
        raise BundleError(f"{directory} is no finished run: it has no {RESULTS}; finish it with `edgekit run` first")
    try:
        results = json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{place} is damaged ({brief(error, 120)}); run the recipe again") from error
    if not isinstance(results, dict) or results.get("schema_version") != SCHEMA_VERSION:
        raise BundleError(f"{place} is of another edgekit; run the recipe again, finished steps are reused")
    return results


def _chosen(results: Mapping[str, Any], choose: str, directory: Path) -> list[Mapping[str, Any]]:
    models = {m["name"]: m for m in results["models"]}
    best = results["best"]
    if choose == "all":
        return sorted(models.values(), key=lambda m: (m["name"] != best, _median_ms(m)))
    if choose == "best" and best is None:
        raise BundleError(
            f"no variant of {directory} keeps the recipe's floors, so none is the best; name one: --choose "
            f"{' or '.join(models)}"
        )
    wanted = best if choose == "best" else choose
    if wanted not in models:
        raise BundleError(unknown("model of the run", wanted, [*models, "best", "all"]))
    return [models[wanted]]


def _median_ms(model: Mapping[str, Any]) -> float:
    return float(model["bench"][0]["latency_ms"]["p50"]) if model["bench"] else float("inf")


def _candidate(model: Mapping[str, Any], directory: Path, results: Mapping[str, Any], base: str) -> Candidate:
    path = directory / "models" / f"{model['name']}.onnx"
    if not path.is_file() or sha256_of(path) != model["sha256"]:
        state = "changed since" if path.is_file() else "is not there any more"
        raise BundleError(f"{path} {state}, and the run's figures are not about it; run the recipe again")
    drop = (model["drop"] or {}).get("test")
    return Candidate(
        name=model["name"],
        path=path,
        target=results["recipe"].get("target", "cpu"),
        metric=(model["metric"] or {}).get("test"),
        drop=None if drop is None else drop["value"],
        bench=tuple(model["bench"]),
        lineage=tuple(_lineage(model, results, base, directory)),
    )


def _lineage(
    model: Mapping[str, Any], results: Mapping[str, Any], base: str, directory: Path
) -> Sequence[dict[str, Any]]:
    """What was done, from the training on; what an ONNX step began with is the base."""
    weights = directory / "checkpoint" / "model.safetensors"
    source = {"sha256_of_input": sha256_of(weights)} if weights.is_file() else {}
    exported = {"step": f"export: {results['export'].get('exporter', 'onnx')}", **source}
    if model["name"] == BASE:
        return [exported]
    steps = [{"step": s["technique"], "reason": s["reason"], "config": s["config"]} for s in model["steps"]]
    first = [{**step, "sha256_of_input": base} for step in steps[:1]]
    return [exported, *first, *steps[1:]]


def _data(data: Any, directory: Path) -> str | TextConfig:
    """The recipe's data; a file of the user's is named from where the recipe was run."""
    if isinstance(data, str):
        return data
    try:
        return TextConfig.model_validate(data)
    except ValidationError as error:
        raise BundleError(
            f"{directory / RESULTS} names data that this edgekit does not understand "
            f"({error.errors()[0]['msg']}); name it with --data"
        ) from error


def _training(results: Mapping[str, Any]) -> dict[str, str]:
    """What a model card says of the training."""
    recipe, told = results["recipe"], results["training"]
    card, train = told.get("card", {}), told.get("train") or {}
    validation, baseline = told.get("validation"), results.get("baseline") or {}
    data = recipe["data"] if isinstance(recipe["data"], str) else recipe["data"].get("name") or recipe["data"]["file"]
    facts = {
        "data": data,
        "architecture": " ".join(filter(None, (card.get("family"), card.get("size")))),
        "loaded from": _loaded(recipe.get("model")),
        "epochs": train.get("epochs"),
        "batch size": train.get("batch_size"),
        "learning rate": train.get("learning_rate"),
        "seed": train.get("seed"),
        "validation": f"{validation['name']} {validation['value']:.4f}" if validation else None,
        "baseline to beat": f"{baseline['name']} {baseline['value']:.4f}" if "value" in baseline else None,
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _loaded(model: Mapping[str, Any] | None) -> str:
    if not model:
        return ""
    return next((f"{kind} {model[kind]}" for kind in ("hf", "onnx", "checkpoint", "entry") if model.get(kind)), "")
