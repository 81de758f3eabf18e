"""Searching for the best compression of a file, with proof."""

from edgekit.search.quantize import QuantizeReport, quantize_model
from edgekit.search.request import QuantizeRequest

__all__ = ["QuantizeReport", "QuantizeRequest", "quantize_model"]
