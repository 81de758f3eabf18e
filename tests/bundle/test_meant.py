from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import Candidate
from edgekit.bundle.meant import ALL, mean_for
from edgekit.errors import BundleError, EdgekitError, ModelError
from tests.conftest import Answer
from tests.runtime.bundles import manifest, variant, write_bundle

OPTIMIZED = {
    **{"file": "o.onnx", "sha256": "0", "size_bytes": 1, "original_sha256": "0", "onnxruntime": "1.31.1"},
    **{"architecture": "x86_64", "cpu_features": []},
}
TWO = (Candidate("gpu", Path("a.onnx")), Candidate("cpu", Path("b.onnx")))


def variants_of(bundle: Path) -> dict[str, dict[str, Any]]:
    return {v["name"]: v for v in json.loads((bundle / "manifest.json").read_text())["variants"]}


def test_what_is_said_of_one_wins_over_what_is_said_of_all() -> None:
    gpu, cpu = mean_for(TWO, {ALL: "arm", "gpu": "cuda"}, {"gpu": ["tensorrt", "cuda"]})
    assert (gpu.target, gpu.providers) == ("cuda", ("tensorrt", "cuda"))
    assert (cpu.target, cpu.providers) == ("arm", ())
    assert mean_for(TWO, {}, {}) == list(TWO)


@pytest.mark.parametrize(
    ("targets", "providers", "said"),
    [
        ({"gpus": "cuda"}, {}, "unknown variant 'gpus'; did you mean 'gpu'?"),
        ({}, {"npu": ["qnn"]}, "unknown variant 'npu'"),
        ({"gpu": "cud"}, {}, "unknown target 'cud'; did you mean 'cuda'?"),
        ({}, {"gpu": ["cudaa"]}, "unknown provider 'cudaa'; did you mean 'cuda'?"),
        ({}, {ALL: ["cuda", "cuda"]}, "providers cuda,cuda name one twice"),
    ],
)
def test_what_there_is_not_is_refused(targets: dict[str, str], providers: dict[str, list[str]], said: str) -> None:
    with pytest.raises(BundleError) as caught:
        mean_for(TWO, targets, providers)
    assert said in str(caught.value)


def test_a_variant_for_a_gpu_is_passed_over_where_there_is_none(
    cli: Callable[..., Answer], pico_onnx: Path, tmp_path: Path
) -> None:
    from edgekit.compress import OnnxStep, weights
    from edgekit.runtime import load

    small = tmp_path / "small.onnx"
    weights.quantize_weights(weights.WeightsConfig(), OnnxStep(pico_onnx, small))
    asked = (
        "--variant",
        f"gpu={pico_onnx}",
        "--variant",
        f"cpu={small}",
        "--provider",
        "gpu=cuda",
        "--target",
        "gpu=cuda",
    )
    answer = cli("pack", *asked, "--ort", "--out", tmp_path / "B", "--json")
    assert answer.code == 0, answer.err
    told = {v["name"]: v["providers"] for v in answer.json()["variants"]}
    assert told == {"gpu": ["cuda"], "cpu": ["cpu", "cuda"], "cpu-ort": ["cpu"]}  # ORT format is for the CPU
    found = variants_of(tmp_path / "B")
    assert (found["gpu"]["target"], found["gpu"]["providers"]) == ("cuda", ["CUDAExecutionProvider"])
    with load(tmp_path / "B") as model:
        assert (model.variant.name, model.provider) == ("cpu", "cpu")


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--target", "base="), 2, "is not of the form VALUE or VARIANT=VALUE"),
        (("--target", "=cpu"), 2, "is not of the form VALUE or VARIANT=VALUE"),
        (("--target", "cpu", "--target", "arm"), 2, "--target is given twice for all variants"),
        (("--provider", "dense=cpu", "--provider", "dense=cuda"), 2, "--provider is given twice for dense"),
        (("--provider", "dense=cpux"), 1, "error: unknown provider 'cpux'; did you mean 'cpu'?"),
    ],
)
def test_flags_that_cannot_be_meant(
    cli: Callable[..., Answer], dense_onnx: Path, tmp_path: Path, flags: tuple[str, ...], code: int, said: str
) -> None:
    answer = cli("pack", dense_onnx, "--out", tmp_path / "B", *flags)
    assert answer.code == code
    assert said in " ".join(answer.err.replace("│", " ").split())
    assert not (tmp_path / "B").exists()


