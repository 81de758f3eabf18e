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


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A .csv of 60 words with a sound for each letter."""
    path = tmp_path / "pairs.csv"
    path.write_text(spelled(60), encoding="utf-8")
    return path


def spelled(count: int, longest: int = 8) -> str:
    """A table of different words and their letters, loud at every other place."""
    draw = random.Random(0)
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(draw.choices("abcdefgh", k=draw.randint(1, longest)))] = None
    rows = [f"{word},{' '.join(f'{c.upper()}{i % 2}' for i, c in enumerate(word))}" for word in words]
    return "\n".join(["source,target", *rows]) + "\n"
