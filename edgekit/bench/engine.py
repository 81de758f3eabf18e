"""The engine of a model, built before anything is timed: its build is a step of its own, not latency, not a session."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from edgekit.bench.inputs import BenchInputs
from edgekit.bench.records import BenchRequest
from edgekit.errors import ProviderError
from edgekit.files import digest, sha256_of
from edgekit.graph.read import data_files, read_structure
from edgekit.graph.stored import spec_of
from edgekit.graph.vocabulary import vocabularies
from edgekit.nvidia import gpus
from edgekit.ort import Session, require_ort
from edgekit.ort.child import answer_parent, ask_child
from edgekit.ort.engines import Engine, EngineKey, KeptEngine, building, engines_home, find_engine, keep
from edgekit.ort.libraries import preload_libraries, why_not_loaded
from edgekit.ort.providers import find_provider, require_provider
from edgekit.ort.tensorrt import cache_options, range_options, shape_ranges, sparsity_options, tensorrt_version
from edgekit.progress import waiting
from edgekit.specs import Array, TensorSpec

_LONGEST_BUILD_S = 7200.0


def engine_of(model: Path, provider: str, request: BenchRequest, home: Path | None = None) -> Engine | None:
    """The engine of a model for all batches of a request, built where none is kept; None where none is needed.

    Args:
        model: The file.
        provider: Short name.
        request: Batches, shapes, ranges, data, device, threads.
        home: Where engines are kept; the user's cache directory by default.

    Raises:
        ProviderError: if the provider does not load.
        ModelError: if the model does not take the shapes, does not build, crashes or hangs.
        OutputError: where the cache cannot be written.
    """
    if not find_provider(provider).builds_engines or (request.execution.allow_fallback and not _is_there(provider)):
        return None
    inputs = _inputs(model)
    used = [{name: array.shape for name, array in feeds.items()} for feeds in _feeds(model, inputs, request)]
    ranges = shape_ranges(inputs, used, request.engine_shapes)
    shapes = {name: str(found) for name, found in ranges.items()}
    told = {**range_options(ranges), **sparsity_options(_metadata(model))}
    key = engine_key(model, provider, request, told, shapes)
    place = home or engines_home()
    timings = place / f"timings-{key.machine_digest}"
    kept = find_engine(key, place)
    built = kept or _build(model, provider, request, key, place, timings)
    options = {**told, **cache_options(built.directory, timings)}
    return Engine(options, built.build_ms, kept is not None, shapes)


def engine_key(
    model: Path, provider: str, request: BenchRequest, options: Mapping[str, str], shapes: Mapping[str, str]
) -> EngineKey:
    """What an engine of this model on this machine depends on.

    Raises:
        ProviderError: where there is no TensorRT or no GPU to build for.
    """
    wanted = require_provider(provider)
    preload_libraries(wanted)
    version, found = tensorrt_version(), gpus()
    device = request.execution.device or 0
    if version is None or device >= len(found):
        raise ProviderError(f"provider {provider!r} did not load on this machine: {why_not_loaded(wanted)}")
    gpu = found[device]
    return EngineKey(
        model_sha256=digest([sha256_of(file) for file in (model, *data_files(model))]),
        onnxruntime=str(require_ort().__version__),
        tensorrt=version,
        driver=gpu.driver or "unknown",
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        options={**options, **request.execution.options},
        shapes=shapes,
    )


def _is_there(provider: str) -> bool:
    wanted = find_provider(provider)
    preload_libraries(wanted)
    return wanted.ort_name in require_ort().get_available_providers() and bool(tensorrt_version() and gpus())


def _inputs(model: Path) -> tuple[TensorSpec, ...]:
    graph = read_structure(model).graph
    held = {tensor.name for tensor in graph.initializer}
    return tuple(spec_of(value) for value in graph.input if value.name not in held)


def _metadata(model: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in read_structure(model).metadata_props}


def _feeds(model: Path, inputs: Sequence[TensorSpec], request: BenchRequest) -> list[dict[str, Array]]:
    """What will be measured: a feed for each batch, from the smallest to the largest."""
    known = vocabularies(read_structure(model))
    maker = BenchInputs(request.shapes, request.feeds, request.seed, known)
    return [maker.feeds(inputs, batch) for batch in sorted(request.batches) or [maker.batch(inputs)]]


def _build(model: Path, provider: str, request: BenchRequest, key: EngineKey, home: Path, timings: Path) -> KeptEngine:
    shapes = ", ".join(f"{name} {shape}" for name, shape in key.shapes.items()) or "its fixed shapes"
    said = f"building the engine of {model.name} for {shapes} on {key.gpu}; it may take minutes and is kept"
    with building(key, home) as staging, waiting(said):
        execution = replace(request.execution, options={**key.options, **cache_options(staging, timings)})
        build_ms = _in_child(model, provider, replace(request, execution=execution))
        if not any(staging.iterdir()):
            raise ProviderError(f"{model}: provider {provider!r} built no engine, so it runs none of the model's nodes")
        return keep(staging, key, build_ms, home)


def _in_child(model: Path, provider: str, request: BenchRequest) -> float:
    with tempfile.TemporaryDirectory(prefix="edgekit-engine-") as directory:
        question = Path(directory) / "question"
        question.write_bytes(pickle.dumps((model.resolve(), provider, request)))
        answer = ask_child("edgekit.bench.engine", {"question": str(question)}, str(model), timeout_s=_LONGEST_BUILD_S)
    return float(answer["build_ms"])


def _work(question: dict[str, Any]) -> dict[str, Any]:
    """The child's part: ONNX Runtime builds when the session is made, or else at the first run of new shapes."""
    model, provider, request = pickle.loads(Path(question["question"]).read_bytes())
    start = perf_counter_ns()
    session = Session(model, provider, threads=request.thread_count, execution=request.execution)
    taken = perf_counter_ns() - start
    for feeds in _feeds(model, session.inputs, request):
        start = perf_counter_ns()
        session.run(feeds)
        taken += perf_counter_ns() - start
    return {"build_ms": taken / 1e6}


if __name__ == "__main__":
    answer_parent(_work)