def test_tuned_session_options_go_into_the_manifest_and_open_the_model(
    cli: Callable[..., Answer], pico_onnx: Path, tmp_path: Path
) -> None:
    from edgekit.runtime import load

    tuned = tmp_path / "tuned.json"
    level, entry = "ORT_ENABLE_BASIC", "session.intra_op.allow_spinning"
    told = {"session_options": {"graph_optimization_level": level}, "config_entries": {entry: "0"}, "threads": 1}
    tuned.write_text(json.dumps(told))
    both = ("--variant", f"one={pico_onnx}", "--variant", f"two={pico_onnx}")
    answer = cli("pack", *both, "--session-options", f"one={tuned}", "--out", tmp_path / "B", "--json")
    assert answer.code == 0, answer.err
    found = variants_of(tmp_path / "B")
    tuned_session = {"graph_optimization_level": "basic", "intra_op_threads": 1, "config": {entry: "0"}}
    assert found["one"]["session"] == tuned_session
    assert found["two"]["session"] == {"graph_optimization_level": "all", "intra_op_threads": 0, "config": {}}
    with load(tmp_path / "B", variant="one") as model:
        options = model._session.get_session_options()
        assert (options.intra_op_num_threads, options.get_session_config_entry(entry)) == (1, "0")
    assert cli("verify", tmp_path / "B").code == 0


def test_whatever_tuning_may_choose_is_carried(tmp_path: Path) -> None:
    """Every change that it tries, for every objective, is found again in the options of the app's session."""
    from edgekit.bench import BenchRequest
    from edgekit.bench.candidates import Objective, candidates
    from edgekit.ort import SessionOptions
    from edgekit.ort.runtime import require_ort
    from edgekit.runtime import load

    changes = {c.title: c for objective in Objective for c in candidates(BenchRequest(), objective)}
    told, file = [], tmp_path / "tuned.json"
    for name, change in enumerate(changes.values()):
        file.write_text(json.dumps(change.applied_to(SessionOptions()).as_dict()))
        (given,) = mean_for(TWO[:1], {}, {}, {ALL: str(file)})
        told.append(variant(str(name), session=dict(given.session)))
    bundle = write_bundle(tmp_path / "B", manifest(told))
    for name, change in enumerate(changes.values()):
        wanted = require_ort().SessionOptions()
        change.applied_to(SessionOptions()).apply(wanted)
        with load(bundle, variant=str(name)) as model:
            got = model._session.get_session_options()
            for attribute in change.settings.keys() - {"config_entries", "threads"}:
                assert getattr(got, attribute) == getattr(wanted, attribute), change.title
            for key, value in change.settings.get("config_entries", {}).items():
                assert got.get_session_config_entry(key) == value, change.title
            assert got.intra_op_num_threads == change.settings.get("threads", got.intra_op_num_threads)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            {"optimized_model": OPTIMIZED},
            "a bundle does not carry optimized_model, which is for one machine and one ONNX Runtime",
        ),
        ({"sesion_options": {}}, "unknown key 'sesion_options'; did you mean 'session_options'?"),
    ],
)
def test_session_options_that_a_bundle_does_not_carry_are_refused(
    told: dict[str, Any], said: str, tmp_path: Path
) -> None:
    tuned = tmp_path / "tuned.json"
    tuned.write_text(json.dumps(told))
    with pytest.raises(EdgekitError) as caught:
        mean_for(TWO, {}, {}, {ALL: str(tuned)})
    assert said in str(caught.value)


def test_a_variant_without_session_options_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="unknown variant 'gpus'; did you mean 'gpu'"):
        mean_for(TWO, {}, {}, {"gpus": str(tmp_path / "tuned.json")})
    with pytest.raises(ModelError, match="are not there; `edgekit bench MODEL --tune --out"):
        mean_for(TWO, {}, {}, {"gpu": str(tmp_path / "tuned.json")})
