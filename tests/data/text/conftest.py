from __future__ import annotations

import random
from pathlib import Path

import pytest

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "bird",
    "sat",
    "ran",
    "flew",
    "on",
    "under",
    "over",
    "mat",
    "log",
    "wire",
    "and",
    "then",
    "it",
    "was",
    "so",
    "very",
]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different sentences of a few words."""
    draw = random.Random(seed)
    return [f"{' '.join(draw.choices(WORDS, k=12))} {i}." for i in range(count)]


@pytest.fixture
def novel(tmp_path: Path) -> Path:
    """A .txt of 60 texts with an empty line between two of them."""
    path = tmp_path / "novel.txt"
    path.write_text("\n\n".join(sentences(60)), encoding="utf-8")
    return path


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    """A .csv of 60 texts of two kinds."""
    path = tmp_path / "mails.csv"
    rows = [f'"{text}","{"spam" if i % 3 == 0 else "ham"}"' for i, text in enumerate(sentences(60))]
    path.write_text("\n".join(["body,kind", *rows]) + "\n", encoding="utf-8")
    return path
