"""A bundle behind HTTP: python app.py BUNDLE (see README.md)."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from pathlib import Path

import uvicorn
from limits import PatientProtocol
from service import Options, make_app

from edgekit.errors import EdgekitError
from edgekit.runtime import load


def main() -> int:
    """Serve until SIGTERM or Ctrl-C; what was asked by then is answered first."""
    asked = _arguments()
    try:
        model = load(asked.bundle, provider=asked.provider, variant=asked.variant, threads=asked.threads)
    except EdgekitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    options = Options(
        max_batch=asked.max_batch,
        max_wait_ms=asked.max_wait_ms,
        max_queue=asked.max_queue,
        max_body_bytes=int(asked.max_body_mb * 1e6),
        body_timeout_s=asked.patience_s,
    )
    config = uvicorn.Config(
        make_app(model, options),
        host=asked.host,
        port=asked.port,
        http=PatientProtocol.with_patience(asked.patience_s),
        ws="none",
        backlog=2048,
        timeout_keep_alive=math.ceil(asked.patience_s),
        timeout_graceful_shutdown=30,
        access_log=False,
        log_level="warning" if asked.quiet else "info",
    )
    # uvicorn ends gracefully, and then sends itself the signal once more: by now that is no reason to fail
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a bundle's model over HTTP.")
    parser.add_argument("bundle", type=Path, help="a directory or a .zip")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for every network (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--provider", help="only this one, such as cuda")
    parser.add_argument("--variant", help="only this one")
    parser.add_argument("--threads", type=int, help="of one run of the model (default: all cores)")
    parser.add_argument("--max-batch", type=int, default=16, help="inputs of one run; 1: no batching (default: 16)")
    parser.add_argument("--max-wait-ms", type=float, default=2, help="a batch's first input waits (default: 2)")
    parser.add_argument("--max-queue", type=int, default=512, help="requests in work; more get 503 (default: 512)")
    parser.add_argument("--max-body-mb", type=float, default=10, help="a request's body (default: 10)")
    parser.add_argument("--patience-s", type=float, default=10, help="for a client that sends slowly (default: 10)")
    parser.add_argument("--quiet", action="store_true", help="warnings only")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
