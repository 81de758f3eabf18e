"""samples/http-service against clients that are careless, slow or hostile: one line each, and nobody else notices."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edgekit.data import ImagePreprocessing
from tests.samples.bundles import Size, write_echo
from tests.samples.services import (
    JSON,
    PATIENCE_S,
    PNG,
    TEXT,
    Service,
    as_json,
    connections,
    form_of,
    head_of,
    started,
    until,
)

_BAD: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "malformed JSON": (b'{"inputs": ', JSON, 400, "the body is no JSON (Expecting value"),
    "deep JSON": (b"[" * 50_000, JSON, 400, "the body is no JSON (too deep)"),
    "JSON that is no UTF-8": (b'{"text": "\xff"}', JSON, 400, "the body is no JSON"),
    "other JSON": (b"[1]", JSON, 422, 'the JSON must be {"inputs": {name: array}} or {"text": "..."}'),
    "unknown input": (
        as_json({"inputs": {"x": [1]}}),
        JSON,
        422,
        "the model has no input 'x'; it takes image float32[",
    ),
    "wrong shape": (as_json({"inputs": {"image": [[1, 2]]}}), JSON, 422, "input 'image' has shape 1x2"),
    "ragged": (as_json({"inputs": {"image": [[1], [1, 2]]}}), JSON, 422, "inputs.image is no array: its rows differ"),
    "words": (as_json({"inputs": {"image": ["a"]}}), JSON, 422, "inputs.image must hold numbers for float32"),
    "NaN": (b'{"inputs": {"image": [NaN]}}', JSON, 400, "the body is no JSON (NaN is no JSON number)"),
    "no picture": (b"hello", PNG, 422, "the picture is no picture that can be read"),
    "empty": (b"", PNG, 422, "the picture has no bytes"),
    "no form": (b"x", {"Content-Type": "multipart/form-data"}, 400, "the form cannot be read"),
    "other field": (*form_of("image", b"x"), 400, "the form has no file; name its field 'file'"),
    "text for pictures": (b"seven", {"Content-Type": "text/plain"}, 422, "the model takes no text but a picture: send"),
    "a path here": (
        as_json({"text": "/etc/hostname"}),
        JSON,
        422,
        "the model takes no text but a picture: send it as",
    ),
    "key twice": (
        b'{"inputs": {"image": [1], "image": [2]}}',
        JSON,
        400,
        "the body is no JSON (a key is there twice)",
    ),
    "deep array": (b'{"inputs": {"image": ' + b"[" * 90 + b"]" * 90 + b"}}", JSON, 422, "or it is too deep"),
    "endless number": (b'{"inputs": {"image": [' + b"9" * 5000 + b"]}}", JSON, 400, "Exceeds the limit (4300 digits)"),
    "infinite": (
        as_json({"inputs": {"image": [[[0] * 8] * 8]}}).replace(b"0", b"1e999", 1),
        JSON,
        422,
        "1 infinite values",
    ),
    "half a form": (
        b"--xx\r\nContent",
        {"Content-Type": "multipart/form-data; boundary=xx"},
        400,
        "the form has no file",
    ),
    "picture bomb": (
        b"P5 60000 60000 255\n",
        PNG,
        422,
        "the picture has 3600000000 pixels, and 64,000,000 are the most",
    ),
    "large picture": (
        b"P5 5000 5000 255\n",
        PNG,
        422,
        "the picture has 5000x5000 pixels, and 24,000,000 are the most",
    ),
    "unknown type": (b"x", {"Content-Type": "video/mp4"}, 415, "Content-Type video/mp4; send a picture as image/*"),
    "too long": (b"x" * 100_001, PNG, 413, "the body is longer than 100,000 bytes; send a smaller one"),
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
    refused = service.ask("/predict?top=0", b"x", PNG)
    assert refused.told == {"error": "top must be a whole number, 1 to 1000, and outputs true or false"}


_BAD_TEXTS: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "empty": (b"  ", TEXT, 422, "the text is empty; give some words"),
    "too long": (b"good " * 40, TEXT, 422, "the text has 42 tokens, the model takes 12; shorten it"),
    "no UTF-8": (b"good \xff", TEXT, 400, "the text is no UTF-8 (byte 5)"),
    "a number": (as_json({"text": 5}), JSON, 422, '"text" must be a text, got int'),
    "null": (as_json({"text": None}), JSON, 422, '"text" must be a text, got NoneType'),
    "half a character": (b'{"text": "\\ud800"}', JSON, 422, "the text holds half a character"),
    "picture": (b"\x89PNG", PNG, 422, "the model takes a text: send it as text/plain, or"),
    "beyond the type": (
        as_json({"inputs": {"ids": [2**63], "mask": [1]}}),
        JSON,
        422,
        "numbers that int64 does not reach",
    ),
    "fractions": (
        as_json({"inputs": {"ids": [0.5], "mask": [1]}}),
        JSON,
        422,
        "inputs.ids must hold numbers for int64",
    ),
}


@pytest.mark.parametrize("case", _BAD_TEXTS)
def test_bad_text_is_one_line(text_service: Service, case: str) -> None:
    body, headers, code, words = _BAD_TEXTS[case]
    answer = text_service.ask("/predict", body, headers)
    assert (answer.code, list(answer.told)) == (code, ["error"]), answer.told
    assert words in answer.told["error"]
    assert "\n" not in answer.told["error"]


def test_who_sends_on_reads_the_refusal(service: Service) -> None:
    answer = service.ask("/predict", b"x" * 8_000_000, PNG)
    assert answer.code == 413


def test_requests_without_end_are_not_kept(service: Service, picture: bytes) -> None:
    request = head_of(f"Content-Length: {len(picture)}") + picture
    many = request * (64 * (1 << 20) // len(request))
    with (
        socket.create_connection(("127.0.0.1", service.port)) as connection,
        pytest.raises(OSError, match=r"reset|pipe"),
    ):
        connection.sendall(many)
    assert service.ask("/health").told == {"status": "ok"}


def test_http_1_0(service: Service, picture: bytes) -> None:
    head = head_of(f"Content-Length: {len(picture)}").replace(b"HTTP/1.1", b"HTTP/1.0")
    got = service.raw(head + picture)
    assert b" 200 " in got.split(b"\r\n")[0]
    assert got.endswith(b"}")


def test_who_reads_no_answer_is_hung_up_on(http_sample: None, tmp_path: Path) -> None:
    """An answer of several MB, for a client that takes 4 KB."""
    colour = ImagePreprocessing(512, 512, 3, 1 / 255, (0.3,) * 3, (0.37,) * 3, (512, 512))
    bundle = write_echo(tmp_path / "bundle", colour, [Size(9, 9)])
    picture = (bundle / "golden/0.raw.png").read_bytes()
    with started(bundle, "--patience-s", PATIENCE_S) as running, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", running.port))
        client.sendall(head_of(f"Content-Length: {len(picture)}") + picture)
        until(lambda: running.metric('edgekit_requests_total{code="200"}') == 1)
        until(lambda: not connections(running))
        assert "Traceback" not in running.said


@pytest.mark.parametrize("path", [b"/predict", b"/other"])
def test_a_broken_chunk(service: Service, path: bytes) -> None:
    head = head_of("Transfer-Encoding: chunked").replace(b"/predict", path)
    got = service.raw(head + b"3\r\nabc\r\n", b"zz\r\n")
    assert got.endswith(b'{"error": "Invalid HTTP request received; send HTTP/1.1"}')
    assert "Traceback" not in service.said


def test_connections_that_send_nothing_are_hung_up_on(service: Service, picture: bytes) -> None:
    silent = [socket.create_connection(("127.0.0.1", service.port), timeout=60) for _ in range(300)]
    try:
        assert service.ask("/health").told == {"status": "ok"}
        assert service.ask("/predict", picture, PNG).code == 200
        assert {connection.recv(1) for connection in silent} == {b""}
    finally:
        for connection in silent:
            connection.close()
    assert "Traceback" not in service.said


def test_100_mb_are_refused_before_they_are_sent(service: Service) -> None:
    got = service.raw(head_of("Content-Length: 100000000"))
    assert b" 413 " in got.split(b"\r\n")[0]
    assert b"connection: close" in got.lower()


def test_chunks_without_a_length_are_counted(service: Service) -> None:
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    got = service.raw(head_of("Transfer-Encoding: chunked"), *[chunk] * 4)
    assert b" 413 " in got.split(b"\r\n")[0]


def test_a_slow_body_is_answered_408(service: Service) -> None:
    got = service.raw(head_of("Content-Length: 1000"), b"x" * 10)
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
    for part in (head_of("Content-Length: 1000") + b"x", head_of(f"Content-Length: {len(picture)}") + picture):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(part)
    until(lambda: service.metric('edgekit_requests_total{code="499"}') >= 1)
    assert service.ask("/predict", picture, PNG).code == 200
    assert service.metric("edgekit_in_flight") == 0
    assert service.popen.poll() is None
    assert "Traceback" not in service.said
