"""Models that others trained: weights with our names or theirs, code of the user, Hugging Face directories."""

from edgekit.load.builder import Builder
from edgekit.load.foreign import Description, WeightFile, adapted
from edgekit.load.inputs import parse_inputs
from edgekit.load.mapping import WeightMapping
from edgekit.load.source import Hints, ModelSource, fingerprint, load_model, open_checkpoint, recognise
from edgekit.load.weights import read_weights

__all__ = [
    "Builder",
    "Description",
    "Hints",
    "ModelSource",
    "WeightFile",
    "WeightMapping",
    "adapted",
    "fingerprint",
    "load_model",
    "open_checkpoint",
    "parse_inputs",
    "read_weights",
    "recognise",
]
