from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit import interrupt
from edgekit.interrupt import interruptible
from edgekit.ort import Session
from tests.conftest import Answer
from tests.runtime.bundles import manifest, write_bundle

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A model whose one run takes many minutes: a loop of matrix products."""
    counter = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    condition = helper.make_tensor_value_info("going", TensorProto.BOOL, [])
    state = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [64, 64]) for n in ("before", "after")]
    still = helper.make_tensor_value_info("still", TensorProto.BOOL, [])
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "before"], ["after"]),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "body",
        [counter, condition, state[0]],
        [still, state[1]],
    )
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [64, 64]) for n in "xy")
    times = helper.make_tensor("times", TensorProto.INT64, [], [1_000_000_000])
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    graph = helper.make_graph(
        [helper.make_node("Loop", ["times", "true", "x"], ["y"], body=body)], "endless", [x], [y], [times, true]
    )
    path = tmp_path / "endless.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def signalled() -> Iterator[Callable[[int, float], list[float]]]:
    """Send this process a signal after a while; gives the list that will hold the time of it."""
    threads: list[threading.Thread] = []

    def later(number: int, after_s: float) -> list[float]:
        sent: list[float] = []

        def send() -> None:
            time.sleep(after_s)
            sent.append(time.monotonic())
            os.kill(os.getpid(), number)

        threads.append(threading.Thread(target=send))
        threads[-1].start()
        return sent

    yield later
    for thread in threads:
        thread.join()


def until_stopped(work: Callable[[], object]) -> float:
    """Work until a signal stops it; gives the time at which it did."""

    def interruptibly() -> None:
        with interruptible():
            work()

    with pytest.raises(KeyboardInterrupt):
        interruptibly()
    return time.monotonic()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_python_code_is_stopped(number: int, signalled: Callable[[int, float], list[float]]) -> None:
    sent = signalled(number, 0.3)
    assert until_stopped(lambda: time.sleep(30)) - sent[0] < 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_of_onnx_runtime_is_stopped(
    number: int, endless: Path, signalled: Callable[[int, float], list[float]]
) -> None:
    session = Session(endless, threads=1)
    feeds = {"x": np.zeros((64, 64), np.float32)}
    sent = signalled(number, 0.5)
    assert until_stopped(lambda: session.run(feeds)) - sent[0] < 1


def test_predict_is_stopped_inside_a_run(
    endless: Path, tmp_path: Path, signalled: Callable[[int, float], list[float]], cli: Callable[..., Answer]
) -> None:
    tensors = [{"name": n, "dtype": "float32", "shape": [64, 64]} for n in "xy"]
    told = manifest(inputs=tensors[:1], outputs=tensors[1:], classes=[], postprocessing={"kind": "none"})
    bundle = write_bundle(tmp_path / "b", told, {"models/base/model.onnx": endless.read_bytes()})
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 64), np.float32))
    sent = signalled(signal.SIGINT, 1.0)
    answer = cli("predict", bundle, tmp_path / "x.npz")
    assert answer.code == 130, answer.err
    assert time.monotonic() - sent[0] < 1


def test_handlers_come_back_and_nothing_stays_requested(signalled: Callable[[int, float], list[float]]) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    signalled(signal.SIGINT, 0.3)
    until_stopped(lambda: time.sleep(30))
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    assert not interrupt.requested()
    assert not any(t.name == "edgekit-interrupt" for t in threading.enumerate())


def test_other_threads_are_left_alone() -> None:
    seen = []

    def work() -> None:
        with interruptible():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_a_session_can_be_used_again_after_a_stop(
    dense_onnx: Path, signalled: Callable[[int, float], list[float]]
) -> None:
    signalled(signal.SIGINT, 0.3)
    until_stopped(lambda: time.sleep(30))
    (out,) = Session(dense_onnx, threads=1).run({"image": np.ones((2, 1, 8, 8), np.float32)})
    assert out.shape == (2, 10)
