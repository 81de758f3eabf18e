"""What pictures are drawn from: gathered once from models and data, kept as figures and arrays."""

from edgekit.pictures.gather import Subject, gather
from edgekit.pictures.record import Pictures, arrays_against, read_arrays, write_arrays

__all__ = ["Pictures", "Subject", "arrays_against", "gather", "read_arrays", "write_arrays"]
