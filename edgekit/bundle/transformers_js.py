"""A bundle that transformers.js opens by its path as well: onnx/model_quantized.onnx, config.json, tokenizer.json.

The names of files and precisions were read in @huggingface/transformers 4.3.1 (src/utils/dtypes.js): fp32 "", fp16
"_fp16", q8 "_quantized" (its default in a browser), int8 "_int8", uint8 "_uint8", q4 "_q4", q4f16 "_q4f16". It feeds
inputs by Hugging Face's names, so the graphs get those. Everything else is as in any bundle: manifest, hashes, golden
answers, and `edgekit.runtime` reads it too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx

from edgekit.bundle.layout import Layout
from edgekit.bundle.models import precision_of
from edgekit.bundle.preprocessing import classes_of, preprocessing_of, task_of
from edgekit.bundle.records import Candidate, PackOptions
from edgekit.data.text.beside import find_tokenizer, told_of
from edgekit.data.text.tokenizer import FILE, TextTokenizer
from edgekit.errors import BundleError
from edgekit.graph.info import ModelInfo, describe
from edgekit.graph.read import every_graph, read_model
from edgekit.runtime.image import RESAMPLING, ImagePreprocessing
from edgekit.specs import TEXT_INPUTS

NAME = "transformers.js"
_THEIRS = {"ids": "input_ids", "mask": "attention_mask", "segments": "token_type_ids"}
_PIXELS = "pixel_values"
# What lies beside a model of Hugging Face and is taken along as it is.
_BESIDE = (
    *("config.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"),
    *("preprocessor_config.json", "chat_template.jinja"),
)
_TASKS = ("classification", "masked-language-modelling", "language-modelling", "")


@contextmanager
def transformers_js_layout(candidates: Sequence[Candidate], options: PackOptions) -> Iterator[Layout]:
    """The variants with Hugging Face's names of inputs, in files that are gone behind the context.

    Args:
        candidates: What is to be packed.
        options: Whose tokeniser is taken, if it is not beside the first model.

    Raises:
        BundleError: for a task, a precision or pictures that transformers.js does not know, or two of one precision.
        ModelError: if a file cannot be used, or a tokeniser is missing.
    """
    infos = [describe(c.path) for c in candidates]
    if not infos:
        raise BundleError("no model to pack; name at least one .onnx file, or a finished run with --run")
    places = _places(candidates, infos)
    _check_task(infos[0])
    with TemporaryDirectory(prefix="edgekit-layout-") as directory:
        root, first = Path(directory), candidates[0].path
        tokenizer = _tokenizer(first, infos[0], options)
        if tokenizer is not None:
            (root / FILE).write_text(tokenizer.content, encoding="utf-8")
        renamed = tuple(replace(c, path=_renamed(c, root)) for c in candidates)
        yield Layout(renamed, places, FILE, _further(first, infos[0], tokenizer))


def _places(candidates: Sequence[Candidate], infos: Sequence[ModelInfo]) -> dict[str, str]:
    """Where each variant goes; a second one of eight bits takes the more exact name."""
    places: dict[str, str] = {}
    for candidate, info in zip(candidates, infos, strict=True):
        free = [p for p in map(_path, _suffixes(candidate, info)) if p not in places.values()]
        if not free:
            raise BundleError(
                f"variant {candidate.name!r} ({precision_of(info)}) has no name left in transformers.js: "
                f"{_path(_suffixes(candidate, info)[0])} is another variant; leave one of them out"
            )
        places[candidate.name] = free[0]
    return places


def _path(suffix: str) -> str:
    return f"onnx/model{suffix}.onnx"


def _suffixes(candidate: Candidate, info: ModelInfo) -> tuple[str, ...]:
    """What transformers.js appends to the name of a file of this precision, the usual first."""
    weights, activations = info.precision.weights, info.precision.activations
    if weights in ("int8", "uint8") or weights.startswith("8-bit"):
        return "_quantized", "_uint8" if weights == "uint8" else "_int8"
    if weights in ("int4", "uint4") or weights.startswith("4-bit"):
        return ("_q4f16",) if activations == "float16" else ("_q4",)
    known = {"float32": ("",), "float16": ("_fp16",)}
    if weights not in known:
        raise BundleError(f"variant {candidate.name!r} holds {weights}, and transformers.js has no name for that")
    return known[weights]


def _check_task(info: ModelInfo) -> None:
    task = task_of(info.metadata)
    if task not in _TASKS:
        allowed = ", ".join(filter(None, _TASKS))
        raise BundleError(f"transformers.js runs {allowed} of what edgekit makes, not {task}; leave --layout out")


def _tokenizer(model: Path, info: ModelInfo, options: PackOptions) -> TextTokenizer | None:
    entry = preprocessing_of(info.metadata, info.inputs)
    ids = any(s.name in TEXT_INPUTS["ids"] for s in info.inputs)
    if not ids and (entry is None or entry["kind"] != "text"):
        return None
    return find_tokenizer(model, told_of(info.metadata), options.tokenizer)


def _renamed(candidate: Candidate, root: Path) -> Path:
    """The model with Hugging Face's names of inputs and its weights inside."""
    model, out = read_model(candidate.path), root / f"{candidate.name}.onnx"
    held = {t.name for t in model.graph.initializer}
    given = [i.name for i in model.graph.input if i.name not in held]
    pictures = {
        i.name: _PIXELS for i in model.graph.input if len(i.type.tensor_type.shape.dim) == 4 and len(given) == 1
    }
    names = {old: new for old, new in {**_THEIRS, **pictures}.items() if old in given and new not in given}
    for graph in every_graph(model):
        _rename(graph, names)
    out.write_bytes(model.SerializeToString(deterministic=True))
    return out


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for value in graph.input:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)


