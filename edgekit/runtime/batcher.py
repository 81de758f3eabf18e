"""Many callers, one model: inputs that come at about the same time are run as one batch."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from typing import Any

from edgekit.errors import BundleError, InputError, OverloadError
from edgekit.runtime.answers import Prediction
from edgekit.runtime.model import Model
from edgekit.specs import Feeds

_Asked = tuple[Feeds, "Future[Prediction]"]


class MicroBatcher:
    """A queue before a model; what it holds is answered when it is closed.

    Args:
        model: Loaded; it stays open when the queue is closed.
        max_batch: Inputs of one run, at most.
        max_wait_ms: How long the first input of a batch waits for others.
        max_queue: Inputs that may wait; more are refused at once, so that a caller can tell its own caller.
        top: Classes to name, at most.

    Raises:
        InputError: if a number is out of its range.
    """

    def __init__(
        self, model: Model, *, max_batch: int = 16, max_wait_ms: float = 2.0, max_queue: int = 256, top: int = 5
    ) -> None:
        for name, value, least in (
            ("max_batch", max_batch, 1),
            ("max_wait_ms", max_wait_ms, 0),
            ("max_queue", max_queue, 1),
        ):
            if value < least:
                raise InputError(f"{name} must be {least} or more, got {value}")
        self._model, self._max_batch, self._wait_s, self._top = model, max_batch, max_wait_ms / 1000, top
        self._max_queue = max_queue
        self._waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._lock, self._closed, self._count = threading.Lock(), False, 0
        self._worker = threading.Thread(target=self._work, name="edgekit-batcher", daemon=True)
        self._worker.start()

    def submit(self, given: Any) -> Future[Prediction]:
        """Ask for an answer; the input is prepared here, in the caller's thread.

        Raises:
            InputError: if it is not what the model takes; nobody else's input is touched by that.
            OverloadError: if the queue is full.
            BundleError: if it is closed.
        """
        row, answer = self._model.prepare(given), Future[Prediction]()
        with self._lock:
            if self._closed:
                raise BundleError("the queue is closed; make a new one")
            if self._count >= self._max_queue:
                raise OverloadError(
                    f"the queue is full: {self._count} inputs wait for the model; try again later, or ask for less"
                )
            self._count += 1
            self._waiting.put((row, answer))
        return answer

    def predict(self, given: Any) -> Prediction:
        """Ask and wait."""
        return self.submit(given).result()

    async def predict_async(self, given: Any) -> Prediction:
        """Ask and wait, while an event loop goes on."""
        import asyncio

        return await asyncio.wrap_future(self.submit(given))

    def close(self) -> None:
        """Take nothing more, answer what waits, and end."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._worker.join()

    def __enter__(self) -> MicroBatcher:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _work(self) -> None:
        more = True
        while more:
            batch, more = self._gather()
            self._answer([(row, answer) for row, answer in batch if answer.set_running_or_notify_cancel()])

    def _gather(self) -> tuple[list[_Asked], bool]:
        """The next batch, and whether anything can follow it."""
        batch: list[_Asked] = []
        until = 0.0
        while len(batch) < self._max_batch:
            try:
                item = self._waiting.get(timeout=max(0.0, until - time.monotonic()) if batch else None)
            except queue.Empty:
                break
            if item is None:
                return batch, False
            until = until or time.monotonic() + self._wait_s
            batch.append(item)
            with self._lock:
                self._count -= 1
        return batch, True

    def _answer(self, batch: list[_Asked]) -> None:
        if not batch:
            return
        try:
            found = self._model.answer_or_refuse([row for row, _ in batch], top=self._top)
        except Exception as error:  # whoever waits gets it, and the queue goes on
            for _, answer in batch:
                answer.set_exception(error)
            return
        for (_, answer), result in zip(batch, found, strict=True):
            if isinstance(result, InputError):
                answer.set_exception(result)
            else:
                answer.set_result(result)
