"""The models of a bundle: read, checked, and compared with each other; what the manifest says of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle.contrib import DOMAIN, oldest_for_contrib
from edgekit.bundle.records import Candidate
from edgekit.errors import BundleError
from edgekit.files import sha256_of
from edgekit.graph.admit import admit_model
from edgekit.graph.info import ModelInfo, describe
from edgekit.graph.read import data_files, every_node, read_structure
from edgekit.ort import PROVIDERS
from edgekit.ort.compat import oldest_for
from edgekit.recipe.model import NAME
from edgekit.specs import TensorSpec

# The providers that a model made for a target is meant for, the likeliest first; the CPU runs all of them.
_PROVIDERS = {"cuda": ("cuda", "cpu"), "tensorrt": ("tensorrt", "cuda", "cpu"), "web": ("webgpu", "cpu")}


@dataclass(frozen=True)
class PackedModel:
    """A model that was read and checked.

    Attributes:
        candidate: What was asked for.
        info: What the file holds.
        external: Its files of external data.
        place: Path of the model in the bundle.
    """

    candidate: Candidate
    info: ModelInfo
    external: tuple[Path, ...]
    place: str

    @property
    def name(self) -> str:
        """Of the variant."""
        return self.candidate.name

    @property
    def content(self) -> tuple[tuple[str, str], ...]:
        """What its files hold: two models of the same are one, byte for byte."""
        folder = self.place.rpartition("/")[0]
        main = sha256_of(self.candidate.path)
        return ("", main), *(
            (name.removeprefix(folder), sha256_of(f)) for name, f in self.files.items() if f in self.external
        )

    @property
    def files(self) -> dict[str, Path]:
        """Path in the bundle -> file to copy; external data keeps its place beside the model."""
        root, folder = self.candidate.path.parent, self.place.rpartition("/")[0]
        beside = {f"{folder}/{file.relative_to(root).as_posix()}": file for file in self.external}
        return {self.place: self.candidate.path, **beside}


def read_models(candidates: Sequence[Candidate], places: Mapping[str, str] | None = None) -> tuple[PackedModel, ...]:
    """Read every model, run it once in a child process, and compare what goes in and comes out.

    Args:
        candidates: The variants.
        places: Variant -> path in the bundle, where that is not models/VARIANT/model.onnx.

    Raises:
        BundleError: for no model, a name that is no name or comes twice, or models that are not interchangeable.
        ModelError: for a file that cannot be used.
    """
    if not candidates:
        raise BundleError("no model to pack; name at least one .onnx file, or a finished run with --run")
    _check_names(candidates)
    models = tuple(_read(c, (places or {}).get(c.name, f"models/{c.name}/model.onnx")) for c in candidates)
    for other in models[1:]:
        _require_same_interface(models[0], other)
    return models


def _read(candidate: Candidate, place: str) -> PackedModel:
    admit_model(candidate.path)
    external = tuple(data_files(candidate.path))
    clash = next((f for f in external if f.relative_to(candidate.path.parent).as_posix() == "model.onnx"), None)
    if clash is not None:
        raise BundleError(f"{candidate.path} keeps its weights in a file called model.onnx; export it again")
    return PackedModel(candidate, describe(candidate.path), external, place)


def _check_names(candidates: Sequence[Candidate]) -> None:
    names = [c.name for c in candidates]
    for index, name in enumerate(names):
        if not NAME.fullmatch(name):
            raise BundleError(
                f"a variant cannot be called {name!r}; use lower-case letters, digits, '.', '_' and '-', such as "
                f"--variant {variant_name(name)}=PATH"
            )
        if name in names[:index]:
            raise BundleError(f"variant {name!r} comes twice; give one another name: --variant NAME=PATH")


def variant_name(text: str) -> str:
    """A name for a variant, from any text.

    >>> variant_name("Model v2 (int8)")
    'model-v2-int8'
    """
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "model"


def _require_same_interface(first: PackedModel, other: PackedModel) -> None:
    for what in ("inputs", "outputs"):
        ours, theirs = (tuple(_comparable(s) for s in getattr(m.info, what)) for m in (first, other))
        if ours != theirs:
            raise BundleError(
                f"variants {first.name!r} and {other.name!r} have different {what}: "
                f"{_listed(getattr(first.info, what))} and {_listed(getattr(other.info, what))}; an app must be able "
                "to take either, pack them apart"
            )


def _comparable(spec: TensorSpec) -> tuple[str, str, tuple[int | str, ...]]:
    """An input or output without the names of its open dimensions: tools rename them."""
    return spec.name, spec.dtype, tuple(d if isinstance(d, int) else "" for d in spec.shape)


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs)) or "none"


def tensor_entries(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    """Inputs or outputs as the manifest holds them; an open dimension without a name is called "?"."""
    return [{"name": s.name, "dtype": s.dtype, "shape": [d if d != "" else "?" for d in s.shape]} for s in specs]


def variant_entry(model: PackedModel) -> dict[str, Any]:
    """What the manifest says of a variant."""
    candidate, info = model.candidate, model.info
    return {
        "name": model.name,
        "file": model.place,
        "format": "onnx",
        "target": candidate.target,
        "providers": [PROVIDERS[name].ort_name for name in providers_of(model)],
        "session": {"graph_optimization_level": "all", "intra_op_threads": 0, "config": {}, **candidate.session},
        "precision": precision_of(info),
        "opsets": dict(info.opsets),
        "ir_version": info.ir_version,
        "minimum_onnxruntime": minimum_onnxruntime(model),
        "cpu_features": _cpu_features(model),
        "encrypted": None,
        "size_bytes": info.size_bytes,
        "metric": _metric(candidate),
        "bench": [_bench_row(row) for row in candidate.bench],
        "lineage": [dict(step) for step in candidate.lineage],
    }


def providers_of(model: PackedModel) -> tuple[str, ...]:
    """Where it may run, the best first: as was said, or by its target; what is in float runs on a GPU too, if asked."""
    if model.candidate.providers:
        return model.candidate.providers
    usual = _PROVIDERS.get(model.candidate.target, ("cpu",))
    floats = model.info.precision.activations.startswith("float")
    return (*usual, "cuda") if floats and "cuda" not in usual else usual


def _cpu_features(model: PackedModel) -> list[str]:
    """What the CPU must have: without VNNI x86 saturates sums of uint8 times int8, unless the weights have 7 bits."""
    return ["vnni"] if model.candidate.target == "cpu" and precision_of(model.info) == "int8" else []


def precision_of(info: ModelInfo) -> str:
    """In one word: what it computes in, or what its weights are stored in where they alone are small."""
    found = info.precision
    if found.activations == "int8" or not found.forms:
        return found.activations
    return f"{found.weights} weights"


def minimum_onnxruntime(model: PackedModel) -> str:
    """The oldest ONNX Runtime that loads the file: by opset, IR version and the contrib operators that it uses."""
    info = model.info
    plain = oldest_for(info.opsets.get("ai.onnx", 1), info.ir_version)
    foreign = any(name.startswith(DOMAIN) for name in info.ops)
    contrib = oldest_for_contrib(every_node(read_structure(model.candidate.path))) if foreign else None
    return "{}.{}".format(*max(plain, contrib or plain))


def _metric(candidate: Candidate) -> dict[str, Any] | None:
    metric = candidate.metric
    if metric is None:
        return None
    interval = metric.get("ci95")
    return {
        "name": metric["name"],
        "value": metric["value"],
        "n": metric["n"],
        "interval": None if interval is None else list(interval),
        "drop": candidate.drop,
        "unit": metric.get("unit", ""),
        "higher_is_better": metric.get("higher_is_better", True),
    }


def _bench_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "provider": row["provider"],
        "batch": row["batch"],
        "threads": row["threads"],
        "p50_ms": row["latency_ms"]["p50"],
        "n": row["n"],
    }
