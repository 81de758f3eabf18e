"""Text out of a language model, token by token."""

from edgekit.generate.loop import Generation, generate
from edgekit.generate.model import LanguageModel, SessionModel
from edgekit.generate.speed import GenerationSpeed, measure_generation
from edgekit.runtime.sampling import Sampling
from edgekit.runtime.writing import Request

__all__ = [
    "Generation",
    "GenerationSpeed",
    "LanguageModel",
    "Request",
    "Sampling",
    "SessionModel",
    "generate",
    "measure_generation",
]
