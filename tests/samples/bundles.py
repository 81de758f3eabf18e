"""Bundles written by hand, for samples to read: models that answer with what preprocessing made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgekit.data import ImagePreprocessing
from tests.pillow_reference import read_picture


@dataclass(frozen=True)
class Size:
    """Of a picture, in pixels."""

    width: int
    height: int


def echo(preprocessing: ImagePreprocessing) -> onnx.ModelProto:
    """A model whose output is its input."""
    shape = ["batch", preprocessing.channels, preprocessing.height, preprocessing.width]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "pixels")]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["pixels"])], "echo", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def write_echo(
    place: Path, preprocessing: ImagePreprocessing, sizes: Iterable[Size], *, alpha: bool = False, absolute: float = 0
) -> Path:
    """Write a bundle of that model: what a sample makes of pictures must be what Python makes.

    Args:
        place: The directory.
        preprocessing: Of the pictures.
        sizes: Of the pictures, one each.
        alpha: Whether they are transparent here and there.
        absolute: How far off a sample may be.
    """
    (place / "models/echo").mkdir(parents=True)
    (place / "golden/echo").mkdir(parents=True)
    onnx.save(echo(preprocessing), place / "models/echo/model.onnx")
    rng = np.random.default_rng(0)
    samples, outputs = [], []
    for index, size in enumerate(sizes):
        raw = f"golden/{index}.raw.png"
        Image.fromarray(rng.integers(0, 256, (size.height, size.width, 4 if alpha else 3), dtype=np.uint8)).save(
            place / raw
        )
        prepared = read_picture(place / raw, preprocessing)
        samples.append({"raw": raw, "inputs": {"image": write_array(place, f"golden/{index}.image.bin", prepared)}})
        outputs.append({"pixels": write_array(place, f"golden/echo/{index}.pixels.bin", prepared)})
    write_manifest(place, preprocessing, samples, outputs, absolute)
    return place


def write_products(place: Path, weight: np.ndarray[Any, Any], given: np.ndarray[Any, Any]) -> Path:
    """A bundle of a model that multiplies uint8 (1, n) by int8 (n, m) in integers, with one golden sample."""
    for folder in ("models/sums", "golden/sums"):
        (place / folder).mkdir(parents=True)
    ends = [
        ("image", TensorProto.UINT8, ["batch", len(weight)]),
        ("sums", TensorProto.INT32, ["batch", weight.shape[1]]),
    ]
    tensors = [helper.make_tensor_value_info(*end) for end in ends]
    node = helper.make_node("MatMulInteger", ["image", "weight"], ["sums"])
    graph = helper.make_graph([node], "sums", tensors[:1], tensors[1:], [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, place / "models/sums/model.onnx")
    sums = given.astype(np.int32) @ weight.astype(np.int32)
    manifest = {
        **{"schema_version": 1, "name": "sums", "preprocessing": None, "postprocessing": {"kind": "none"}},
        "inputs": [{"name": "image", "dtype": "uint8", "shape": ["batch", len(weight)]}],
        "outputs": [{"name": "sums", "dtype": "int32", "shape": ["batch", weight.shape[1]]}],
        "variants": [
            {
                "name": "sums",
                "file": "models/sums/model.onnx",
                "providers": ["CPUExecutionProvider"],
                "cpu_features": ["vnni"],
            }
        ],
        "golden": {
            "samples": [{"inputs": {"image": write_array(place, "golden/0.image.bin", given)}}],
            "outputs": {"sums": [{"sums": write_array(place, "golden/sums/0.sums.bin", sums)}]},
            "tolerance": {"sums": {"absolute": 0, "relative": 0, "same_top1": False}},
        },
    }
    seal(place, manifest)
    return place


def write_weights_beside(place: Path, listed: str, location: str) -> Path:
    """A bundle of a model whose weights lie beside it.

    Args:
        place: The directory.
        listed: The name of the file of weights in the manifest.
        location: What the model calls it; where that is another name, the manifest does not list what is there.
    """
    for folder in ("models/w", "golden/w"):
        (place / folder).mkdir(parents=True)
    weight = np.arange(20, dtype=np.float32).reshape(4, 5)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", s]) for n, s in (("x", 4), ("y", 5))]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "w",
        ends[:1],
        ends[1:],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location)
    model.graph.initializer[0].ClearField("raw_data")
    onnx.save(model, place / "models/w/model.onnx")
    weight.tofile(place / "models/w" / listed)
    given = np.ones((1, 4), np.float32)
    manifest = {
        **{"schema_version": 1, "name": "w", "preprocessing": None, "postprocessing": {"kind": "none"}},
        **{"edgekit": "0.1.0", "version": "1", "created": "2026-01-01T00:00:00Z", "task": "none"},
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 5]}],
        "variants": [{"name": "w", "file": "models/w/model.onnx", "providers": ["CPUExecutionProvider"]}],
        "golden": {
            "samples": [{"inputs": {"x": write_array(place, "golden/0.x.bin", given)}}],
            "outputs": {"w": [{"y": write_array(place, "golden/w/0.y.bin", given @ weight)}]},
            "tolerance": {"w": {"absolute": 0, "relative": 0, "same_top1": False}},
        },
    }
    seal(place, manifest)
    if location != listed:
        weight.tofile(place / "models/w" / location)
    return place


def write_array(place: Path, file: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Write an array; gives the manifest's entry."""
    array.tofile(place / file)
    return {"file": file, "dtype": str(array.dtype), "shape": list(array.shape)}


def write_manifest(
    place: Path,
    preprocessing: ImagePreprocessing,
    samples: list[dict[str, Any]],
    outputs: list[dict[str, Any]],
    absolute: float,
) -> None:
    """The manifest, last."""
    shape = ["batch", preprocessing.channels, preprocessing.height, preprocessing.width]
    variant = {"name": "echo", "file": "models/echo/model.onnx", "providers": ["CPUExecutionProvider"]}
    manifest = {
        "schema_version": 1,
        **{"edgekit": "0.1.0", "name": "echo", "version": "1", "created": "2026-01-01T00:00:00Z", "task": "none"},
        "inputs": [{"name": "image", "dtype": "float32", "shape": shape}],
        "outputs": [{"name": "pixels", "dtype": "float32", "shape": shape}],
        "preprocessing": {**preprocessing.as_dict(), "input": "image", "resample": preprocessing.resample},
        "postprocessing": {"kind": "none", "output": "pixels"},
        "variants": [variant],
        "golden": {
            "samples": samples,
            "outputs": {"echo": outputs},
            "tolerance": {"echo": {"absolute": absolute, "relative": 0, "same_top1": False}},
        },
    }
    seal(place, manifest)


def seal(place: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with the hashes of what is there."""
    files = sorted(p for p in place.rglob("*") if p.is_file() and p.name != "manifest.json")
    manifest["files"] = {
        p.relative_to(place).as_posix(): {
            "sha256": hashlib.sha256(p.read_bytes()).hexdigest(),
            "bytes": p.stat().st_size,
        }
        for p in files
    }
    (place / "manifest.json").write_text(json.dumps(manifest))
