"""`python -m edgekit.runtime BUNDLE INPUT…`: answers as JSON lines, with numpy and ONNX Runtime alone."""

from __future__ import annotations

import sys

from edgekit.runtime.script import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
