"""What a client may not do: send too much, or too slowly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar

from uvicorn.protocols.http.auto import AutoHTTPProtocol

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


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
    """ASGI middleware: a body that is too long gets 413, one that does not come 408.

    Args:
        app: What it stands before.
        most_bytes: Of a body.
        patience_s: From the head to the end of the body.
        refused: Called with the status of each request that is answered here.
    """

    def __init__(self, app: App, most_bytes: int, patience_s: float, refused: Callable[[int], None]) -> None:
        self._app, self._most_bytes, self._patience_s, self._refused = app, most_bytes, patience_s, refused

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand the request on, and watch its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._check_length(scope)
            await self._app(scope, self._watched(receive), watched_send)
        except _Refused as refused:
            self._refused(refused.code)
            if not started:
                await _answer(send, refused)

    def _check_length(self, scope: Message) -> None:
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if told.isdigit() and int(told) > self._most_bytes:
            raise self._too_long()

    def _watched(self, receive: Receive) -> Receive:
        seen, ended, until = 0, False, asyncio.get_running_loop().time() + self._patience_s

        async def watched() -> Message:
            nonlocal seen, ended
            if ended:
                return await receive()  # what follows the body is the client's leaving, and may take its time
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise _Refused(408, f"the body did not come within {self._patience_s:g} s; send it again") from None
            seen += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if seen > self._most_bytes:
                raise self._too_long()
            return message

        return watched

    def _too_long(self) -> _Refused:
        return _Refused(413, f"the body is longer than {self._most_bytes:,} bytes; send a smaller picture")


async def _answer(send: Send, refused: _Refused) -> None:
    body = json.dumps({"error": refused.reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": refused.code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP, that hangs up when a request's head does not come: uvicorn itself waits forever."""

    patience_s: ClassVar[float] = 10.0
    _hang_up: asyncio.TimerHandle | None = None

    @classmethod
    def with_patience(cls, seconds: float) -> type[PatientProtocol]:
        """The protocol that waits so long."""
        return type("PatientProtocol", (cls,), {"patience_s": seconds})

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Go on waiting unless there is a request in work now."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._hang_up is None:
            self._wait()

    def on_response_complete(self) -> None:
        """Between requests uvicorn's own timer for idle connections counts."""
        self._forget()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self._forget()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._hang_up = asyncio.get_running_loop().call_later(self.patience_s, self.transport.close)

    def _forget(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None
