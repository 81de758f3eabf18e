"""Engines without a GPU: what is not here is the driver's answers and the build itself; all between is real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit.bench import BenchRequest, compare, compare_latency, engine
from edgekit.bench.engine import engine_of
from edgekit.errors import ModelError, ProviderError
from edgekit.nvidia import Gpu
from edgekit.ort import Execution, Session, require_ort
from edgekit.ort.engines import Engine, engines_home
from edgekit.ort.tensorrt import parse_range

from .conftest import Maker

GPU = Gpu(0, "NVIDIA L4", "GPU-1", "8.9", 24 << 30, "13.0", "580.65.06")


@dataclass
class Machine:
    """A machine with one GPU, as far as the driver and TensorRT tell."""

    home: Path
    gpu: Gpu = GPU
    tensorrt: str | None = "10.13.2"
    builds: list[Mapping[str, str]] = field(default_factory=list)

    def engine(self, model: Path, **request: object) -> Engine:
        asked = BenchRequest(providers=("tensorrt",), **request)  # type: ignore[arg-type]
        found = engine_of(model, "tensorrt", asked, self.home)
        assert found is not None
        return found

    def build(self, model: Path, provider: str, request: BenchRequest) -> float:
        options = request.execution.options
        (Path(options["trt_engine_cache_path"]) / "graph_0.engine").write_bytes(model.read_bytes())
        self.builds.append(options)
        return 1500.0


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    if "TensorrtExecutionProvider" not in require_ort().get_available_providers():
        pytest.skip("this ONNX Runtime was not built with TensorRT")
    machine = Machine(tmp_path / "cache")
    monkeypatch.setattr(engine, "gpus", lambda: (machine.gpu,))
    monkeypatch.setattr(engine, "tensorrt_version", lambda: machine.tensorrt)
    monkeypatch.setattr(engine, "_in_child", machine.build)
    return machine


def test_an_engine_is_built_once_for_all_batches_and_then_kept(here: Machine, chain: Maker) -> None:
    model = chain(16)
    first = here.engine(model, batches=(8, 1, 2))
    assert (first.cached, first.build_ms, first.shapes) == (False, 1500.0, {"x": "1x16:2x16:8x16"})
    assert first.options["trt_profile_max_shapes"] == "x:8x16"
    assert first.as_dict() == {"build_ms": 1500.0, "engine_cached": False, "engine_shapes": {"x": "1x16:2x16:8x16"}}
    assert here.engine(model, batches=(1, 2, 8)) == replace(first, cached=True)
    assert len(here.builds) == 1
    place = Path(first.options["trt_engine_cache_path"])
    assert place.parent == here.home
    assert (place / "graph_0.engine").is_file()
    # what is built and what is used differ in the place alone
    assert {**here.builds[0], "trt_engine_cache_path": str(place)} == dict(first.options)


def test_an_engine_of_a_sparse_file_tries_sparse_kernels(here: Machine, chain: Maker) -> None:
    model = chain(16)
    assert "trt_sparsity_enable" not in here.engine(model).options
    sparse = onnx.load(model)
    onnx.helper.set_model_props(sparse, {"edgekit.sparsity": "2:4"})
    onnx.save(sparse, model)
    found = here.engine(model)
    assert not found.cached
    assert found.options["trt_sparsity_enable"] == here.builds[-1]["trt_sparsity_enable"] == "1"


def test_a_model_of_fixed_shape_has_no_ranges(here: Machine, chain: Maker) -> None:
    found = here.engine(chain(16, batch=3))
    assert found.shapes == {}
    assert not [name for name in found.options if "profile" in name]


@pytest.mark.parametrize("change", ["weights", "batches", "range", "driver", "gpu", "tensorrt", "option"])
def test_whatever_an_engine_depends_on_has_it_built_anew(here: Machine, chain: Maker, change: str) -> None:
    model, request = chain(16), {"batches": (1, 8)}
    here.engine(model, **request)
    if change == "weights":
        held = onnx.load(model)
        held.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.eye(16, dtype=np.float32), "w0"))
        onnx.save(held, model)
    elif change == "driver":
        here.gpu = replace(GPU, driver="581.0")
    elif change == "gpu":
        here.gpu = replace(GPU, compute_capability="9.0")
    elif change == "tensorrt":
        here.tensorrt = "10.13.3"
    request |= {
        "batches": {"batches": (1, 4)},
        "range": {"engine_shapes": dict([parse_range("x=1x16:1x16:64x16")])},
        "option": {"execution": Execution(options={"trt_builder_optimization_level": "5"})},
    }.get(change, {})
    assert not here.engine(model, **request).cached
    assert len(here.builds) == 2
    assert here.engine(model, **request).cached


def test_external_data_is_part_of_the_model(here: Machine, chain: Maker, tmp_path: Path) -> None:
    path, data = tmp_path / "external.onnx", tmp_path / "weights.bin"
    onnx.save(onnx.load(chain(16)), path, save_as_external_data=True, location=data.name, size_threshold=0)
    here.engine(path)
    changed = bytearray(data.read_bytes())
    changed[0] ^= 1
    data.write_bytes(changed)
    assert not here.engine(path).cached


def test_an_engine_that_was_tampered_with_is_built_anew(here: Machine, chain: Maker) -> None:
    model = chain(16)
    place = Path(here.engine(model).options["trt_engine_cache_path"])
    (place / "graph_0.engine").write_bytes(b"something else")
    assert not here.engine(model).cached
    assert (place / "graph_0.engine").read_bytes() == model.read_bytes()


def test_timings_of_kernels_are_shared_by_models(here: Machine, chain: Maker) -> None:
    first, second = (here.engine(chain(16, layers=n, name=f"m{n}")) for n in (2, 3))
    assert first.options["trt_timing_cache_path"] == second.options["trt_timing_cache_path"]
    assert first.options["trt_engine_cache_path"] != second.options["trt_engine_cache_path"]


def test_options_that_the_user_gave_win(here: Machine, chain: Maker) -> None:
    asked = BenchRequest(execution=Execution(device=0, options={"trt_timing_cache_enable": "0"}))
    built = engine_of(chain(16), "tensorrt", asked, here.home)
    execution = asked.execution_on("tensorrt", built)
    assert execution.device == 0
    assert execution.options["trt_timing_cache_enable"] == "0"
    assert execution.options["trt_engine_cache_enable"] == "1"
    assert asked.execution_on("cpu").device is None


def test_a_range_that_does_not_cover_what_is_measured_is_refused(here: Machine, chain: Maker) -> None:
    with pytest.raises(ModelError, match="--trt-profile x=1x16:1x16:4x16 does not cover 8x16, which is measured"):
        here.engine(chain(16), batches=(1, 8), engine_shapes=dict([parse_range("x=1x16:1x16:4x16")]))
    assert here.builds == []


def test_a_build_that_fails_or_builds_nothing_leaves_nothing(
    here: Machine, chain: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: Path, provider: str, request: BenchRequest) -> float:
        raise ModelError("no")

    model = chain(16)
    monkeypatch.setattr(engine, "_in_child", fail)
    with pytest.raises(ModelError, match="no"):
        here.engine(model)
    monkeypatch.setattr(engine, "_in_child", lambda *_: 1.0)
    with pytest.raises(ProviderError, match="built no engine, so it runs none of the model's nodes"):
        here.engine(model)
    assert list(here.home.iterdir()) == []


def test_without_tensorrt_the_missing_library_is_named(here: Machine, chain: Maker) -> None:
    here.tensorrt = None
    with pytest.raises(ProviderError, match="'tensorrt' did not load on this machine"):
        here.engine(chain(16))


def test_providers_that_build_nothing_have_no_engine(chain: Maker, tmp_path: Path) -> None:
    assert engine_of(chain(16), "cpu", BenchRequest(), tmp_path) is None
    assert list(tmp_path.glob("timings*")) == []


def test_the_build_runs_every_batch_in_a_process_of_its_own(chain: Maker) -> None:
    taken = engine._in_child(chain(16), "cpu", BenchRequest(batches=(1, 4), threads=1))
    assert 0 < taken < 60_000
    with pytest.raises(ModelError, match="fixes the batch at 3"):
        engine._in_child(chain(16, batch=3, name="fixed"), "cpu", BenchRequest(batches=(4,), threads=1))


def test_engines_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if engines_home().is_relative_to(tmp_path):
        assert engines_home() == tmp_path / "edgekit" / "tensorrt"


@pytest.mark.parametrize("fed", [True, False])
def test_two_models_are_compared_on_engines_that_were_built_before(
    here: Machine, chain: Maker, monkeypatch: pytest.MonkeyPatch, fed: bool
) -> None:
    made: list[tuple[Path, Mapping[str, str], int]] = []

    def session(model: Path, provider: str, *, threads: int, execution: Execution) -> Session:
        assert provider == "tensorrt"
        made.append((model, execution.options, len(here.builds)))
        return Session(model, "cpu", threads=threads)

    monkeypatch.setattr(engine, "engines_home", lambda: here.home)
    monkeypatch.setattr(compare, "Session", session)
    models = [chain(16, layers=n, name=f"m{n}") for n in (2, 3)]
    feeds = {"x": np.ones((5, 16), np.float32)} if fed else None
    found = compare_latency(
        *models, feeds, provider="tensorrt", threads=1, seconds=0.05, shapes=None if fed else {"x": (5, 16)}
    )
    assert found.provider == "tensorrt"
    assert [options["trt_profile_opt_shapes"] for options in here.builds] == ["x:5x16", "x:5x16"]
    # no session before both are built, and each session on the engine of its own model
    assert {builds for _, _, builds in made} == {2}
    places = {model: options["trt_engine_cache_path"] for model, options, _ in made}
    for model in models:
        assert (Path(places[model]) / "graph_0.engine").read_bytes() == model.read_bytes()
