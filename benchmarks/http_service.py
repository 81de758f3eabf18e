"""samples/http-service under load: errors, memory, latency, with and without micro-batching.

    python benchmarks/http_service.py BUNDLE [--clients 200] [--seconds 60] [--json]

Each client keeps one connection and sends the bundle's first golden sample again as soon as it has its answer. Clients
are one asyncio process on the same machine: the cores that they need are missing in the service, whose own figures are
better than these. Latency is a client's: from the first byte sent to the last received. Memory is the service's
resident set; what it grows to within the first fifth is not counted as growth.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from edgekit.runtime.archive import Archive
from edgekit.runtime.opening import open_archive

APP = Path(__file__).resolve().parents[1] / "samples/http-service/app.py"
MODES = {"micro-batching": ("--max-batch", "32", "--max-wait-ms", "2"), "one by one": ("--max-batch", "1")}
_WARM_SHARE = 0.2
_PATIENCE_S = 30.0


@dataclass
class Seen:
    """What the clients saw.

    Attributes:
        latencies_s: Of answers with status 200.
        codes: Status -> answers; 0 for connections that failed.
        resident_mb: (seconds since the start, MB of the service).
    """

    latencies_s: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    resident_mb: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Load:
    """One row of the result.

    Attributes:
        mode: With micro-batching or without.
        clients: At the same time.
        seconds: How long.
        requests: That were answered with 200.
        errors: Other answers, and connections that failed.
        per_s: Answers a second.
        p50_ms: Median latency.
        p99_ms: 99 of 100 are faster.
        worst_ms: The slowest.
        inputs_a_run: Mean size of a batch.
        resident_mb: Memory at the end.
        growth_mb: Since the first fifth.
    """

    mode: str
    clients: int
    seconds: float
    requests: int
    errors: int
    per_s: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    inputs_a_run: float
    resident_mb: float
    growth_mb: float


def request_of(bundle: Path, port: int) -> bytes:
    """The first golden sample as an HTTP request."""
    with open_archive(bundle) as files:
        sample = json.loads(b"".join(files.blocks("manifest.json")))["golden"]["samples"][0]
        if sample.get("raw"):
            body = b"".join(files.blocks(sample["raw"]))
            kind = "image/png" if sample["raw"].endswith(".png") else "text/plain"
        else:
            arrays = {name: _read(files, entry).tolist() for name, entry in sample["inputs"].items()}
            body, kind = json.dumps({"inputs": arrays}).encode(), "application/json"
    lines = (
        "POST /predict HTTP/1.1",
        f"Host: localhost:{port}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body


def _read(files: Archive, entry: dict[str, Any]) -> np.ndarray[Any, Any]:
    kind = np.dtype(entry["dtype"]).newbyteorder("<")
    return np.frombuffer(b"".join(files.blocks(entry["file"])), kind).reshape(entry["shape"])


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """Send a request and read its answer; gives the status."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length"))
    await reader.readexactly(length)
    return int(lines[0].split()[1])


async def client(port: int, request: bytes, until: float, seen: Seen) -> None:
    """Ask until the time is over."""
    writer = None
    while (now := time.perf_counter()) < until:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            code = await asyncio.wait_for(ask(reader, writer, request), _PATIENCE_S)
        except (OSError, EOFError, TimeoutError):
            code = 0
            if writer is not None:
                writer.close()
            writer = None
        seen.codes[code] += 1
        if code == 200:
            seen.latencies_s.append(time.perf_counter() - now)
    if writer is not None:
        writer.close()


async def watch(process: psutil.Process, start: float, until: float, seen: Seen) -> None:
    """The service's memory, twice a second."""
    while (now := time.perf_counter()) < until:
        seen.resident_mb.append((now - start, process.memory_info().rss / 1e6))
        await asyncio.sleep(0.5)


async def load(port: int, pid: int, request: bytes, clients: int, seconds: float) -> Seen:
    """All clients at once."""
    seen, start = Seen(), time.perf_counter()
    until = start + seconds
    async with asyncio.TaskGroup() as group:
        group.create_task(watch(psutil.Process(pid), start, until, seen))
        for _ in range(clients):
            group.create_task(client(port, request, until, seen))
    return seen


async def fetch(port: int, path: str) -> str:
    """The body of a GET; "" while nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return body.decode() if b" 200 " in head.split(b"\r\n")[0] else ""


async def measure(bundle: Path, mode: str, clients: int, seconds: float, port: int) -> Load:
    """Start the service, load it, and stop it."""
    command = [sys.executable, str(APP), str(bundle), "--port", str(port), "--quiet", *MODES[mode]]
    service = subprocess.Popen(command)
    try:
        while not await fetch(port, "/ready"):
            if service.poll() is not None:
                raise SystemExit(f"the service ended with {service.returncode}")
            await asyncio.sleep(0.05)
        seen = await load(port, service.pid, request_of(bundle, port), clients, seconds)
        counts = dict(line.split() for line in (await fetch(port, "/metrics")).splitlines() if line[:1] != "#")
    finally:
        service.terminate()
        service.wait(60)
    return summarise(mode, clients, seconds, seen, counts)


def summarise(mode: str, clients: int, seconds: float, seen: Seen, counts: dict[str, str]) -> Load:
    """Figures of one run."""
    latencies_ms = 1e3 * np.array(seen.latencies_s or [np.nan])
    warm = [mb for at, mb in seen.resident_mb if at <= max(_WARM_SHARE * seconds, 0.5)]
    return Load(
        mode=mode,
        clients=clients,
        seconds=seconds,
        requests=seen.codes[200],
        errors=seen.codes.total() - seen.codes[200],
        per_s=round(seen.codes[200] / seconds, 1),
        p50_ms=round(float(np.median(latencies_ms)), 2),
        p99_ms=round(float(np.quantile(latencies_ms, 0.99)), 2),
        worst_ms=round(float(latencies_ms.max()), 2),
        inputs_a_run=round(float(counts["edgekit_inputs_total"]) / max(1, float(counts["edgekit_batches_total"])), 2),
        resident_mb=round(seen.resident_mb[-1][1], 1),
        growth_mb=round(seen.resident_mb[-1][1] - max(warm), 1),
    )


def table(rows: list[Load]) -> str:
    """For people."""
    heads = ["mode", "clients", "s", "answers", "errors", "answers/s"]
    heads += ["p50 ms", "p99 ms", "worst ms", "inputs/run", "MB", "growth MB"]
    cells = [heads, ["---"] * len(heads), *([*map(str, asdict(row).values())] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def main() -> int:
    """Both modes, one after the other."""
    parser = argparse.ArgumentParser(description="samples/http-service under load.")
    parser.add_argument("bundle", type=Path, help="a bundle's directory")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--port", type=int, default=8091)
    parser.add_argument("--mode", choices=MODES, action="append", help="only this one")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    modes = asked.mode or list(MODES)
    rows = [asyncio.run(measure(asked.bundle, m, asked.clients, asked.seconds, asked.port)) for m in modes]
    print(json.dumps([asdict(row) for row in rows], indent=1) if asked.json else table(rows))
    return 0 if all(row.errors == 0 for row in rows) else 3


if __name__ == "__main__":
    sys.exit(main())
