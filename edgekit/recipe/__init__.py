"""Recipes: one flat file that says what to train, how to compress it, and what must be kept."""

from edgekit.recipe.load import find_recipe, list_recipes, load_recipe
from edgekit.recipe.mapping import read_mapping
from edgekit.recipe.model import BASE, Recipe, step_name

__all__ = ["BASE", "Recipe", "find_recipe", "list_recipes", "load_recipe", "read_mapping", "step_name"]
