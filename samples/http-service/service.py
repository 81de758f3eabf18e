"""The routes: /predict, /health, /ready and /metrics."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from bodies import Unreadable, read_input
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from limits import BodyLimit
from metrics import Metrics
from starlette.requests import ClientDisconnect

from edgekit.errors import EdgekitError, InputError, MissingPackageError, OverloadError
from edgekit.runtime import MicroBatcher, Model, Prediction
from edgekit.runtime.pictures import picture_size

_MOST_TOP = 1000
_LARGE_PIXELS = 2_000_000  # of a picture that waits until no other such is prepared: each takes some 20 bytes a pixel
_GONE = 499  # as nginx has it; nobody reads that answer
_CODES: tuple[tuple[type[EdgekitError], int], ...] = (
    (InputError, 422),
    (OverloadError, 503),
    (MissingPackageError, 501),
)


@dataclass(frozen=True)
class Options:
    """How to serve.

    Attributes:
        max_batch: Inputs of one run, at most; 1 runs each on its own.
        max_wait_ms: How long the first input of a batch waits for others.
        max_queue: Requests in work, at most; more get 503.
        max_body_bytes: Of a request.
        max_held_bytes: Of all requests in work; more get 503.
        max_pixels: Of a picture.
        body_timeout_s: For a body to come.
    """

    max_batch: int = 16
    max_wait_ms: float = 2.0
    max_queue: int = 512
    max_body_bytes: int = 10_000_000
    max_held_bytes: int = 200_000_000
    max_pixels: int = 24_000_000
    body_timeout_s: float = 10.0


class CountedModel:
    """The model as the queue sees it, with its batches counted."""

    def __init__(self, model: Model, metrics: Metrics) -> None:
        self._model, self._metrics = model, metrics
        self.prepare = model.prepare

    def answer_or_refuse(self, rows: Sequence[Any], *, top: int) -> list[Prediction | InputError]:
        """One run."""
        self._metrics.count_batch(len(rows))
        return self._model.answer_or_refuse(rows, top=top)


class Service:
    """A model that many requests share.

    Args:
        model: Loaded; it is closed at the end.
        options: How to serve.
    """

    def __init__(self, model: Model, options: Options) -> None:
        self.model, self.options, self.metrics = model, options, Metrics()
        counted: Any = CountedModel(model, self.metrics)
        self._queue = (
            MicroBatcher(
                counted,
                max_batch=options.max_batch,
                max_wait_ms=options.max_wait_ms,
                max_queue=options.max_queue,
                top=_MOST_TOP,
            )
            if options.max_batch > 1
            else None
        )
        self._one_large = asyncio.Lock()
        self._pictures = (model.manifest.preprocessing or {}).get("kind") == "image"

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """From ready to closed: the queue answers what it holds before the model goes."""
        self.metrics.ready = True
        yield
        self.metrics.ready = False
        if self._queue is not None:
            await asyncio.to_thread(self._queue.close)
        self.model.close()

    async def predict(self, request: Request, top: int, outputs: bool) -> Response:
        """Answer one request."""
        started = time.perf_counter()
        self.metrics.in_flight += 1
        try:
            answer = await self._answer(await read_input(request, self.model.manifest))
        except Unreadable as error:
            return self._refuse(error.code, str(error))
        except ClientDisconnect:
            return self._refuse(_GONE, "the client left")
        except EdgekitError as error:
            code = next((code for kind, code in _CODES if isinstance(error, kind)), 500)
            return self._refuse(code, str(error))
        finally:
            self.metrics.in_flight -= 1
        if answer.warnings:
            self.metrics.count_warning()
        told = answer.as_dict()
        if "top" in told:
            told["top"] = told["top"][:top]
        if outputs:
            told["outputs"] = {name: np.asarray(array).tolist() for name, array in answer.outputs.items()}
        body = as_json(told)
        self.metrics.count_request(200, time.perf_counter() - started)
        return Response(body, media_type="application/json")

    async def _answer(self, given: Any) -> Prediction:
        """Prepared in a thread: a picture may take long to decode."""
        if self.metrics.in_flight > self.options.max_queue:
            raise OverloadError(f"{self.options.max_queue} requests are in work; try again later")
        asked = await asyncio.to_thread(self._ask, given, large=False)
        if asked is None:
            async with self._one_large:
                asked = await asyncio.to_thread(self._ask, given, large=True)
        return await asyncio.wrap_future(asked) if isinstance(asked, Future) else asked

    def _ask(self, given: Any, *, large: bool) -> Future[Prediction] | Prediction | None:
        """An answer, or one that will come; None for a large picture that is not to be prepared now."""
        if self._pictures and isinstance(given, bytes):
            width, height = picture_size(given)
            if width * height > self.options.max_pixels:
                most = f"{self.options.max_pixels:,} are the most"
                raise InputError(f"the picture has {width}x{height} pixels, and {most}; make it smaller")
            if width * height > _LARGE_PIXELS and not large:
                return None
        return self._alone(given) if self._queue is None else self._queue.submit(given)

    def _alone(self, given: Any) -> Prediction:
        self.metrics.count_batch(1)
        answer: Prediction = self.model.predict(given, top=_MOST_TOP)
        return answer

    def _refuse(self, code: int, reason: str) -> JSONResponse:
        self.metrics.count_request(code)
        headers = {"Retry-After": "1"} if code == 503 else {}
        return JSONResponse({"error": reason}, code, headers)


def as_json(told: Any) -> bytes:
    """JSON, in which null stands for what is not finite, as JSON has no word for that."""
    try:
        return json.dumps(told, allow_nan=False).encode()
    except ValueError:
        return json.dumps(_finite(told)).encode()


def _finite(told: Any) -> Any:
    if isinstance(told, dict):
        return {key: _finite(value) for key, value in told.items()}
    if isinstance(told, list):
        return [_finite(value) for value in told]
    return None if isinstance(told, float) and not math.isfinite(told) else told


def make_app(model: Model, options: Options) -> FastAPI:
    """The app of a loaded model."""
    service = Service(model, options)
    app = FastAPI(
        title=model.manifest.name, version=model.manifest.version, lifespan=service.lifespan, redirect_slashes=False
    )
    app.add_middleware(
        partial(
            BodyLimit,
            most_bytes=options.max_body_bytes,
            most_held_bytes=options.max_held_bytes,
            patience_s=options.body_timeout_s,
            refused=service.metrics.count_request,
        )
    )
    _add_routes(app, service)
    app.add_exception_handler(404, lambda *_: _told(404, "no such path; there are /predict, /health, /ready, /metrics"))
    app.add_exception_handler(405, lambda *_: _told(405, "this path takes another method; /predict takes POST"))
    asked = f"top must be a whole number, 1 to {_MOST_TOP}, and outputs true or false"
    app.add_exception_handler(RequestValidationError, lambda *_: _told(422, asked))
    app.add_exception_handler(Exception, lambda *_: _told(500, "the service failed; its log says how"))
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    manifest, variant = service.model.manifest, service.model.variant

    @app.post("/predict")
    async def predict(request: Request, top: int = Query(5, ge=1, le=_MOST_TOP), outputs: bool = False) -> Response:
        """A picture (its bytes, or a form's `file`), JSON {"inputs": {name: array}} or {"text": …}, or plain text."""
        return await service.predict(request, top, outputs)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        """The model is loaded and takes requests."""
        told = {"model": manifest.name, "version": manifest.version, "variant": variant.name}
        return JSONResponse({**told, "provider": service.model.provider}, 200 if service.metrics.ready else 503)

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        """Counts for Prometheus."""
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _told(code: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason}, code)
