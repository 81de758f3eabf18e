"""On a real NVIDIA GPU: the three precisions, strict placement, I/O binding, engines reused and refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.bench import BenchRequest, bench_models
from edgekit.bench.engine import engine_of
from edgekit.errors import ProviderError
from edgekit.nvidia import gpus
from edgekit.ort import PROVIDERS, Execution, Session
from edgekit.ort.binding import BoundRun
from edgekit.ort.trial import try_provider
from tests.conftest import ROOT

pytestmark = pytest.mark.gpu
Builder = Callable[..., Path]
WIDTH = 64
# of the largest output; fp32 is TF32 on these GPUs
TOLERANCE = {"fp32": 0.01, "fp16": 0.02, "int8": 0.02}


@pytest.fixture(params=["cuda", "tensorrt"])
def provider(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if not gpus():
        pytest.skip("no NVIDIA GPU on this machine")
    trial = try_provider(name)
    if not trial.works:
        pytest.skip(f"provider {name} does not work here: {trial.complaint or trial.reason}")
    return name


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "gpu"))
    models = __import__("models")
    return lambda precision: models.build(tmp_path / f"{precision}.onnx", precision, WIDTH)


def _feeds(precision: str) -> dict[str, np.ndarray]:
    kind = np.float16 if precision == "fp16" else np.float32
    return {"x": np.random.default_rng(1).standard_normal((4, WIDTH)).astype(kind)}


@pytest.mark.parametrize("precision", list(TOLERANCE))
def test_outputs_agree_with_the_cpus(build: Builder, provider: str, precision: str) -> None:
    model, feeds = build(precision), _feeds(precision)
    (expected,) = Session(model).run(feeds)
    (found,) = Session(model, provider).run(feeds)
    limit = TOLERANCE[precision] * float(np.abs(expected.astype(np.float32)).max())
    assert np.abs(found.astype(np.float32) - expected.astype(np.float32)).max() <= limit


@pytest.mark.parametrize("precision", list(TOLERANCE))
def test_every_node_runs_on_the_gpu(build: Builder, provider: str, precision: str) -> None:
    (y,) = Session(build(precision), provider, execution=Execution(strict_placement=True)).run(_feeds(precision))
    assert y.shape == (4, WIDTH)


def test_a_bound_run_gives_what_a_plain_run_gives(build: Builder, provider: str) -> None:
    session, feeds = Session(build("fp32"), provider), _feeds("fp32")
    bound = BoundRun(session, feeds)
    bound.run()
    assert bound.device == "cuda"
    np.testing.assert_allclose(bound.outputs()[0], session.run(feeds)[0], rtol=1e-3, atol=1e-3)


def test_a_row_says_where_it_ran_and_what_it_took(build: Builder, provider: str) -> None:
    request = BenchRequest(providers=(provider,), batches=(1, 4), min_seconds=0.1, min_runs=10)
    for row in bench_models([build("fp32")], request).rows:
        assert row.cold.fallback is False
        assert row.cold.io_binding is True
        assert row.cold.providers_used[0] == PROVIDERS[provider].ort_name
        assert row.cold.device_memory.peak_bytes is None or row.cold.device_memory.peak_bytes > 0
        assert (row.cold.engine is not None) is PROVIDERS[provider].builds_engines


def test_an_engine_is_reused_for_the_same_and_refused_for_another_model(
    build: Builder, provider: str, tmp_path: Path
) -> None:
    request = BenchRequest(providers=(provider,), batches=(1, 4))
    home = tmp_path / "engines"
    first = engine_of(build("fp32"), provider, request, home)
    if first is None:
        pytest.skip(f"provider {provider} builds no engines")
    again = engine_of(build("fp32"), provider, request, home)
    assert again == replace(first, cached=True)
    other = engine_of(build("fp16"), provider, request, home)
    assert other is not None
    assert not other.cached
    (Path(first.options["trt_engine_cache_path"]) / "engine.json").write_text("{}")
    rebuilt = engine_of(build("fp32"), provider, request, home)
    assert rebuilt is not None
    assert not rebuilt.cached


def test_a_gpu_beyond_the_last_is_refused(build: Builder, provider: str) -> None:
    with pytest.raises(ProviderError, match=f"device {len(gpus())} is not on this machine; it has 0: "):
        Session(build("fp32"), provider, execution=Execution(device=len(gpus())))
