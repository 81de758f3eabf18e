from __future__ import annotations

import importlib
from typing import Any

import pytest

from edgekit.errors import MissingPackageError
from edgekit.ort.runtime import require_ort


def failing(error: ImportError) -> Any:
    def load(name: str) -> Any:
        raise error

    return load


def test_a_stop_while_the_library_starts_is_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = ImportError("initialization failed")
    failed.__cause__ = KeyboardInterrupt()
    monkeypatch.setattr(importlib, "import_module", failing(failed))
    with pytest.raises(KeyboardInterrupt):
        require_ort()


def test_a_damaged_library_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", failing(ImportError("libcudart.so.13: no such file")))
    with pytest.raises(ImportError, match="libcudart"):
        require_ort()


def test_a_missing_one_comes_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", failing(ModuleNotFoundError("onnxruntime")))
    with pytest.raises(MissingPackageError, match="pip install"):
        require_ort()