def _further(model: Path, info: ModelInfo, tokenizer: TextTokenizer | None) -> dict[str, bytes]:
    """What transformers.js reads beside the models: as it lies beside the first, or made from what the file says."""
    found = {name: (model.parent / name).read_bytes() for name in _BESIDE if (model.parent / name).is_file()}
    if not _is_theirs(found.get("config.json", b"")):
        found["config.json"] = _json(_config(model, info))
    if tokenizer is not None and "tokenizer_config.json" not in found:
        found["tokenizer_config.json"] = _json(_tokenizer_config(tokenizer, info))
    entry = preprocessing_of(info.metadata, info.inputs)
    if entry is not None and entry["kind"] == "image" and "preprocessor_config.json" not in found:
        found["preprocessor_config.json"] = _json(_image_processor(entry))
    return found


def _is_theirs(content: bytes) -> bool:
    """Whether it is a config.json of Hugging Face."""
    try:
        found = json.loads(content or b"null")
    except ValueError:
        return False
    return isinstance(found, dict) and "model_type" in found


def _config(model: Path, info: ModelInfo) -> dict[str, Any]:
    """The least that transformers.js wants to know of a model that is run once for an answer."""
    family, task = info.metadata.get("edgekit.family", ""), task_of(info.metadata)
    pictures = any(s.rank == 4 for s in info.inputs)
    kind = family.removeprefix("hf:") if family.startswith("hf:") or family == "bert" else ""
    # its class decides how a model is run, not what is in it, and all of pictures are run in one way
    kind = kind or ("resnet" if pictures else "")
    if not kind or task == "language-modelling":
        raise BundleError(
            f"{model} needs the config.json of Hugging Face beside it, of which transformers.js learns how to run it; "
            "put it there"
        )
    classes = classes_of(info.metadata)
    labels = {"id2label": {str(i): c for i, c in enumerate(classes)}, "label2id": {c: i for i, c in enumerate(classes)}}
    return {"model_type": kind, **(labels if classes else {})}


def _tokenizer_config(tokenizer: TextTokenizer, info: ModelInfo) -> dict[str, Any]:
    entry = preprocessing_of(info.metadata, info.inputs) or {}
    longest = entry.get("length") or info.metadata.get("edgekit.longest")
    limit = {} if longest is None else {"model_max_length": int(longest)}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": tokenizer.raw.id_to_token(tokenizer.pad),
        **limit,
    }


def _image_processor(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What prepares pictures in transformers.js as `ImagePreprocessing` does.

    Raises:
        BundleError: for grey pictures, which it always turns into colour.
    """
    prepare = ImagePreprocessing.of(entry)
    if prepare.channels != 3:
        raise BundleError(
            "transformers.js gives models colour pictures only, and this one takes grey; leave --layout out"
        )
    size = prepare.resize
    shape = {"shortest_edge": size[0]} if len(size) == 1 else {"height": size[0], "width": size[1]}
    return {
        "image_processor_type": "ImageProcessor",
        "do_resize": True,
        "size": shape,
        "resample": RESAMPLING[prepare.resample],
        "do_center_crop": len(size) == 1 or size != (prepare.height, prepare.width),
        "crop_size": {"height": prepare.height, "width": prepare.width},
        "do_rescale": True,
        "rescale_factor": prepare.scale,
        "do_normalize": True,
        "image_mean": list(prepare.mean),
        "image_std": list(prepare.std),
    }


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
