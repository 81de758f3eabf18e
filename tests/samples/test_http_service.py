"""samples/http-service as a process: what it answers, how it proves itself, and how it stops."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from edgekit.bundle import Candidate, PackOptions, pack_bundle
from edgekit.runtime import load
from tests.conftest import ROOT
from tests.samples.bundles import seal
from tests.samples.conftest import SAMPLES, run
from tests.samples.services import (
    JSON,
    PATIENCE_S,
    PNG,
    TEXT,
    Service,
    as_json,
    connections,
    form_of,
    free_port,
    head_of,
    started,
    until,
)

pytestmark = pytest.mark.usefixtures("http_sample")


def test_every_way_to_send_gives_pythons_numbers(service: Service, echo_bundle: Path, picture: bytes) -> None:
    with load(echo_bundle) as model:
        wanted = model.predict(picture).outputs["pixels"].tolist()
    prepared = np.fromfile(echo_bundle / "golden/1.image.bin", np.float32).reshape(1, 1, 8, 8).tolist()
    arrays = json.dumps({"inputs": {"image": prepared}})
    for body, headers in ((picture, PNG), form_of("file", picture), (arrays, JSON)):
        answer = service.ask("/predict", body, headers)
        assert answer.code == 200, answer.told
        assert answer.told["outputs"]["pixels"] == wanted


def test_classes(digits_bundle: Path) -> None:
    with started(digits_bundle, "--max-batch", 1) as running, load(digits_bundle) as model:
        raw = digits_bundle / "golden/0.raw.png"
        answer = running.ask("/predict?top=2", raw.read_bytes(), PNG)
        assert answer.told["label"] == model.predict(raw).label
        assert [row["label"] for row in answer.told["top"]] == [c.label for c in model.predict(raw, top=2).top]


def test_health_ready_metrics(service: Service, picture: bytes) -> None:
    assert service.ask("/health").told == {"status": "ok"}
    assert service.ask("/ready").told == {"model": "echo", "version": "1", "variant": "echo", "provider": "cpu"}
    before = service.metric('edgekit_requests_total{code="200"}')
    assert service.ask("/predict", picture, PNG).code == 200
    assert service.metric('edgekit_requests_total{code="200"}') == before + 1
    assert service.metric('edgekit_predict_seconds_bucket{le="+Inf"}') == before + 1
    assert service.metric("edgekit_predict_seconds_count") == before + 1
    assert service.metric("edgekit_resident_bytes") > 1e7
    assert service.metric("edgekit_in_flight") == 0


def test_a_large_picture_is_answered(service: Service, echo_bundle: Path) -> None:
    """2.25 million pixels of one grey, in turn."""
    file = BytesIO()
    Image.new("L", (1500, 1500), 51).save(file, "png")
    with ThreadPoolExecutor(3) as clients:
        answers = list(clients.map(lambda _: service.ask("/predict", file.getvalue(), PNG), range(3)))
    grey = (np.float32(51) * np.float32(1 / 255) - np.float32(0.3)) / np.float32(0.37)
    for answer in answers:
        assert answer.code == 200
        assert np.unique(answer.told["outputs"]["pixels"]).tolist() == pytest.approx([grey])


def test_sigterm_answers_what_is_in_flight(echo_bundle: Path, picture: bytes) -> None:
    with started(echo_bundle, "--max-batch", 64, "--max-wait-ms", 2500) as running, ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(running.ask, "/predict", picture, PNG) for _ in range(8)]
        until(lambda: running.metric("edgekit_in_flight") == 8)
        running.popen.send_signal(signal.SIGTERM)
        assert [answer.result().code for answer in asked] == [200] * 8
        assert running.popen.wait(20) == 0
        assert "Traceback" not in running.said


def test_sigterm_while_a_body_comes(echo_bundle: Path, picture: bytes) -> None:
    with started(echo_bundle, "--patience-s", PATIENCE_S) as running, ThreadPoolExecutor(2) as clients:
        half = clients.submit(running.raw, head_of(f"Content-Length: {len(picture)}") + picture[:9])
        silent = clients.submit(running.raw)
        until(lambda: len(connections(running)) >= 2)
        running.popen.send_signal(signal.SIGTERM)
        assert b" 408 " in half.result().split(b"\r\n")[0]
        assert silent.result() == b""
        assert running.popen.wait(20) == 0
        assert "Traceback" not in running.said


def test_more_than_the_queue_holds_is_503(echo_bundle: Path, picture: bytes) -> None:
    batching = ("--max-batch", 64, "--max-wait-ms", 1500, "--max-queue", 3)
    with started(echo_bundle, *batching) as running, ThreadPoolExecutor(8) as clients:
        answers = [a.result() for a in [clients.submit(running.ask, "/predict", picture, PNG) for _ in range(8)]]
        codes = sorted(answer.code for answer in answers)
        assert codes == [200] * 3 + [503] * 5
        refused = next(answer for answer in answers if answer.code == 503)
        assert refused.headers["retry-after"] == "1"
        assert "requests are in work" in refused.told["error"]
        assert running.metric("edgekit_batches_total") == 1


@pytest.mark.parametrize("name", ["echo", "digits"])
def test_the_route_proves_itself(name: str, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(f"{name}_bundle")
    said = run(sys.executable, SAMPLES / "http-service/app.py", bundle, "--check")
    assert said.code == 0, said.out + said.err
    starts = [line.split(":")[0] for line in said.out.splitlines()]
    variant, samples = ("echo", 2) if name == "echo" else ("int8", 4)
    assert starts == [f"ok   {variant} {start} {i}" for i in range(samples) for start in ("input", "raw")]


def test_other_numbers_are_a_no(digits_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(digits_bundle, tmp_path / "bundle"))
    wanted = bundle / "golden/base/1.logits.bin"
    (np.fromfile(wanted, np.float32) + np.float32(3)).tofile(wanted)
    seal(bundle, json.loads((bundle / "manifest.json").read_text()))
    said = run(sys.executable, SAMPLES / "http-service/app.py", bundle, "--check", "--variant", "base")
    assert said.code == 3, said.out + said.err
    assert [line for line in said.out.splitlines() if line.startswith("FAIL")] == [
        "FAIL base input 1: off by 3.0e+00",
        "FAIL base raw 1: off by 3.0e+00",
    ]


def test_what_is_not_finite_is_null(echo_bundle: Path, tmp_path: Path) -> None:
    """A model that gives the logarithm of its input: JSON has no word for that of 0."""
    bundle = Path(shutil.copytree(echo_bundle, tmp_path / "bundle"))
    model = onnx.load(bundle / "models/echo/model.onnx")
    model.graph.node[0].op_type = "Log"
    onnx.save(model, bundle / "models/echo/model.onnx")
    seal(bundle, json.loads((bundle / "manifest.json").read_text()))
    with started(bundle) as running:
        answer = running.ask("/predict?outputs=1", as_json({"inputs": {"image": [[[0.0] * 4 + [1.0] * 4] * 8]}}), JSON)
        assert answer.code == 200
        assert answer.told["outputs"]["pixels"] == [[[None] * 4 + [0.0] * 4] * 8]


def test_texts(text_service: Service) -> None:
    answers = [
        text_service.ask("/predict", b"so kind", TEXT),
        text_service.ask("/predict", as_json({"text": "so kind"}), JSON),
    ]
    assert [answer.code for answer in answers] == [200, 200]
    assert answers[0].told == answers[1].told
    assert "Traceback" not in text_service.said


def test_a_sealed_bundle_is_served(tmp_path: Path, pico_onnx: Path) -> None:
    pytest.importorskip("cryptography")
    bundle, key = tmp_path / "bundle", bytes(range(32))
    pack_bundle([Candidate("base", pico_onnx)], bundle, PackOptions(data="digits", samples=1, key=key))
    command = (sys.executable, SAMPLES / "http-service/app.py", bundle, "--check")
    assert "is encrypted; give its key" in run(*command).err
    said = run(*command, "--key-env", "EDGEKIT_TEST_KEY", EDGEKIT_TEST_KEY=key.hex())
    assert said.code == 0, said.out + said.err


def test_a_port_that_is_taken(echo_bundle: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = run(sys.executable, SAMPLES / "http-service/app.py", echo_bundle, "--port", taken.getsockname()[1])
    assert said.code == 1
    assert re.fullmatch(r"error: port \d+ of 127.0.0.1 cannot be had \(.*\); name another with --port\n", said.err)


def test_a_bundle_that_cannot_be_loaded(tmp_path: Path) -> None:
    said = run(sys.executable, SAMPLES / "http-service/app.py", tmp_path)
    assert said.code == 1
    assert said.err.startswith(f"error: {tmp_path} is no bundle")
    assert said.err.count("\n") == 1


def test_the_load_test_counts(echo_bundle: Path) -> None:
    command = (ROOT / "benchmarks/http_service.py", echo_bundle, "--clients", 8, "--seconds", 1, "--json")
    said = run(sys.executable, *command, "--port", free_port(), "--mode", "micro-batching")
    assert said.code == 0, said.out + said.err
    (row,) = json.loads(said.out)
    assert row["errors"] == 0
    assert row["requests"] > 8
    assert row["inputs_a_run"] >= 1
    assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["worst_ms"]
