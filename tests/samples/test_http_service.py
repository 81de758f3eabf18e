"""samples/http-service as a process: what it answers, what it refuses, and how it stops."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import pytest

from edgekit.runtime import load
from tests.conftest import ROOT
from tests.samples.conftest import SAMPLES, run

for _package in ("fastapi", "uvicorn", "python_multipart"):
    pytest.importorskip(_package, reason=f"samples/http-service needs {_package}")

_PATIENCE_S = 0.7
_PNG = {"Content-Type": "image/png"}
_JSON = {"Content-Type": "application/json"}


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


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def started(bundle: Path, *args: object) -> Iterator[Service]:
    port = _free_port()
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


@pytest.fixture(scope="module")
def service(echo_bundle: Path) -> Iterator[Service]:
    with started(echo_bundle, "--patience-s", _PATIENCE_S, "--max-body-mb", 0.1) as running:
        yield running


@pytest.fixture(scope="module")
def picture(echo_bundle: Path) -> bytes:
    return (echo_bundle / "golden/1.raw.png").read_bytes()


def _form(field: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    head = f'--xx\r\nContent-Disposition: form-data; name="{field}"; filename="a.png"\r\n\r\n'
    return head.encode() + content + b"\r\n--xx--\r\n", {"Content-Type": "multipart/form-data; boundary=xx"}


def test_every_way_to_send_gives_pythons_numbers(service: Service, echo_bundle: Path, picture: bytes) -> None:
    with load(echo_bundle) as model:
        wanted = model.predict(picture).outputs["pixels"].tolist()
    prepared = np.fromfile(echo_bundle / "golden/1.image.bin", np.float32).reshape(1, 1, 8, 8).tolist()
    arrays = json.dumps({"inputs": {"image": prepared}})
    for body, headers in ((picture, _PNG), _form("file", picture), (arrays, _JSON)):
        answer = service.ask("/predict", body, headers)
        assert answer.code == 200, answer.told
        assert answer.told["outputs"]["pixels"] == wanted


def test_classes(digits_bundle: Path) -> None:
    with started(digits_bundle, "--max-batch", 1) as running, load(digits_bundle) as model:
        raw = digits_bundle / "golden/0.raw.png"
        answer = running.ask("/predict?top=2", raw.read_bytes(), _PNG)
        assert answer.told["label"] == model.predict(raw).label
        assert [row["label"] for row in answer.told["top"]] == [c.label for c in model.predict(raw, top=2).top]


def test_health_ready_metrics(service: Service, picture: bytes) -> None:
    assert service.ask("/health").told == {"status": "ok"}
    assert service.ask("/ready").told == {"model": "echo", "version": "1", "variant": "echo", "provider": "cpu"}
    before = service.metric('edgekit_requests_total{code="200"}')
    assert service.ask("/predict", picture, _PNG).code == 200
    assert service.metric('edgekit_requests_total{code="200"}') == before + 1
    assert service.metric('edgekit_predict_seconds_bucket{le="+Inf"}') == before + 1
    assert service.metric("edgekit_predict_seconds_count") == before + 1
    assert service.metric("edgekit_resident_bytes") > 1e7
    assert service.metric("edgekit_in_flight") == 0


def _body(value: Any) -> bytes:
    return json.dumps(value).encode()


_BAD: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "malformed JSON": (b'{"inputs": ', _JSON, 400, "the body is no JSON (Expecting value"),
    "deep JSON": (b"[" * 50_000, _JSON, 400, "the body is no JSON (too deep)"),
    "JSON that is no UTF-8": (b'{"text": "\xff"}', _JSON, 400, "the body is no JSON"),
    "other JSON": (b"[1]", _JSON, 422, 'the JSON must be {"inputs": {name: array}} or {"text": "..."}'),
    "unknown input": (_body({"inputs": {"x": [1]}}), _JSON, 422, "the model has no input 'x'; it takes image float32["),
    "wrong shape": (_body({"inputs": {"image": [[1, 2]]}}), _JSON, 422, "input 'image' has shape 1x2"),
    "ragged": (_body({"inputs": {"image": [[1], [1, 2]]}}), _JSON, 422, "inputs.image is no array: its rows differ"),
    "words": (_body({"inputs": {"image": ["a"]}}), _JSON, 422, "inputs.image must hold numbers for float32"),
    "NaN": (b'{"inputs": {"image": [NaN]}}', _JSON, 400, "the body is no JSON (NaN is no JSON number)"),
    "no picture": (b"hello", _PNG, 422, "the picture is no picture that can be read"),
    "empty": (b"", _PNG, 422, "the picture has no bytes"),
    "no form": (b"x", {"Content-Type": "multipart/form-data"}, 400, "the form cannot be read"),
    "other field": (*_form("image", b"x"), 400, "the form has no file; name its field 'file'"),
    "text for pictures": (b"seven", {"Content-Type": "text/plain"}, 422, "seven is not there"),
    "unknown type": (b"x", {"Content-Type": "video/mp4"}, 415, "Content-Type video/mp4; send a picture as image/*"),
    "too long": (b"x" * 100_001, _PNG, 413, "the body is longer than 100,000 bytes; send a smaller picture"),
}


@pytest.mark.parametrize("case", _BAD)
def test_bad_input_is_one_line(service: Service, case: str) -> None:
    body, headers, code, words = _BAD[case]
    answer = service.ask("/predict", body, headers)
    assert (answer.code, list(answer.told)) == (code, ["error"]), answer.told
    assert words in answer.told["error"]
    assert "\n" not in answer.told["error"]


def test_other_paths_and_methods(service: Service) -> None:
    assert service.ask("/predict").code == 405
    assert service.ask("/other").told["error"].startswith("no such path; there are /predict")
    assert service.ask("/predict?top=0", b"x", _PNG).told == {"error": "top must be a number, 1 to 1000"}


def _head(*lines: str) -> bytes:
    return "\r\n".join(["POST /predict HTTP/1.1", "Host: x", "Content-Type: image/png", *lines, "", ""]).encode()


def test_100_mb_are_refused_before_they_are_sent(service: Service) -> None:
    got = service.raw(_head("Content-Length: 100000000"))
    assert b" 413 " in got.split(b"\r\n")[0]
    assert b"connection: close" in got.lower()


def test_chunks_without_a_length_are_counted(service: Service) -> None:
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    got = service.raw(_head("Transfer-Encoding: chunked"), *[chunk] * 4)
    assert b" 413 " in got.split(b"\r\n")[0]


def test_a_slow_body_is_answered_408(service: Service) -> None:
    got = service.raw(_head("Content-Length: 1000"), b"x" * 10)
    assert b" 408 " in got.split(b"\r\n")[0]
    assert b"the body did not come within 0.7 s" in got


@pytest.mark.parametrize("begin", [b"", b"POST /pre"])
def test_a_slow_head_is_hung_up_on(service: Service, begin: bytes) -> None:
    got = service.raw(begin) if begin else service.raw()
    assert got == b""


def test_a_slow_second_head_is_hung_up_on(service: Service) -> None:
    got = service.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /hea")
    assert got.count(b" 200 ") == 1


def test_no_http(service: Service) -> None:
    got = service.raw(b"\x16\x03\x01 hello\r\n\r\n")
    assert b" 400 " in got.split(b"\r\n")[0]


def test_a_client_that_leaves_harms_nobody(service: Service, picture: bytes) -> None:
    for part in (_head("Content-Length: 1000") + b"x", _head(f"Content-Length: {len(picture)}") + picture):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(part)
    _until(lambda: service.metric('edgekit_requests_total{code="499"}') >= 1)
    assert service.ask("/predict", picture, _PNG).code == 200
    assert service.metric("edgekit_in_flight") == 0
    assert service.popen.poll() is None
    assert "Traceback" not in service.said


def _until(seen: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_sigterm_answers_what_is_in_flight(echo_bundle: Path, picture: bytes) -> None:
    with started(echo_bundle, "--max-batch", 64, "--max-wait-ms", 2500) as running, ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(running.ask, "/predict", picture, _PNG) for _ in range(8)]
        _until(lambda: running.metric("edgekit_in_flight") == 8)
        running.popen.send_signal(signal.SIGTERM)
        assert [answer.result().code for answer in asked] == [200] * 8
        assert running.popen.wait(20) == 0
        assert "Traceback" not in running.said


def test_more_than_the_queue_holds_is_503(echo_bundle: Path, picture: bytes) -> None:
    batching = ("--max-batch", 64, "--max-wait-ms", 1500, "--max-queue", 3)
    with started(echo_bundle, *batching) as running, ThreadPoolExecutor(8) as clients:
        answers = [a.result() for a in [clients.submit(running.ask, "/predict", picture, _PNG) for _ in range(8)]]
        codes = sorted(answer.code for answer in answers)
        assert codes == [200] * 3 + [503] * 5
        refused = next(answer for answer in answers if answer.code == 503)
        assert refused.headers["retry-after"] == "1"
        assert "requests are in work" in refused.told["error"]
        assert running.metric("edgekit_batches_total") == 1


def test_a_bundle_that_cannot_be_loaded(tmp_path: Path) -> None:
    said = run(sys.executable, SAMPLES / "http-service/app.py", tmp_path)
    assert said.code == 1
    assert said.err.startswith(f"error: {tmp_path} is no bundle")
    assert said.err.count("\n") == 1


def test_the_load_test_counts(echo_bundle: Path) -> None:
    command = (ROOT / "benchmarks/http_service.py", echo_bundle, "--clients", 8, "--seconds", 1, "--json")
    said = run(sys.executable, *command, "--port", _free_port(), "--mode", "micro-batching")
    assert said.code == 0, said.out + said.err
    (row,) = json.loads(said.out)
    assert row["errors"] == 0
    assert row["requests"] > 8
    assert row["inputs_a_run"] >= 1
    assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["worst_ms"]
