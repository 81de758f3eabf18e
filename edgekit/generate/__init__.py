"""Text out of a language model, token by token."""

from edgekit.generate.loop import Generation, Request, generate
from edgekit.generate.model import LanguageModel, SessionModel
from edgekit.generate.sampling import Sampling
from edgekit.generate.speed import GenerationSpeed, measure_generation

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
