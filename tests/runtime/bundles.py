"""Bundles made by hand, as the format says, for tests of what reads them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.conftest import dense

WEIGHT = np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
IMAGE = {"kind": "image", "input": "image", "height": 8, "width": 8, "channels": 1}
IMAGE |= {"scale": 0.0625, "mean": [0.3053], "std": [0.376]}


def variant(name: str = "base", **changes: Any) -> dict[str, Any]:
    """What a manifest says of a variant."""
    return {
        "name": name,
        "file": f"models/{name}/model.onnx",
        "format": "onnx",
        "target": "cpu",
        "providers": ["CPUExecutionProvider"],
        "session": {"graph_optimization_level": "all", "intra_op_threads": 1, "config": {}},
        "precision": "fp32",
        "opsets": {"ai.onnx": 18},
        "ir_version": 9,
        "minimum_onnxruntime": "1.17",
        "cpu_features": [],
        "encrypted": None,
        "size_bytes": 3000,
        "metric": None,
        "bench": [],
        "lineage": [],
        **changes,
    }


def manifest(variants: Sequence[Mapping[str, Any]] = (), **changes: Any) -> dict[str, Any]:
    """A manifest without its files."""
    return {
        "schema_version": 1,
        "edgekit": "0.1.0",
        "name": "tiny",
        "version": "1",
        "created": "2030-01-02T03:04:05Z",
        "description": "",
        "license": "MIT",
        "task": "classification",
        "family": "mlp",
        "classes": list("0123456789"),
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 10]}],
        "preprocessing": None,
        "postprocessing": {"kind": "softmax", "output": "logits"},
        "guard": {},
        "variants": list(variants) or [variant()],
        "golden": {},
        **changes,
    }


def dense_bytes() -> bytes:
    """A linear model of digits."""
    return bytes(dense(WEIGHT).SerializeToString())


def logits_of(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What it answers: float32 (n, 1, 8, 8) -> (n, 10)."""
    return image.reshape(len(image), 64) @ WEIGHT


def write_bundle(place: Path, told: Mapping[str, Any] | None = None, files: Mapping[str, bytes] | None = None) -> Path:
    """Write a bundle directory; a model for each of its variants where no files are given."""
    told = told or manifest()
    files = files if files is not None else {v["file"]: dense_bytes() for v in told["variants"]}
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    listed = {n: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for n, c in files.items()}
    (place / "manifest.json").write_text(json.dumps({**told, "files": listed}))
    return place


def zipped(bundle: Path, path: Path) -> Path:
    """The same bundle as a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(p for p in bundle.rglob("*") if p.is_file()):
            packed.write(file, file.relative_to(bundle).as_posix())
    return path


def onnx_bytes(model: onnx.ModelProto) -> bytes:
    """An ONNX model in a file."""
    return bytes(model.SerializeToString())
