"""The system under test: it runs what LoadGen asks for, and never lets an error reach LoadGen's threads."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from edgekit.bench.measure import warm_up
from edgekit.bench.scenarios.library import Library
from edgekit.errors import ModelError, brief
from edgekit.ort.child import give_up
from edgekit.ort.session import Session
from edgekit.specs import Feeds

_WARM_UP_S = 1.0
_LOOK_S = 0.25


class Sample(NamedTuple):
    """One sample of a query: LoadGen's number of it, and its row in the library."""

    id: int
    row: int


class System:
    """A session behind LoadGen's queries.

    Args:
        loadgen: The mlperf_loadgen module.
        session: What runs.
        library: Where samples come from.
        batch: Most samples of one run.
        streams: Threads that take samples from a queue; 0 runs each query in LoadGen's own thread, one at a time.
        title: Of the model, for messages.
    """

    def __init__(
        self, loadgen: Any, session: Session, library: Library, *, batch: int, streams: int, title: str
    ) -> None:
        self._loadgen = loadgen
        self._session = session
        self._library = library
        self._batch = batch
        self._title = title
        self._waiting: queue.SimpleQueue[Sample] = queue.SimpleQueue()
        self._started: dict[int, float] = {}
        self._streams = streams
        for _ in range(streams):
            threading.Thread(target=self._serve, daemon=True, name="edgekit-stream").start()

    def warm_up(self) -> int:
        """Warm up on whole batches; nanoseconds of one run.

        Raises:
            ModelError: if a run fails.
        """
        feed = self._library.feed([i % self._library.count for i in range(self._batch)])
        return warm_up(lambda: self._run(feed), _WARM_UP_S)

    def issue(self, samples: Sequence[Any]) -> None:
        """LoadGen's callback: answer a query, or queue it for the streams."""
        # an exception that leaves a callback ends the process without a word
        with self._told():
            asked = [Sample(s.id, s.index) for s in samples]
            if self._streams:
                for sample in asked:
                    self._waiting.put(sample)
                return
            for first in range(0, len(asked), self._batch):
                self._answer(asked[first : first + self._batch])

    def flush(self) -> None:
        """LoadGen's callback at the end of a series of queries; nothing is held back here."""

    def watch(self, limit_s: float) -> None:
        """End the process with a clear answer when a run of the model takes longer than this."""
        threading.Thread(target=self._watch, args=(limit_s,), daemon=True, name="edgekit-watch").start()

    def _serve(self) -> None:
        with self._told():
            while True:
                self._answer(self._take())

    def _take(self) -> list[Sample]:
        """The next sample, and what waits behind it, up to a batch."""
        taken = [self._waiting.get()]
        while len(taken) < self._batch:
            try:
                taken.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return taken

    def _answer(self, samples: Sequence[Sample]) -> None:
        self._run(self._library.feed([s.row for s in samples]))
        self._loadgen.QuerySamplesComplete([self._loadgen.QuerySampleResponse(s.id, 0, 0) for s in samples])

    def _run(self, feed: Feeds) -> None:
        own = threading.get_ident()
        self._started[own] = time.monotonic()
        self._session.raw.run(None, feed)
        del self._started[own]

    def _watch(self, limit_s: float) -> None:
        while True:
            time.sleep(_LOOK_S)
            oldest = min(list(self._started.values()), default=time.monotonic())
            if time.monotonic() - oldest > limit_s:
                self._stop(f"a run did not end within {limit_s:g} s; it hangs, or its inputs are too large")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._stop(f"the model failed to run: {brief(error)}")

    def _stop(self, text: str) -> NoReturn:
        give_up(ModelError(f"{self._title}: {text}"))
