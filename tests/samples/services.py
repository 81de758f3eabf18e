"""samples/http-service as a process, and a client of it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import psutil

from tests.samples.conftest import SAMPLES

PATIENCE_S = 0.7
PNG = {"Content-Type": "image/png"}
JSON = {"Content-Type": "application/json"}
TEXT = {"Content-Type": "text/plain"}


@dataclass(frozen=True)
class Answered:
    code: int
    told: Any
    headers: dict[str, str]


class Service:
    """samples/http-service, running."""

    def __init__(self, popen: subprocess.Popen[bytes], log: IO[str], port: int) -> None:
        self.popen, self.log, self.port = popen, log, port

    @property
    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answered:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("GET" if body is None else "POST", path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read().decode()
            told = json.loads(text) if answer.headers["Content-Type"] == "application/json" else text
            return Answered(answer.status, told, dict(answer.headers))

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", str(self.ask("/metrics").told), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def raw(self, *parts: bytes) -> bytes:
        """Send bytes and read until the service hangs up; an error if it does not."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            for part in parts:
                connection.sendall(part)
            got = b""
            with suppress(ConnectionResetError):
                while block := connection.recv(65536):
                    got += block
        return got


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def started(bundle: Path, *args: object) -> Iterator[Service]:
    port = free_port()
    command = [sys.executable, SAMPLES / "http-service/app.py", bundle, "--port", port, "--threads", 1, *args]
    with TemporaryFile("w+") as log:
        service = Service(subprocess.Popen([*map(str, command)], stderr=log), log, port)
        try:
            for _ in range(1200):
                with suppress(OSError):
                    service.ask("/ready")
                    break
                assert service.popen.poll() is None, service.said
                time.sleep(0.05)
            yield service
        finally:
            service.popen.kill()
            service.popen.wait()


def form_of(field: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    head = f'--xx\r\nContent-Disposition: form-data; name="{field}"; filename="a.png"\r\n\r\n'
    return head.encode() + content + b"\r\n--xx--\r\n", {"Content-Type": "multipart/form-data; boundary=xx"}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def head_of(*lines: str) -> bytes:
    return "\r\n".join(["POST /predict HTTP/1.1", "Host: x", "Content-Type: image/png", *lines, "", ""]).encode()


def until(seen: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.02)


def connections(running: Service) -> list[Any]:
    """Those that are open now."""
    return [c for c in psutil.Process(running.popen.pid).net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]
