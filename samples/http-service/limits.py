"""What a client may not do: send too much, send or read too slowly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
_MOST_AHEAD_BYTES = 1 << 20  # of requests that a client sends before it has its answer to the one in work


class _Refused(Exception):  # noqa: N818 - it says what became of the request, and nobody sees it
    """A request that is answered here.

    Args:
        code: HTTP status.
        reason: For the client.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class BodyLimit:
    """ASGI middleware: a body that is too long gets 413, one that does not come 408, one too many at a time 503.

    Args:
        app: What it stands before.
        most_bytes: Of a body.
        most_held_bytes: Of all bodies of requests that are not answered yet.
        patience_s: From the head to the end of the body.
        refused: Called with the status of each request that is answered here.
    """

    def __init__(
        self, app: App, most_bytes: int, most_held_bytes: int, patience_s: float, refused: Callable[[int], None]
    ) -> None:
        self._app, self._refused = app, refused
        self.most_bytes, self.most_held_bytes, self.patience_s = most_bytes, most_held_bytes, patience_s
        self.held_bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand the request on, and watch its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _WatchedRequest(self, receive, send)
        try:
            request.check_length(scope)
            await self._app(scope, request.receive, request.send)
        except _Refused as refused:
            self._refused(refused.code)
            await request.refuse(refused)
        finally:
            self.held_bytes -= request.held_bytes


class _WatchedRequest:
    """A request whose body is counted and timed as it comes."""

    def __init__(self, limit: BodyLimit, receive: Receive, send: Send) -> None:
        self._limit, self._receive, self._send = limit, receive, send
        self._until = asyncio.get_running_loop().time() + limit.patience_s
        self._started = self._ended = False
        self.held_bytes = 0

    def check_length(self, scope: Message) -> None:
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if told.isdigit() and int(told) > self._limit.most_bytes:
            raise self._too_long()

    async def send(self, message: Message) -> None:
        self._started = True
        await self._send(message)

    async def receive(self) -> Message:
        if self._ended:
            return await self._receive()  # what follows the body is the client's leaving, and may take its time
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            waited = f"{self._limit.patience_s:g} s"
            raise _Refused(408, f"the body did not come within {waited}; send it again") from None
        self._ended = not message.get("more_body", False)
        self._hold(len(message.get("body", b"")))
        return message

    def _hold(self, count: int) -> None:
        self.held_bytes += count
        self._limit.held_bytes += count
        if self.held_bytes > self._limit.most_bytes:
            raise self._too_long()
        if self._limit.held_bytes > self._limit.most_held_bytes:
            raise _Refused(503, "the bodies of other requests fill the memory; try again later")

    def _too_long(self) -> _Refused:
        return _Refused(413, f"the body is longer than {self._limit.most_bytes:,} bytes; send a smaller one")

    async def refuse(self, refused: _Refused) -> None:
        """Answer, and throw away what still comes: to hang up on a client that is sending loses the answer."""
        if self._started:
            return
        body = json.dumps({"error": refused.reason}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(b"retry-after", b"1")] if refused.code == 503 else []
        headers.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": refused.code, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._until):
                while not self._ended:
                    self._ended = not (await self._receive()).get("more_body", False)
        await self._send({"type": "http.response.body", "body": b""})


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, that hangs up where uvicorn waits forever: for a request's head, and for an answer to be read.

    It hangs up on a client, too, that sends more and more requests without waiting for answers.

    It is the one on h11, as that refuses heads of more than 64 KiB; the one on httptools takes any.
    """

    patience_s: ClassVar[float] = 10.0
    _no_head: asyncio.TimerHandle | None = None
    _not_read: asyncio.TimerHandle | None = None

    @classmethod
    def with_patience(cls, seconds: float) -> type[PatientProtocol]:
        """The protocol that waits so long."""
        return type("PatientProtocol", (cls,), {"patience_s": seconds})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Go on waiting unless there is a request in work now."""
        super().data_received(data)
        if len(self.conn.trailing_data[0]) > _MOST_AHEAD_BYTES:
            self.transport.abort()
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._no_head is None:
            self._wait()

    def on_response_complete(self) -> None:
        """Between requests uvicorn's own timer for idle connections counts."""
        self._forget()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._not_read = self.loop.call_later(self.patience_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads."""
        self._cancel(self._not_read)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self._forget()
        self._cancel(self._not_read)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is refused as everything else is, unless half an answer is out already."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = json.dumps({"error": f"{msg.rstrip('.')}; send HTTP/1.1"}).encode()
            head = f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            self.transport.write(f"{head}\r\nConnection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _wait(self) -> None:
        self._no_head = self.loop.call_later(self.patience_s, self.transport.close)

    def _forget(self) -> None:
        self._cancel(self._no_head)
        self._no_head = None

    @staticmethod
    def _cancel(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
