"""A bundle behind HTTP: python app.py BUNDLE (see README.md)."""

from __future__ import annotations

import argparse
import math
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from limits import PatientProtocol
from service import Options, make_app

from edgekit.errors import EdgekitError
from edgekit.runtime import Model, load
from edgekit.runtime.seal import read_key

VERDICT_NO = 3
_CONNECTIONS = 10_000


def main() -> int:
    """Serve until SIGTERM or Ctrl-C; what was asked by then is answered first."""
    asked = _arguments()
    try:
        keys: dict[str, Any] = {"public_key": asked.key, "key": read_key(asked.key_file, asked.key_env)}
        chosen: dict[str, Any] = {"provider": asked.provider, "variant": asked.variant, "threads": asked.threads}
        model = load(asked.bundle, **keys, **chosen)
        return _check(asked, model) if asked.check else _serve(asked, model)
    except EdgekitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _serve(asked: argparse.Namespace, model: Model) -> int:
    _allow_connections()
    config = _config(asked, model, asked.host, asked.port)
    listening = _listen(asked.host, asked.port)
    if not asked.quiet:
        print(f"{model.manifest.name} on http://{asked.host}:{listening.getsockname()[1]}/", file=sys.stderr)
    # uvicorn ends gracefully, and then sends itself the signal once more: by now that is no reason to fail
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listening])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise EdgekitError(f"port {port} of {host} cannot be had ({error}); name another with --port") from error


def _allow_connections() -> None:
    """More at a time than the 1024 open files that are usual, where the system lets this process have them."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS if most == resource.RLIM_INFINITY else min(most, _CONNECTIONS)
    if usual < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _check(asked: argparse.Namespace, model: Model) -> int:
    """Say what became of each golden sample."""
    from prove import check_route

    config, found = _config(asked, model, "127.0.0.1", 0), []
    for outcome in check_route(config, asked.bundle, model.variant.name, model.manifest):
        word = {True: "ok  ", False: "FAIL", None: "left out"}[outcome.ok]
        print(f"{word} {outcome.name}: {outcome.detail}")
        found.append(outcome.ok)
    return 0 if False not in found and True in found else VERDICT_NO


def _config(asked: argparse.Namespace, model: Model, host: str, port: int) -> uvicorn.Config:
    most_bytes = int(asked.max_body_mb * 1e6)
    options = Options(
        max_batch=asked.max_batch,
        max_wait_ms=asked.max_wait_ms,
        max_queue=asked.max_queue,
        max_body_bytes=most_bytes,
        max_held_bytes=max(most_bytes, Options.max_held_bytes),
        max_pixels=int(asked.max_megapixels * 1e6),
        body_timeout_s=asked.patience_s,
    )
    return uvicorn.Config(
        make_app(model, options),
        host=host,
        port=port,
        http=PatientProtocol.with_patience(asked.patience_s),
        ws="none",
        backlog=2048,
        timeout_keep_alive=math.ceil(asked.patience_s),
        timeout_graceful_shutdown=25,  # Kubernetes kills after 30
        access_log=False,
        log_level="warning" if asked.quiet or asked.check else "info",
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a bundle's model over HTTP.")
    parser.add_argument("bundle", type=Path, help="a directory or a .zip")
    parser.add_argument("--check", action="store_true", help="send it the bundle's golden samples and say how it did")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for every network (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--provider", help="only this one, such as cuda")
    parser.add_argument("--variant", help="only this one")
    parser.add_argument("--threads", type=int, help="of one run of the model (default: all cores)")
    parser.add_argument("--key", type=Path, help="public key, PEM, of who must have signed the bundle")
    parser.add_argument("--key-file", type=Path, help="key of an encrypted bundle")
    parser.add_argument("--key-env", help="environment variable with that key")
    parser.add_argument("--max-batch", type=int, default=16, help="inputs of one run; 1: no batching (default: 16)")
    parser.add_argument("--max-wait-ms", type=float, default=2, help="a batch's first input waits (default: 2)")
    parser.add_argument("--max-queue", type=int, default=512, help="requests in work; more get 503 (default: 512)")
    parser.add_argument("--max-body-mb", type=float, default=10, help="a request's body (default: 10)")
    parser.add_argument("--max-megapixels", type=float, default=24, help="a picture (default: 24)")
    parser.add_argument("--patience-s", type=float, default=10, help="for a client that sends slowly (default: 10)")
    parser.add_argument("--quiet", action="store_true", help="warnings only")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
