"""`python -m edgekit` and the `edgekit` console script."""

from __future__ import annotations

import os
import sys

from edgekit import cli


def main() -> None:
    """Run a command; after Ctrl-C end at once, since taking down torch's modules can take seconds."""
    try:
        cli.main()
    except SystemExit as stop:
        if stop.code == cli.INTERRUPTED:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(cli.INTERRUPTED)
        raise


if __name__ == "__main__":
    main()
