"""The pictures of a report: drawn from what was gathered, the same in the page and as files."""

from edgekit.report.pictures.draw import draw, read_pictures, write_pictures
from edgekit.report.pictures.section import PICTURES, Picture, Section, markdown_sections

__all__ = ["PICTURES", "Picture", "Section", "draw", "markdown_sections", "read_pictures", "write_pictures"]
