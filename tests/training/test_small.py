"""Training on less than it was made for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.text.conftest import sentences


@pytest.mark.parametrize("batch", [8, 16, 64])
def test_a_text_of_few_batches(tmp_path: Path, cli: Callable[..., Any], batch: int) -> None:
    (tmp_path / "t.txt").write_text("\n\n".join(sentences(40)), encoding="utf-8")
    data = f"{{file: {tmp_path / 't.txt'}, tokenizer: bytes, length: 64}}"
    answer = cli(
        *("train", "gpt", "--size", "pico", "--data", data, "--epochs", 4, "--out", tmp_path / "out"),
        *("--set", f"batch_size={batch}"),
    )
    assert answer.code == 0, answer.err
    small = [line for line in answer.err.splitlines() if "fewer than one batch of 64: each epoch is one step" in line]
    assert len(small) == (batch == 64)
