"""Grids of small images as one PNG, with a name a row and a column."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from textwrap import wrap
from typing import Any

import numpy as np

from edgekit.report.pictures.section import Picture
from edgekit.specs import Array

_SHARP = 2  # pixels of the file for one of the page
_FONT_PX, _LINE_PX, _GAP_PX, _LETTER_PX = 12, 15, 4, 6.6
_INK = (31, 41, 55)


@dataclass(frozen=True)
class Row:
    """One row of tiles.

    Attributes:
        name: Left of it; may have several lines.
        tiles: uint8 (height, width, 3) each; None leaves a place free.
    """

    name: str
    tiles: tuple[Array | None, ...]


def tile_grid(file: str, alt: str, rows: Sequence[Row], columns: Sequence[str] = (), side_px: int = 64) -> Picture:
    """Draw tiles, every pixel of an image as a square of whole pixels where it is smaller than the tile.

    Args:
        file: Name of the picture.
        alt: What it shows.
        rows: At least one, all of the same length.
        columns: Above the tiles; long ones are broken into lines.
        side_px: Of a tile on the page.
    """
    from PIL import Image, ImageDraw

    columns = [_broken(column, side_px) for column in columns]
    left = _margin(rows)
    top = _LINE_PX * max((c.count("\n") + 1 for c in columns), default=0) + _GAP_PX
    height = max(side_px, _LINE_PX * max(r.name.count("\n") + 1 for r in rows))
    size = (left + len(rows[0].tiles) * (side_px + _GAP_PX), top + len(rows) * (height + _GAP_PX))
    sheet = Image.new("RGB", (_SHARP * size[0], _SHARP * size[1]), "white")
    brush, font = ImageDraw.Draw(sheet), _font()
    for number, column in enumerate(columns):
        x = left + number * (side_px + _GAP_PX) + side_px / 2
        brush.multiline_text((_SHARP * x, 0), column, fill=_INK, font=font, anchor="ma", align="center", spacing=_SHARP)
    for index, row in enumerate(rows):
        y = top + index * (height + _GAP_PX)
        brush.multiline_text((0, _SHARP * (y + 2)), row.name, fill=_INK, font=font, spacing=_SHARP)
        for number, tile in enumerate(row.tiles):
            if tile is not None:
                sheet.paste(_scaled(tile, side_px), (_SHARP * (left + number * (side_px + _GAP_PX)), _SHARP * y))
    return Picture(file, alt, _png(sheet), size[0])


def _margin(rows: Sequence[Row]) -> int:
    widest = max(_font().getlength(line) for row in rows for line in row.name.split("\n"))
    return ceil(widest / _SHARP) + 10 if widest else 0


def _broken(column: str, side_px: int) -> str:
    """A name in lines that fit above a tile, where it has hyphens or spaces to break at."""
    return "\n".join(wrap(column, max(6, int((side_px + _GAP_PX) / _LETTER_PX))))


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(_SHARP * _FONT_PX)


def _scaled(tile: Array, side_px: int) -> Any:
    """A tile that fills its place; small ones keep their pixels as squares, large ones are averaged."""
    from PIL import Image

    side = _SHARP * side_px
    smooth = max(tile.shape[:2]) > side
    ratio = side / max(tile.shape[:2])
    size = (max(1, round(tile.shape[1] * ratio)), max(1, round(tile.shape[0] * ratio)))
    image = Image.fromarray(np.ascontiguousarray(tile))
    return image.resize(size, Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)


def _png(sheet: Any) -> bytes:
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()
