"""What an app embeds: a bundle's model, its preprocessing and its answers, on numpy and ONNX Runtime alone.

from edgekit.runtime import load

with load("digits.zip") as model:
    print(model.predict("seven.png").label)
"""

from edgekit.runtime.answers import Candidacy, Prediction
from edgekit.runtime.manifest import Manifest, Variant, read_manifest
from edgekit.runtime.model import Model, load

__all__ = ["Candidacy", "Manifest", "Model", "Prediction", "Variant", "load", "read_manifest"]
