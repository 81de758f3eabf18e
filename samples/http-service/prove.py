"""The bundle's golden samples through the HTTP route: app.py BUNDLE --check."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from edgekit.bundle.check import read_tensor, within
from edgekit.bundle.expected import Tolerance, read_expected
from edgekit.bundle.tolerance import largest_difference
from edgekit.errors import BundleError
from edgekit.runtime import Manifest
from edgekit.runtime.archive import Archive, read_checked
from edgekit.runtime.opening import open_archive
from edgekit.specs import Array

_KINDS = {"png": "image/png", "txt": "text/plain"}
_TOO_LONG = 413


@dataclass(frozen=True)
class Outcome:
    """What became of one golden sample.

    Attributes:
        name: Variant, how it was sent, and its number.
        ok: Whether the answer is within the manifest's tolerance; None where it could not be sent.
        detail: One line.
    """

    name: str
    ok: bool | None
    detail: str


def check_route(config: uvicorn.Config, bundle: Path, variant: str, manifest: Manifest) -> Iterator[Outcome]:
    """Start the service, and send it each golden sample: the stored inputs as JSON, and what they were made of.

    Args:
        config: Of the service, on a free port of this machine.
        bundle: A directory or a .zip.
        variant: The one that the service runs.
        manifest: Of the bundle.

    Raises:
        BundleError: if a golden file is damaged.
    """
    expected = read_expected(manifest)
    with open_archive(bundle) as archive, _serving(config) as port:
        for index, (inputs, outputs) in enumerate(zip(expected.inputs, expected.outputs[variant], strict=True)):
            wanted = {name: read_tensor(archive, manifest, tensor) for name, tensor in outputs.items()}
            arrays = {name: read_tensor(archive, manifest, tensor).tolist() for name, tensor in inputs.items()}
            bodies = {"input": (json.dumps({"inputs": arrays}).encode(), "application/json")}
            raw = expected.raw[index]
            if raw is not None:
                bodies["raw"] = _raw(archive, manifest, raw)
            for start, (body, kind) in bodies.items():
                ok, detail = _judge(*_ask(port, body, kind), wanted, expected.tolerance[variant])
                yield Outcome(f"{variant} {start} {index}", ok, detail)


def _raw(archive: Archive, manifest: Manifest, name: str) -> tuple[bytes, str]:
    kind = _KINDS.get(name.rpartition(".")[2], "application/octet-stream")
    return read_checked(archive, name, manifest.files[name]), kind


@contextmanager
def _serving(config: uvicorn.Config) -> Iterator[int]:
    """The service in a thread; its port."""
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise BundleError("the service did not start; see above")
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def _ask(port: int, body: bytes, kind: str) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/predict?outputs=true", body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def _judge(
    code: int, told: Mapping[str, Any], wanted: Mapping[str, Array], tolerance: Tolerance
) -> tuple[bool | None, str]:
    if code == _TOO_LONG:
        return None, told["error"]
    if code != 200:
        return False, f"{code}: {told['error']}"
    ok, farthest = True, 0.0
    for name, golden in wanted.items():
        answer = _numbers(told["outputs"].get(name), golden)
        far = largest_difference(answer, golden)
        same = answer.shape == golden.shape and within(answer, golden, tolerance)
        top = same and (not tolerance.same_top1 or bool((answer.argmax(-1) == golden.argmax(-1)).all()))
        ok, farthest = ok and top, max(farthest, far)
    return ok, f"off by {farthest:.1e}"


def _numbers(listed: Any, golden: Array) -> Array:
    """An output as JSON tells it: without a batch axis, and with null for what is not finite."""
    array = np.array(listed, dtype=np.float64)[None]
    return array if np.isfinite(golden).all() else np.where(np.isnan(array), golden, array)
