"""ONNX Runtime sessions on exactly the provider that was chosen, from bytes that were checked."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit.errors import BundleError, ProviderError, brief
from edgekit.runtime.archive import MANIFEST, Archive, check_file, extract_files, read_checked
from edgekit.runtime.choose import (
    Candidate,
    import_ort,
    list_candidates,
    short_provider,
    usable_cores,
    why_not,
)
from edgekit.runtime.directories import DirectoryArchive
from edgekit.runtime.manifest import Manifest, Variant
from edgekit.specs import TensorSpec

LEVELS_OF_ORT = {
    "all": "ORT_ENABLE_ALL",
    "layout": "ORT_ENABLE_LAYOUT",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disable": "ORT_DISABLE_ALL",
}
MODES_OF_ORT = {"sequential": "ORT_SEQUENTIAL", "parallel": "ORT_PARALLEL"}
_SILENT, _WARNINGS = 4, 2
_MOST_COPIED_BYTES = 16 << 20
# Element types whose name in ONNX Runtime is not NumPy's.
_TYPES = {"float": "float32", "double": "float64", "string": "object"}
_DATA_FOLDER = "session.model_external_initializers_file_folder_path"
_MODELS = (".onnx", ".ort", ".enc")


def open_first(
    archive: Archive,
    manifest: Manifest,
    provider: str | None,
    variant: str | None,
    threads: int | None,
    key: str | bytes | None = None,
) -> tuple[Any, Candidate]:
    """Open the first of a bundle's variants that runs here.

    Args:
        archive: Its files.
        manifest: What it says of them.
        provider: The only one to try; None for any, in the manifest's order.
        variant: The only one to try; None for any.
        threads: Intra-op threads; None for the manifest's, or all cores.
        key: Of encrypted variants.

    Returns:
        An `onnxruntime.InferenceSession`, and what it runs.

    Raises:
        ProviderError: if a provider or nothing at all can be had; the message says what was tried.
        BundleError: if a file is damaged, or ONNX Runtime refuses the model.
    """
    tried = []
    for candidate in list_candidates(manifest, provider, variant):
        reason = why_not(candidate)
        if not reason:
            session, reason = _try(archive, manifest, candidate, threads, key)
            if session is not None:
                _check_tensors(session, manifest, candidate.variant)
                return session, candidate
        tried.append(f"{candidate}: {reason}")
    raise ProviderError(f"bundle {manifest.name} does not run here: {'; '.join(tried)}")


def _try(
    archive: Archive, manifest: Manifest, candidate: Candidate, threads: int | None, key: str | bytes | None
) -> tuple[Any, str]:
    """A session, or why the provider does not load."""
    variant = candidate.variant
    content = _model_source(archive, manifest, variant, key)
    options = _options(variant, threads)
    with _silent_loading(), _external_data(options, archive, manifest, variant):
        try:
            session = import_ort().InferenceSession(content, options, providers=_chain(candidate), enable_fallback=0)
        except Exception as error:
            reason = brief(error)
            if short_provider(candidate.provider) == "cpu":
                raise BundleError(f"ONNX Runtime cannot load variant {variant.name}: {reason}") from error
            return None, reason
    if candidate.provider not in session.get_providers():
        return None, f"{short_provider(candidate.provider)} did not load; a library or the device is missing"
    session._model_bytes = None  # ONNX Runtime's Python keeps a second copy of the model for a fallback that is off
    return session, ""


def _check_tensors(session: Any, manifest: Manifest, variant: Variant) -> None:
    """Refuse a model that takes or gives something else than the manifest says."""
    for told, tensors in ((manifest.inputs, session.get_inputs()), (manifest.outputs, session.get_outputs())):
        there = {tensor.name: tensor for tensor in tensors}
        lacking = told is manifest.inputs and there.keys() - {spec.name for spec in told}
        if lacking or not all(spec.name in there and _fits(spec, there[spec.name]) for spec in told):
            has = ", ".join(f"{t.name} ({_dtype_of(t)}, {len(t.shape or ())} dimensions)" for t in tensors)
            raise BundleError(
                f"variant {variant.name} has {has}, and the manifest says {'; '.join(map(str, told))}; pack the bundle "
                "again"
            )


def _fits(spec: TensorSpec, tensor: Any) -> bool:
    """Whether a model's tensor is as the manifest says; a file in ORT format may not know its number of dimensions."""
    return _dtype_of(tensor) == spec.dtype and len(tensor.shape or ()) in (0, spec.rank)


def _dtype_of(tensor: Any) -> str:
    inner = str(tensor.type).removeprefix("tensor(").removesuffix(")")
    return _TYPES.get(inner, inner)


