from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import Candidate
from edgekit.bundle.meant import ALL, mean_for
from edgekit.errors import BundleError
from tests.conftest import Answer

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
