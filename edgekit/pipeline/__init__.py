"""From a recipe to a report: train, export, compress, evaluate, measure, report, pack."""

from edgekit.pipeline.results import ModelResult, Report
from edgekit.pipeline.run import run_recipe

__all__ = ["ModelResult", "Report", "run_recipe"]
