"""The `model:` of a recipe: every mistake has its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import RecipeError
from edgekit.recipe import load_recipe


def refused(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "r.yaml"
    path.write_text(f"name: r\ndata: digits\n{text}")
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    return [line.replace(str(tmp_path) + "/", "") for line in str(error.value).splitlines()]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "r.yaml:1: family: is missing; add it, or `model` to load a trained one"),
        (
            "model: {}\n",
            "r.yaml:3: model: say what the model is: exactly one of the keys onnx, checkpoint, hf, builder",
        ),
        ("model: {onnx: a.onnx, hf: b}\n", "r.yaml:3: model: say what the model is: exactly one of the keys"),
        ("model:\n  onxx: a.onnx\n", "r.yaml:4: model.onxx: unknown key; did you mean 'onnx'? allowed: onnx,"),
        ("model: {onnx: a.onnx, weights: b}\n", "r.yaml:3: model: `weights` does not go with `onnx`"),
        ("model: {family: cnn}\n", "r.yaml:3: model: `family` needs `weights`"),
        ("model: {family: cn, weights: b}\n", "r.yaml:3: model.family: unknown family 'cn'; did you mean 'cnn'?"),
        ("model: {builder: a:b, task: sorting}\n", "r.yaml:3: model.task: unknown task 'sorting'"),
        (
            "model:\n  builder: a:b\n  inputs: {image: 1x-2}\n",
            "r.yaml:5: model.inputs: input 'image': '1x-2' is no shape of positive numbers",
        ),
        (
            "model:\n  family: cnn\n  weights: b\n  mapping:\n    strip: 3\n",
            "r.yaml:7: model.mapping.strip: input should be a valid string, got 3",
        ),
        ("model: {onnx: a.onnx}\nfamily: cnn\n", "r.yaml:4: family: does not go with `model`; put it inside"),
        ("model: {onnx: a.onnx}\nsize: base\n", "r.yaml:4: size: does not go with `model`"),
        ("model: {onnx: a.onnx}\ntrain: {epochs: 1}\n", "r.yaml:4: train: an ONNX file cannot be trained"),
        (
            "model: {family: cnn, weights: b}\nvariants: {a: [{quantize: dynamic}]}\n",
            "r.yaml:4: variants.a[0]: family 'cnn' refuses `quantize: dynamic`",
        ),
    ],
)
def test_one_mistake(tmp_path: Path, text: str, said: str) -> None:
    lines = refused(tmp_path, text)
    assert len(lines) == 1
    assert lines[0].startswith(said)


def test_a_mapping_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("strip: module.\nrenames: {}\n")
    text = "model: {family: cnn, weights: b, mapping: map.yaml}\n"
    assert refused(tmp_path, text) == [
        "map.yaml:2: model.mapping.renames: unknown key; did you mean 'rename'? allowed: strip, rename, transpose, "
        "allow_missing, allow_extra"
    ]
    assert refused(tmp_path, text.replace("map.yaml", "none.yaml")) == [
        "mapping none.yaml is not there; give a YAML file"
    ]


def test_paths_are_those_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "vit").mkdir()

    def model(text: str) -> object:
        (tmp_path / "r.yaml").write_text(f"name: r\ndata: digits\nmodel: {text}\n")
        return load_recipe(tmp_path / "r.yaml").model

    assert getattr(model("{onnx: a.onnx}"), "onnx") == str(tmp_path / "a.onnx")  # noqa: B009
    assert getattr(model("{hf: vit}"), "hf") == str(tmp_path / "vit")  # noqa: B009
    assert getattr(model("{hf: google/vit}"), "hf") == "google/vit"  # noqa: B009
    assert getattr(model("{builder: a.py:b}"), "builder") == str(tmp_path / "a.py:b")  # noqa: B009
    assert getattr(model("{builder: a.b:c}"), "builder") == "a.b:c"  # noqa: B009
