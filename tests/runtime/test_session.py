"""Sessions: weights outside of the model, fixed batches, and providers that cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import BundleError, ProviderError
from edgekit.runtime import choose, load
from edgekit.runtime import session as ours
from tests.conftest import dense
from tests.runtime.bundles import WEIGHT, logits_of, manifest, onnx_bytes, variant, write_bundle, zipped

IMAGES = np.random.default_rng(1).standard_normal((7, 1, 8, 8)).astype(np.float32)
MODEL, DATA = "models/base/model.onnx", "models/base/model.onnx.data"


def with_external_data(place: Path) -> Path:
    (place / "made").mkdir(parents=True)
    onnx.save(
        dense(WEIGHT),
        place / "made/model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    files = {f"models/base/{p.name}": p.read_bytes() for p in (place / "made").iterdir()}
    assert set(files) == {MODEL, DATA}
    return write_bundle(place / "b", manifest(), files)


@pytest.mark.parametrize("in_memory", [True, False])
def test_weights_beside_the_model_are_checked_and_used(
    tmp_path: Path, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = with_external_data(tmp_path)
    place = zipped(bundle, tmp_path / "b.zip") if in_memory else bundle
    monkeypatch.chdir("/")
    with load(place) as model:
        np.testing.assert_allclose(model.run({"image": IMAGES})["logits"], logits_of(IMAGES), rtol=1e-4, atol=1e-4)
    content = bytearray((bundle / DATA).read_bytes())
    content[5] ^= 1
    (bundle / DATA).write_bytes(content)
    place = zipped(bundle, tmp_path / "changed.zip") if in_memory else bundle
    with pytest.raises(BundleError, match=r"model.onnx.data was changed"):
        load(place)


def test_a_large_model_in_a_folder_is_not_copied_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_MOST_COPIED_BYTES", 10)
    monkeypatch.setattr(ours, "model_bytes", lambda *_: pytest.fail("it was read into memory"))
    monkeypatch.chdir(tmp_path)
    for bundle in (write_bundle(tmp_path / "plain"), with_external_data(tmp_path / "data")):
        with load(bundle.relative_to(tmp_path)) as model:
            np.testing.assert_allclose(model.run({"image": IMAGES})["logits"], logits_of(IMAGES), rtol=1e-4, atol=1e-4)
    content = bytearray((tmp_path / "plain" / MODEL).read_bytes())
    content[-1] ^= 1
    (tmp_path / "plain" / MODEL).write_bytes(content)
    with pytest.raises(BundleError, match=r"model.onnx was changed"):
        load(tmp_path / "plain")


def test_an_older_onnx_runtime_gets_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights in memory are an option of newer ones only."""
    packed = zipped(with_external_data(tmp_path), tmp_path / "b.zip")
    monkeypatch.setattr(ours, "_takes_data_in_memory", lambda options: False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    with load(packed) as model:
        np.testing.assert_allclose(model.run({"image": IMAGES})["logits"], logits_of(IMAGES), rtol=1e-4, atol=1e-4)
    assert not list((tmp_path / "temporary").iterdir())


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    proto = dense(WEIGHT)
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    told = manifest(inputs=[{"name": "image", "dtype": "float32", "shape": [4, 1, 8, 8]}])
    model = load(write_bundle(tmp_path / "b", told, {MODEL: onnx_bytes(proto)}))
    answers = model.predict(list(IMAGES))
    np.testing.assert_allclose([a.outputs["logits"] for a in answers], logits_of(IMAGES), rtol=1e-4, atol=1e-4)
    assert model.predict({"image": IMAGES[:1]}).label == answers[0].label


def test_session_settings_reach_onnx_runtime(tmp_path: Path) -> None:
    settings = {
        "graph_optimization_level": "basic",
        "intra_op_threads": 1,
        "config": {"session.disable_prepacking": "1"},
    }
    bundle = write_bundle(tmp_path / "b", manifest([variant(session=settings)]))
    options = load(bundle)._session.get_session_options()
    assert options.intra_op_num_threads == 1
    assert options.graph_optimization_level.name == "ORT_ENABLE_BASIC"
    assert options.get_session_config_entry("session.disable_prepacking") == "1"
    assert load(bundle, threads=2)._session.get_session_options().intra_op_num_threads == 2
    assert (options.execution_mode.name, options.inter_op_num_threads) == ("ORT_SEQUENTIAL", 1)
    assert (options.enable_mem_pattern, options.enable_cpu_mem_arena) == (True, True)
    wrong = {**settings, "config": {"session.model_external_initializers_file_folder_path": "/"}}
    with pytest.raises(BundleError, match=r"session.config.* is none that a bundle may set"):
        load(write_bundle(tmp_path / "w", manifest([variant(session=wrong)])))


def test_what_tuning_chooses_reaches_onnx_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "graph_optimization_level": "layout",
        "execution_mode": "parallel",
        "inter_op_threads": 2,
        "enable_mem_pattern": False,
        "enable_cpu_mem_arena": False,
    }
    bundle = write_bundle(tmp_path / "b", manifest([variant(session=settings)]))
    options = load(bundle)._session.get_session_options()
    assert options.graph_optimization_level.name == "ORT_ENABLE_LAYOUT"
    assert (options.execution_mode.name, options.inter_op_num_threads) == ("ORT_PARALLEL", 2)
    assert (options.enable_mem_pattern, options.enable_cpu_mem_arena) == (False, False)
    monkeypatch.setitem(ours.LEVELS_OF_ORT, "layout", "ORT_ENABLE_TOMORROW")
    with pytest.raises(
        BundleError, match=r"wants graph optimization level layout, which ONNX Runtime 1\.\d+\.\d+ does not"
    ):
        load(bundle)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"execution_mode": "both"}, "execution_mode must be one of sequential, parallel, got 'both'"),
        ({"inter_op_threads": -1}, "inter_op_threads must be 0 or more"),
        ({"enable_mem_pattern": 0}, "enable_mem_pattern must be true or false, got 0"),
        ({"graph_optimization_level": "most"}, "must be one of all, layout, extended, basic, disable, got 'most'"),
    ],
)
def test_wrong_session_settings_are_named(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(BundleError, match=words):
        load(write_bundle(tmp_path / "w", manifest([variant(session=wrong)])))


def test_a_model_that_takes_something_else_is_refused(tmp_path: Path) -> None:
    image, logits = manifest()["inputs"][0], manifest()["outputs"][0]
    for index, changes in enumerate(
        (
            {"outputs": [{**logits, "shape": ["batch", 10, 1]}], "postprocessing": None},
            {"outputs": [{**logits, "dtype": "float16"}]},
            {"inputs": [{**image, "dtype": "float64"}]},
            {"inputs": [{**image, "name": "picture"}]},
        )
    ):
        with pytest.raises(BundleError, match=r"variant base has (image|logits) \(float32, [24] dimensions\), and the"):
            load(write_bundle(tmp_path / str(index), manifest(**changes)))


def test_a_model_that_wants_more_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    model = dense(WEIGHT)
    model.graph.input.append(helper.make_tensor_value_info("key", TensorProto.FLOAT, [1]))
    bundle = write_bundle(tmp_path / "b", manifest(), {MODEL: onnx_bytes(model)})
    with pytest.raises(BundleError, match=r"has image .*, key \(float32, 1 dimensions\), and the manifest says image"):
        load(bundle)


def test_threads_are_one_or_more(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="threads must be 1 or more, or None for what the machine has, got -1"):
        load(write_bundle(tmp_path / "b"), threads=-1)


def test_what_onnx_runtime_refuses_is_one_line(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", manifest(), {MODEL: b"no model"})
    with pytest.raises(BundleError, match="ONNX Runtime cannot load variant base: ") as caught:
        load(bundle)
    assert "\n" not in str(caught.value)


class _Installed:
    """An ONNX Runtime whose CUDA is compiled in and does not load."""

    __version__ = "1.31.1"

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_a_provider_that_does_not_load_is_passed_over_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = _Installed(choose.import_ort())
    for module in (choose, ours):
        monkeypatch.setattr(module, "import_ort", lambda: installed)
    variants = [variant("gpu", providers=["CUDAExecutionProvider"]), variant("plain")]
    bundle = write_bundle(tmp_path / "b", manifest(variants))
    model = load(bundle)
    assert (model.variant.name, model.provider) == ("plain", "cpu")
    with pytest.raises(ProviderError, match="bundle tiny does not run here: gpu on cuda: cuda did not load"):
        load(bundle, provider="cuda")


def test_cpu_features_are_looked_up_under_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 avx_vnni\n")
    assert choose.cpu_flags(cpuinfo) == {"fpu", "avx2", "avx_vnni"}
    monkeypatch.setattr(choose, "cpu_flags", lambda: frozenset({"avx2", "avx_vnni"}))
    assert choose.missing_features(["AVX2", "avx512_vnni", "AVX512-VNNI", "vnni"]) == []
    assert choose.missing_features(["amx_int8"]) == ["amx_int8"]
    monkeypatch.setattr(choose, "cpu_flags", lambda: frozenset({"asimd", "asimddp"}))
    assert choose.missing_features(["NEON", "neon-dotprod", "neon-i8mm", "vnni"]) == ["neon-i8mm"]
    monkeypatch.setattr(choose, "cpu_flags", lambda: frozenset({"avx2"}))
    assert choose.missing_features(["vnni"]) == ["vnni"]
    monkeypatch.setattr(choose, "cpu_flags", lambda: frozenset())
    assert choose.missing_features(["amx_int8"]) == []


def test_threads_are_those_of_affinity_and_quota(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    assert choose.usable_cores(quota) == 1
    quota.write_text("max 100000\n")
    assert choose.usable_cores(quota) >= 1
    assert choose.usable_cores(tmp_path / "none") == choose.usable_cores(quota)


def test_weights_in_the_working_directory_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle lists none, so nobody vouches for what lies where the app happens to run."""
    onnx.save(dense(WEIGHT), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    bundle = write_bundle(tmp_path / "b", manifest(), {MODEL: (tmp_path / "m.onnx").read_bytes()})
    for place in (bundle, zipped(bundle, tmp_path / "b.zip"), Path("b")):
        with pytest.raises(BundleError, match="ONNX Runtime cannot load variant base"):
            load(place)


def test_weights_in_the_bundle_that_the_manifest_does_not_list_are_not_taken(tmp_path: Path) -> None:
    """Others are listed, so ONNX Runtime looks into that folder."""
    bundle = with_external_data(tmp_path)
    listed = {MODEL: (bundle / MODEL).read_bytes(), "models/base/other.bin": b"others"}
    loose = write_bundle(tmp_path / "loose", manifest(), listed)
    (loose / DATA).write_bytes((bundle / DATA).read_bytes())
    with pytest.raises(BundleError, match=r"models/base/model.onnx.data is not in its manifest; remove it"):
        load(loose)
    with pytest.raises(BundleError, match=r"models/base/model.onnx.data .* in its manifest|ONNX Runtime cannot load"):
        load(zipped(loose, tmp_path / "loose.zip"))
