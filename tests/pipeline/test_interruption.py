"""Signals in the middle of a run: it ends at once, nothing is half-written, and the same command goes on from there."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.recipe import load_recipe
from edgekit.training.checkpoint import CONFIG, WEIGHTS
from edgekit.training.module import FitModule

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")]

LIMIT_S = 4.0  # on an idle machine it is well below one second; others may use this one too
TRAINING = ["train.epochs=300"]
BENCH = ["bench.min_seconds=60"]


def settings(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


def half_written(out: Path) -> list[str]:
    return [str(p.relative_to(out)) for p in out.rglob("*.tmp")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_training(
    number: int, tmp_path: Path, finished: Any, background: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.pipeline import run_recipe

    out = tmp_path / "out"
    running = background("run", finished.recipe, "--out", out, "--quiet", *settings(*TRAINING))
    running.wait_until(lambda: list(out.glob("checkpoint/work/*/last.ckpt")))
    code, seconds = running.stop(number)
    assert code == 130
    assert seconds < LIMIT_S
    assert running.said == "interrupted; what was finished is kept, the same command goes on from there\n"
    assert half_written(out) == []
    assert not (out / "checkpoint" / CONFIG).exists()
    assert list((out / "steps").glob("*")) == [] if (out / "steps").exists() else True
    epochs = []

    def stop_after_one(self: FitModule, batch: Any, index: int) -> Any:
        epochs.append(self.current_epoch)
        raise KeyboardInterrupt

    monkeypatch.setattr(FitModule, "training_step", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(load_recipe(finished.recipe, TRAINING), out)
    assert epochs[0] >= 1  # it went on, and did not begin again


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_during_bench(
    number: int, copy: Path, finished: Any, background: Callable[..., Any], rerun: Callable[..., list[str]], tree: Any
) -> None:
    (copy / "steps" / "bench.json").unlink()
    (copy / "results.json").unlink()
    before = tree(copy)
    running = background("run", finished.recipe, "--out", copy, *settings(*BENCH))
    running.wait_until(lambda: "measuring latency" in running.said)
    code, seconds = running.stop(number)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130), running.said
    assert seconds < LIMIT_S
    assert tree(copy) == before
    assert [name for name in rerun(copy) if name != "pictures"] == ["bench", "report"]  # another may be the fastest now


def test_kill_in_the_middle_and_rerun_finishes_without_training_again(
    tmp_path: Path, finished: Any, background: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.pipeline import run_recipe

    out = tmp_path / "out"
    running = background("run", finished.recipe, "--out", out, "--quiet")
    running.wait_until(lambda: (out / "steps" / "train.json").exists())
    running.stop(signal.SIGKILL)
    trained = (out / "checkpoint" / WEIGHTS).read_bytes()

    def never(*args: Any) -> Any:
        pytest.fail("it trained again")

    monkeypatch.setattr(FitModule, "training_step", never)
    report = run_recipe(load_recipe(finished.recipe), out)
    assert "train" in [s.name for s in report.steps if s.reused]
    assert (out / "checkpoint" / WEIGHTS).read_bytes() == trained
    assert trained == (finished.out / "checkpoint" / WEIGHTS).read_bytes()
    assert half_written(out) == []
    assert [m.sha256 for m in report.models] == [m.sha256 for m in finished.report.models]


@pytest.fixture
def laborious(tmp_path: Path) -> tuple[Path, Path]:
    """A model and calibration data that take a minute or more to look at."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, tensors, last = [], [], "image"
    for i in range(6):
        tensors.append(
            numpy_helper.from_array(rng.standard_normal((64, 64 if i else 3, 3, 3)).astype(np.float32), f"w{i}")
        )
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1], name=f"conv{i}"))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"], name=f"relu{i}"))
        last = f"r{i}"
    source = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 128, 128])
    result = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", 64, 128, 128])
    graph = helper.make_graph(nodes, "laborious", [source], [result], tensors)
    model = tmp_path / "in" / "m.onnx"
    model.parent.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)
    data = model.parent / "c.npz"
    np.savez(data, image=rng.standard_normal((512, 3, 128, 128)).astype(np.float32))
    return model, data


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_during_calibration(
    number: int, tmp_path: Path, laborious: tuple[Path, Path], background: Callable[..., Any], tree: Any
) -> None:
    import time

    model, data = laborious
    before = tree(model.parent)
    out = tmp_path / "out"
    out.mkdir()
    running = background("quantize", model, "--out", out / "q.onnx", "--method", "static", "--calibration", data)
    running.wait_until(lambda: "trying static" in running.said)
    time.sleep(3)  # reading and normalising are over by then
    assert running.popen.poll() is None, running.said
    code, seconds = running.stop(number)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130), running.said
    assert seconds < LIMIT_S
    # beside it, in a hidden directory, only what the same command goes on from
    assert [p.name for p in out.iterdir()] == [".q.onnx.edgekit"]
    assert tree(model.parent) == before


def test_bench_gives_what_it_has_measured(tmp_path: Path, dense_onnx: Path, background: Callable[..., Any]) -> None:
    import time

    running = background("bench", dense_onnx, "--min-seconds", 60, "--threads", 1, "--json")
    time.sleep(12)
    running.popen.send_signal(signal.SIGINT)
    out, _ = running.popen.communicate(timeout=30)
    assert running.popen.returncode == 130
    assert running.said.startswith("interrupted; ")
    if out:  # it was past the cold start
        assert json.loads(out)["rows"][0]["n"] > 0
