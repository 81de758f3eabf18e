"""The pipeline."""

from edgekit.pipeline.results import ModelResult, Report
from edgekit.pipeline.run import run_recipe

__all__ = ["ModelResult", "Report", "run_recipe"]
