from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edgekit.recipe import Recipe, list_recipes
from edgekit.recipe.source import read_recipe


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return Recipe.model_json_schema()


def objects_in(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from objects_in(child)


def test_every_reference_in_it_leads_somewhere(schema: dict[str, Any]) -> None:
    references = {node["$ref"] for node in objects_in(schema) if isinstance(node.get("$ref"), str)}
    assert references == {f"#/$defs/{name}" for name in schema["$defs"]}


def test_unknown_keys_are_refused_everywhere(schema: dict[str, Any]) -> None:
    models = [schema, *schema["$defs"].values()]
    assert all(model["additionalProperties"] is False for model in models if model.get("type") == "object")
    assert schema["required"] == ["name", "data"]


@pytest.mark.parametrize("name", list_recipes())
def test_a_validator_accepts_every_recipe(schema: dict[str, Any], name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="no validator of JSON schemas is installed")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(read_recipe(list_recipes()[name]).data, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**read_recipe(list_recipes()[name]).data, "trane": {}}, schema)
