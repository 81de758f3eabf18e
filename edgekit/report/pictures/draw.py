"""From what was gathered to the sections of a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.errors import DataError
from edgekit.files import replacing
from edgekit.pictures import arrays_against, read_arrays
from edgekit.report.pictures.classes import classes_section
from edgekit.report.pictures.colours import style_of
from edgekit.report.pictures.confusion import confusion_section
from edgekit.report.pictures.curves import curves
from edgekit.report.pictures.maps import activation_section, made_section, saliency_section
from edgekit.report.pictures.reliability import reliability_section
from edgekit.report.pictures.section import Section
from edgekit.specs import Array

_MADE = ("reconstruction", "generation")


def draw(report: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[Section]:
    """Every section that a report has data for.

    Args:
        report: Content of results.json, or of a comparison; the first of its models is the base.
        arrays: As `pictures.arrays` of the report names them.

    Raises:
        DataError: if figures or arrays are missing.
    """
    if (report.get("recipe") or {}).get("report") == {"pictures": False}:
        return []
    sections = curves(report.get("training") or {}, str(report["metric"]))
    facts = (report.get("pictures") or {}).get("facts", {})
    try:
        return sections + [s for part in _parts(report, facts, arrays) for s in part]
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"what the pictures are drawn from lacks {error}; run the recipe again, which makes it anew"
        ) from error


def read_pictures(report: Mapping[str, Any], place: Path) -> dict[str, Array]:
    """The arrays of a report whose results.json lies in a directory.

    Raises:
        DataError: if they are not there or damaged.
    """
    file = (report.get("pictures") or {}).get("arrays")
    return read_arrays(place / file) if file else {}


def _parts(report: Mapping[str, Any], facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> Iterator[list[Section]]:
    if "classification" in facts:
        found = facts["classification"]
        styles = {model["name"]: style_of(report, model["name"]) for model in report["models"]}
        yield confusion_section(found)
        yield reliability_section(found, styles)
        yield classes_section(found, styles)
    against = facts.get("against", {})
    for variant, found in against.items():
        parts = _against(report, variant, found, arrays_against(variant, arrays))
        yield [replace(s, title=f"{s.title}: {variant}") for s in parts] if len(against) > 1 else parts


def _against(
    report: Mapping[str, Any], variant: str, found: Mapping[str, Any], arrays: Mapping[str, Array]
) -> list[Section]:
    """What compares the base with one variant."""
    names = report["models"][0]["name"], variant
    sections: list[Section] = []
    for kind in _MADE:
        if kind in found:
            sections += made_section(kind, found[kind], arrays, names)
    if "samples" in found:
        classes = report["pictures"]["classes"]
        sections += saliency_section(found, arrays, classes, names) if "saliency" in found else []
        sections += activation_section(found, arrays, classes, names)
    return sections


def write_pictures(sections: list[Section], place: Path) -> None:
    """Write every picture as a file of its own into a directory; those of an earlier report go."""
    pictures = {p.file: p for section in sections for p in section.pictures}
    for file in [*place.glob("*.svg"), *place.glob("*.png")]:
        if file.name not in pictures:
            file.unlink()
    for name, picture in pictures.items():
        with replacing(place / name) as temporary:
            temporary.write_bytes(picture.content)
