"""Serve the page and a bundle: python3 serve.py BUNDLE [--port 8000].

Any static server does: it has to give .mjs and .wasm their types, and the two headers below if ONNX Runtime is to use
more than one thread. The bundle's directory is served as /bundle/, and a .zip as /bundle.zip.
"""

from __future__ import annotations

import argparse
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SITE = Path(__file__).resolve().parent / "site"
TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".zip": "application/zip",
}
ZIP = "bundle.zip"
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


class Handler(SimpleHTTPRequestHandler):
    """The site, and the bundle's files below /bundle/; nothing is listed."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def __init__(self, *args: object, bundle: Path, **kwargs: object) -> None:
        self.bundle = bundle
        super().__init__(*args, directory=str(SITE), **kwargs)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        """Where a URL's file is; `..` was taken out by the base class."""
        found = Path(super().translate_path(path))
        if self.bundle.is_file():
            return str(self.bundle if found == SITE / ZIP else found)
        below = SITE / "bundle"
        return str(self.bundle / found.relative_to(below)) if found.is_relative_to(below) else str(found)

    def end_headers(self) -> None:
        """With the headers that every answer has."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path: object) -> None:
        """No listings."""
        self.send_error(404)

    def log_message(self, *args: object) -> None:
        """Quiet."""


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the page and a bundle.")
    parser.add_argument("bundle", type=Path, help="a bundle: a directory or a .zip")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument(
        "--host", default="127.0.0.1", help="browsers give hashes and threads to localhost and https only"
    )
    asked = parser.parse_args()
    packed = asked.bundle.is_file()
    if not packed and not (asked.bundle / "manifest.json").is_file():
        parser.error(f"{asked.bundle} has no manifest.json; name a bundle's directory, or a .zip")
    if not (SITE / "vendor").is_dir():
        parser.error("site/vendor is missing; run: npm install && npm run vendor")
    with ThreadingHTTPServer((asked.host, asked.port), partial(Handler, bundle=asked.bundle.resolve())) as server:
        print(f"http://localhost:{server.server_port}/{f'?bundle={ZIP}' if packed else ''}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
