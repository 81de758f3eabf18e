"""Hugging Face language and speech models -> ONNX by optimum, with what turns text into ids beside them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import ExportError, brief
from edgekit.export.language_parity import check_language_parity, longest_of
from edgekit.export.onnx_onnx import parse_fix
from edgekit.export.torch_onnx import DEFAULT_OPSET, annotate, silence
from edgekit.files import check_output, replacing, sha256_of
from edgekit.graph.fix import fix_inputs
from edgekit.graph.write import accept, save
from edgekit.load.language import LanguageModel
from edgekit.load.pretrained import quiet, require_transformers
from edgekit.load.tokenizer import TOKENIZER, companions, missing_beside, vocabulary_size
from edgekit.ort import Session, ceiling_of, installed_ceiling

if TYPE_CHECKING:
    import onnx

_OLDEST_OPSET = 11
# What optimum calls its files -> what a part is called here.
_PARTS = {"encoder_model": "encoder", "decoder_model_merged": "decoder", "model": "model"}
# Optimum's names of dimensions -> ours; longer names first.
_DIMS = {
    "past_decoder_sequence_length": "past_length",
    "encoder_sequence_length_out": "encoder_length",
    "encoder_sequence_length": "encoder_length",
    "decoder_sequence_length": "length",
    "past_sequence_length": "past_length",
    "sequence_length": "length",
    "batch_size": "batch",
}


def export_language(
    model: LanguageModel, out: Path, *, opset: int | None = None, target_ort: str | None = None, fix: Sequence[str] = ()
) -> dict[str, Any]:
    """Export a model with dynamic batch and lengths; the file of a decoder serves prompt and step.

    A model of encoder and decoder becomes two files, `M.encoder.onnx` and `M.decoder.onnx` for `M.onnx`. Tokeniser,
    configuration and generation settings are copied beside them.

    Args:
        model: In evaluation mode.
        out: The file to write.
        opset: Of the default domain; by default 18, or what `target_ort` loads if that is less.
        target_ort: Version of the oldest ONNX Runtime that must load the file.
        fix: `name=value` for dimensions to settle, after the comparison with torch.

    Raises:
        ExportError: if optimum cannot export it, or the result differs from torch.
        ModelError: if its tokeniser is of another model.
        OutputError: if files of another model lie there, or nothing can be written.
    """
    require_transformers("optimum", "tokenizers")
    ceiling = ceiling_of(target_ort) if target_ort else installed_ceiling()
    chosen = opset if opset is not None else min(DEFAULT_OPSET, ceiling.opset)
    if not _OLDEST_OPSET <= chosen <= ceiling.opset:
        raise ExportError(
            f"opset {chosen} cannot be had: this takes {_OLDEST_OPSET} to {ceiling.opset} for ONNX Runtime "
            f"{target_ort or 'as installed'}"
        )
    with tempfile.TemporaryDirectory(prefix="edgekit-hf-") as work, replacing(out) as temporary:
        kept = companions(model, Path(work) / "beside")
        missing = missing_beside(kept, out.parent)
        protos = _by_optimum(model, chosen, Path(work) / "optimum")
        paths = {part: _path_of(temporary, part) for part in protos}
        for part, proto in protos.items():
            check_output(_path_of(out, part), model.source)
            proto.ir_version = min(proto.ir_version, ceiling.ir_version)
            annotate(proto, _facts(model, part, kept))
            save(proto, paths[part])
            accept(paths[part])
        parity = check_language_parity(model, {part: Session(path) for part, path in paths.items()})
        _settle(protos, paths, fix)
        for file in missing:
            shutil.copyfile(file, temporary.parent / file.name)
    return {
        "path": str(_path_of(out, next(iter(paths)))),
        "files": [str(_path_of(out, part)) for part in paths],
        "beside": [file.name for file in kept],
        "task": model.head.task,
        "opset": chosen,
        "ir_version": max(proto.ir_version for proto in protos.values()),
        "exporter": "optimum",
        "parity": asdict(parity),
        "note": "",
    }


def _path_of(out: Path, part: str) -> Path:
    return out if part == "model" else out.with_name(f"{out.stem}.{part}{out.suffix}")


def _by_optimum(model: LanguageModel, opset: int, work: Path) -> dict[str, onnx.ModelProto]:
    """The parts of a model, by name."""
    import onnx
    from optimum.exporters.onnx import onnx_export_from_model

    try:
        with silence(), quiet(), _same_config(model):
            onnx_export_from_model(model.module, work, task=model.head.task, opset=opset, do_validation=False)
    except Exception as error:  # optimum and torch fail in their own ways, with classes of their own
        raise ExportError(
            f"optimum does not export {model.config.model_type!r} for {model.head.task}: {brief(error)}"
        ) from error
    found = {part: work / f"{name}.onnx" for name, part in _PARTS.items() if (work / f"{name}.onnx").is_file()}
    if not found:
        others = ", ".join(sorted(p.name for p in work.glob("*.onnx"))) or "no file"
        raise ExportError(
            f"optimum wrote {others} for {model.head.task}, which edgekit has no use for; try another task"
        )
    protos = {part: onnx.load(path) for part, path in found.items()}
    for proto in protos.values():
        _rename_dims(proto)
    return protos


@contextmanager
def _same_config(model: LanguageModel) -> Iterator[None]:
    """Optimum leaves `use_cache` of encoders switched on, with which they do not run any more."""
    configs: list[Any] = [m.config for m in model.module.modules() if hasattr(getattr(m, "config", None), "use_cache")]
    before = [config.use_cache for config in configs]
    try:
        yield
    finally:
        for config, value in zip(configs, before, strict=True):
            config.use_cache = value


def _rename_dims(proto: onnx.ModelProto) -> None:
    for value in (*proto.graph.input, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            for theirs, ours in _DIMS.items():
                if dim.HasField("dim_param"):
                    dim.dim_param = dim.dim_param.replace(theirs, ours)


def _facts(model: LanguageModel, part: str, kept: Sequence[Path]) -> dict[str, str]:
    """What the file says of itself."""
    config, tokenizer = model.config, next((f for f in kept if f.name == TOKENIZER), None)
    labels = model.head.task in ("text-classification", "token-classification", "audio-classification")
    classes = [str(config.id2label[i]) for i in range(config.num_labels)] if labels else []
    longest = longest_of(model)
    return {
        "edgekit.family": f"hf:{config.model_type}",
        "edgekit.task": model.head.task,
        "edgekit.part": part if part != "model" else "",
        "edgekit.classes": json.dumps(classes) if classes else "",
        "edgekit.longest": str(longest) if longest else "",
        "edgekit.tokenizer": sha256_of(tokenizer) if tokenizer else "",
        "edgekit.vocabulary": str(vocabulary_size(tokenizer)) if tokenizer else "",
    }


def _settle(protos: Mapping[str, onnx.ModelProto], paths: Mapping[str, Path], fix: Sequence[str]) -> None:
    """Fix dimensions of a model that is one file, after its dynamic form was compared with torch."""
    if not fix:
        return
    if len(protos) > 1:
        raise ExportError(
            f"--fix goes with one file, and this model becomes {len(protos)}; export it, then fix each: "
            f"edgekit export FILE --fix {fix[0]} --out OTHER"
        )
    part, proto = next(iter(protos.items()))
    save(fix_inputs(proto, parse_fix(fix)), paths[part])
    accept(paths[part])
