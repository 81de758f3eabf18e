"""Answers on a command line where nothing but numpy and ONNX Runtime is installed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.runtime.model import load
from edgekit.runtime.seal import read_key
from edgekit.runtime.sources import answer_words


def main(words: Sequence[str], bundle: Path | None = None) -> int:
    """Answer inputs, a line of JSON for each.

    Args:
        words: Of the command line; the bundle is the first of them where it is not given.
        bundle: Its directory or .zip.

    Returns:
        The exit code: 0, or 1 if something could not be answered.
    """
    parser = argparse.ArgumentParser(description="Answer inputs with a bundle's model; one line of JSON for each.")
    if bundle is None:
        parser.add_argument("bundle", type=Path, help="a directory or a .zip")
    parser.add_argument("inputs", nargs="+", help="files, folders, texts for a model of text, or - for standard input")
    parser.add_argument("--provider", help="only this one, such as cuda")
    parser.add_argument("--variant", help="only this one")
    parser.add_argument("--top", type=int, default=5, help="classes to name, at most")
    parser.add_argument("--truncate", action="store_true", default=None, help="cut texts that are too long")
    parser.add_argument("--key", type=Path, help="public key, PEM, of who must have signed the bundle")
    parser.add_argument("--key-file", type=Path, help="key of encrypted models")
    parser.add_argument("--key-env", help="environment variable with that key")
    asked = parser.parse_args(list(words))
    try:
        return _answer(asked, bundle or asked.bundle)
    except EdgekitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _answer(asked: argparse.Namespace, bundle: Path) -> int:
    """Print the answers; 1 if one is missing."""
    failed = False
    keys: dict[str, Any] = {"public_key": asked.key, "key": read_key(asked.key_file, asked.key_env)}
    with load(bundle, provider=asked.provider, variant=asked.variant, truncate=asked.truncate, **keys) as model:
        for answered in answer_words(model, asked.inputs, top=asked.top):
            failed = failed or answered.prediction is None
            told = {"error": answered.error} if answered.prediction is None else answered.prediction.as_dict()
            print(json.dumps({"input": answered.name, **told}, ensure_ascii=False))
    return int(failed)
