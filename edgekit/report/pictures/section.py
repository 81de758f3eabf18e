"""What a report shows beside its table: pictures, each with what has to be known to read it."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

PICTURES = "pictures"
"""The folder beside the report that holds them."""


@dataclass(frozen=True)
class Picture:
    """One picture, the same in the page and as a file.

    Attributes:
        file: Its name; ends in .svg or .png.
        alt: What it shows, for those who do not see it.
        content: The bytes of the file.
        width_px: At which a page shows it; a PNG has twice as many pixels, for sharp screens.
    """

    file: str
    alt: str
    content: bytes
    width_px: int

    @property
    def source(self) -> str:
        """The picture as a data URI; nothing is fetched."""
        kind = "image/svg+xml" if self.file.endswith(".svg") else "image/png"
        return f"data:{kind};base64,{base64.b64encode(self.content).decode()}"

    @property
    def markup(self) -> str:
        """An SVG as a page holds it, so that its tooltips work; "" for a PNG."""
        return self.content.decode() if self.file.endswith(".svg") else ""


@dataclass(frozen=True)
class Section:
    """Pictures that belong together.

    Attributes:
        title: Heading.
        text: How they were made and how to read them.
        pictures: Left to right.
        facts: Figures in words, one line each.
    """

    title: str
    text: str
    pictures: tuple[Picture, ...]
    facts: tuple[str, ...] = ()


def markdown_sections(sections: Sequence[Section]) -> list[str]:
    """The sections as lines of Markdown, with links to the files in the folder."""
    lines = []
    for section in sections:
        lines += ["", f"## {section.title}", "", section.text, ""]
        lines += [
            f'<img src="{PICTURES}/{p.file}" alt="{escape(p.alt)}" width="{p.width_px}">' for p in section.pictures
        ]
        lines += ["", *(f"- {fact}" for fact in section.facts)]
    return lines


def file_part(name: str) -> str:
    """A model's name as part of a file's.

    >>> file_part("runs/int8.onnx")
    'runs-int8.onnx'
    """
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")