def _model_source(archive: Archive, manifest: Manifest, variant: Variant, key: str | bytes | None) -> bytes | str:
    """The model's bytes; of a large one in a folder its path, once it was hashed, which saves its size in memory."""
    entry = manifest.files[variant.file]
    plain = isinstance(archive, DirectoryArchive) and variant.encrypted is None
    if not plain or entry.size_bytes <= _MOST_COPIED_BYTES:
        return model_bytes(archive, manifest, variant, key)
    check_file(archive, variant.file, entry)
    return str(archive.path / variant.file)


def model_bytes(archive: Archive, manifest: Manifest, variant: Variant, key: str | bytes | None) -> bytes:
    """A variant's model, checked, and opened in memory where it is sealed."""
    content = read_checked(archive, variant.file, manifest.files[variant.file])
    if variant.encrypted is None:
        return content
    from edgekit.runtime.seal import open_variant

    return open_variant(content, key, variant.encrypted, variant.file)


def _options(variant: Variant, threads: int | None) -> Any:
    ort, asked = import_ort(), variant.session
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads or asked.intra_op_threads or usable_cores()
    side_by_side = asked.execution_mode == "parallel"
    options.inter_op_num_threads = (asked.inter_op_threads or usable_cores()) if side_by_side else 1
    options.execution_mode = getattr(ort.ExecutionMode, MODES_OF_ORT[asked.execution_mode])
    options.graph_optimization_level = _level(ort, variant)
    options.enable_mem_pattern, options.enable_cpu_mem_arena = asked.enable_mem_pattern, asked.enable_cpu_mem_arena
    config = {**asked.config, **({"session.load_model_format": "ORT"} if variant.format == "ort" else {})}
    for name, value in config.items():
        options.add_session_config_entry(name, value)
    return options


def _level(ort: Any, variant: Variant) -> Any:
    name = variant.session.graph_optimization_level
    level = getattr(ort.GraphOptimizationLevel, LEVELS_OF_ORT[name], None)
    if level is None:
        raise BundleError(
            f"variant {variant.name} wants graph optimization level {name}, which ONNX Runtime {ort.__version__} does "
            "not have; install a newer one"
        )
    return level


def _chain(candidate: Candidate) -> list[str]:
    """The provider, and the CPU for what it has no kernel for."""
    ort = import_ort()
    if short_provider(candidate.provider) in ("cuda", "tensorrt") and hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what is missing
            ort.preload_dlls()  # CUDA's libraries out of NVIDIA's Python packages
    beside = ["CUDAExecutionProvider"] if short_provider(candidate.provider) == "tensorrt" else []
    return list(dict.fromkeys([candidate.provider, *beside, "CPUExecutionProvider"]))


@contextlib.contextmanager
def _external_data(options: Any, archive: Archive, manifest: Manifest, variant: Variant) -> Iterator[None]:
    """Tell ONNX Runtime where weights outside of the model are, as long as it loads: in a folder, or in memory.

    Weights in a folder are hashed first and then read again by ONNX Runtime, which maps them into memory.
    """
    names = [name for name in manifest.files if name.startswith(variant.folder) and not name.endswith(_MODELS)]
    if not names:  # what has none must not find any: ONNX Runtime would look in the working directory
        options.add_session_config_entry(_DATA_FOLDER, str(archive.path.resolve() / MANIFEST / "none"))
        yield
    elif isinstance(archive, DirectoryArchive):
        _refuse_loose(archive, manifest, variant)
        for name in names:
            check_file(archive, name, manifest.files[name])
        options.add_session_config_entry(_DATA_FOLDER, str((archive.path / variant.folder).resolve()))
        yield
    elif _takes_data_in_memory(options):
        parts = [read_checked(archive, name, manifest.files[name]) for name in names]
        short = [name.removeprefix(variant.folder) for name in names]
        options.add_external_initializers_from_files_in_memory(short, parts, [len(part) for part in parts])
        yield
    else:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="edgekit-") as place:
            extract_files(archive, manifest.files, Path(place), names)
            options.add_session_config_entry(_DATA_FOLDER, str(Path(place) / variant.folder))
            yield


def _refuse_loose(archive: Archive, manifest: Manifest, variant: Variant) -> None:
    """Refuse a file without a hash where ONNX Runtime looks for weights: the model may name it."""
    loose = next((n for n in archive.sizes if n.startswith(variant.folder) and n not in manifest.files), None)
    if loose is not None:
        raise BundleError(f"bundle {archive.path}: {loose} is not in its manifest; remove it")


def _takes_data_in_memory(options: Any) -> bool:
    return hasattr(options, "add_external_initializers_from_files_in_memory")


@contextlib.contextmanager
def _silent_loading() -> Iterator[None]:
    """What loads providers logs by the process's logger, not by the session's."""
    ort = import_ort()
    ort.set_default_logger_severity(_SILENT)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_WARNINGS)
