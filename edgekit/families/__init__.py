"""Model families. A new one: one module here, one line in FAMILIES, one recipe, one test."""

from edgekit.families.cnn import CNN
from edgekit.families.family import Family
from edgekit.families.mlp import MLP

FAMILIES: dict[str, Family] = {f.name: f for f in (MLP, CNN)}

__all__ = ["FAMILIES", "Family"]
