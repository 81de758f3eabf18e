"""Text out of a language model, token by token."""

from edgekit.generate.loop import Generation, Request, generate
from edgekit.generate.model import LanguageModel, SessionModel
from edgekit.generate.sampling import Sampling

__all__ = ["Generation", "LanguageModel", "Request", "Sampling", "SessionModel", "generate"]
