"""Searching for the best compression of a file, with proof. Importing it registers `quantize: auto`."""

from edgekit.search.auto import AutoConfig
from edgekit.search.quantize import QuantizeReport, quantize_model
from edgekit.search.request import QuantizeRequest

__all__ = ["AutoConfig", "QuantizeReport", "QuantizeRequest", "quantize_model"]
