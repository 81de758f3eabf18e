from __future__ import annotations

import json

from edgekit.recipe import Recipe
from edgekit.recipe.load import recipe_directory


def test_the_schema_beside_the_recipes_is_the_one_that_edgekit_prints() -> None:
    """Made anew by: edgekit schema > recipes/recipe.schema.json."""
    stored = json.loads((recipe_directory() / "recipe.schema.json").read_text(encoding="utf-8"))
    assert stored == Recipe.model_json_schema()


def test_every_recipe_names_it_for_editors() -> None:
    recipes = sorted(recipe_directory().glob("*.yaml"))
    assert len(recipes) >= 3
    for path in recipes:
        assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=recipe.schema.json\n")
