from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import BundleError, InputError, OverloadError
from edgekit.runtime import MicroBatcher, Model, load
from tests.runtime.bundles import logits_of, write_bundle

IMAGES = np.random.default_rng(1).standard_normal((64, 1, 8, 8)).astype(np.float32)
LABELS = [str(i) for i in logits_of(IMAGES).argmax(axis=1)]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load(write_bundle(tmp_path / "b"))


class Slow:
    """A model whose runs wait for a signal, and that remembers how large its batches were."""

    def __init__(self, model: Model) -> None:
        self.model, self.go, self.sizes = model, threading.Event(), list[int]()
        self.started = threading.Event()

    def prepare(self, given: Any) -> Any:
        return self.model.prepare(given)

    def answer_or_refuse(self, rows: Any, *, top: int) -> Any:
        self.sizes.append(len(rows))
        self.started.set()
        assert self.go.wait(10)
        return self.model.answer_or_refuse(rows, top=top)


def test_everybody_gets_the_own_answer(model: Model) -> None:
    found: dict[int, str | None] = {}
    with MicroBatcher(model, max_batch=8, max_wait_ms=5) as batcher:

        def ask(index: int) -> None:
            found[index] = batcher.predict(IMAGES[index]).label

        askers = [threading.Thread(target=ask, args=(i,)) for i in range(64)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
    assert [found[i] for i in range(64)] == LABELS


def test_inputs_are_run_together_and_a_full_queue_refuses(model: Model) -> None:
    slow = Slow(model)
    batcher = MicroBatcher(slow, max_batch=4, max_wait_ms=0, max_queue=6)  # type: ignore[arg-type]
    first = batcher.submit(IMAGES[0])
    assert slow.started.wait(10)
    waiting = [batcher.submit(image) for image in IMAGES[1:7]]
    with pytest.raises(OverloadError, match="the queue is full: 6 inputs wait for the model; try again later"):
        batcher.submit(IMAGES[7])
    slow.go.set()
    batcher.close()
    assert [f.result(0).label for f in (first, *waiting)] == LABELS[:7]
    assert slow.sizes[0] == 1
    assert max(slow.sizes) <= 4
    assert sum(slow.sizes) == 7


def test_closing_answers_what_waits_and_refuses_what_comes(model: Model) -> None:
    slow = Slow(model)
    batcher = MicroBatcher(slow, max_batch=2, max_wait_ms=0)  # type: ignore[arg-type]
    waiting = [batcher.submit(image) for image in IMAGES[:9]]
    slow.go.set()
    batcher.close()
    batcher.close()
    assert [f.result(0).label for f in waiting] == LABELS[:9]
    with pytest.raises(BundleError, match="the queue is closed"):
        batcher.submit(IMAGES[0])


def test_a_bad_input_harms_nobody_else(model: Model) -> None:
    with MicroBatcher(model, max_wait_ms=1) as batcher:
        good = batcher.submit(IMAGES[0])
        with pytest.raises(InputError, match="has 1 NaN and 0 infinite values of 64"):
            batcher.submit(np.where(np.arange(64).reshape(1, 8, 8) == 3, np.nan, IMAGES[0]).astype(np.float32))
        assert good.result(10).label == LABELS[0]


def test_a_failing_model_tells_everybody_who_waits(model: Model) -> None:
    with MicroBatcher(model, max_wait_ms=20) as batcher:
        rows = [batcher.submit(image) for image in IMAGES[:3]]
        model.close()
        late = batcher.submit(IMAGES[3])
        for answer in (*rows, late):
            error = answer.exception(10)
            assert error is None or "is closed" in str(error)
        assert "is closed" in str(late.exception(10))


def test_a_cancelled_input_is_not_run(model: Model) -> None:
    slow = Slow(model)
    with MicroBatcher(slow, max_batch=1, max_wait_ms=0) as batcher:  # type: ignore[arg-type]
        first, second, third = (batcher.submit(image) for image in IMAGES[:3])
        assert slow.started.wait(10)
        assert second.cancel()
        slow.go.set()
        assert (first.result(10).label, third.result(10).label) == (LABELS[0], LABELS[2])
    assert slow.sizes == [1, 1]


def test_an_event_loop_goes_on_meanwhile(model: Model) -> None:
    async def ask() -> list[str | None]:
        with MicroBatcher(model) as batcher:
            queued = await asyncio.gather(*(batcher.predict_async(image) for image in IMAGES[:9]))
            alone = await model.predict_async(IMAGES[9])
        return [a.label for a in (*queued, alone)]

    assert asyncio.run(ask()) == LABELS[:10]


def test_numbers_out_of_range_are_refused(model: Model) -> None:
    for name, value in (("max_batch", 0), ("max_wait_ms", -1), ("max_queue", 0)):
        with pytest.raises(InputError, match=f"{name} must be"):
            MicroBatcher(model, **{name: value})  # type: ignore[arg-type]


def test_a_lone_input_does_not_wait_long(model: Model) -> None:
    with MicroBatcher(model, max_batch=8, max_wait_ms=1) as batcher:
        started = time.monotonic()
        batcher.predict(IMAGES[0])
        assert time.monotonic() - started < 5
