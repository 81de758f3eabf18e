from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ModelError
from edgekit.training.checkpoint import CONFIG, WEIGHTS, load_checkpoint, save_checkpoint


@pytest.fixture
def copy(pico_mlp: Path, tmp_path: Path) -> Path:
    place = tmp_path / "checkpoint"
    place.mkdir()
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(pico_mlp / name, place / name)
    return place


def refusal(place: Path) -> str:
    with pytest.raises(ModelError) as error:
        load_checkpoint(place)
    return str(error.value)


def test_saved_and_loaded(copy: Path, tmp_path: Path) -> None:
    model = load_checkpoint(copy)
    save_checkpoint(model, tmp_path / "again", {"note": "more"})
    assert load_checkpoint(tmp_path / "again").card == model.card
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == [CONFIG, WEIGHTS]
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (copy / WEIGHTS).read_bytes()


def test_a_directory_that_is_no_checkpoint(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"{tmp_path} is no checkpoint of edgekit: it has no {CONFIG}; give a directory that `edgekit train` wrote"
    )


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"card": 3}', '{"card": {"family": "mlp"}}', "\udcff"])
def test_a_damaged_config(copy: Path, content: str) -> None:
    (copy / CONFIG).write_bytes(content.encode("utf-8", "surrogateescape"))
    said = refusal(copy)
    assert said.startswith(f"{copy / CONFIG} is damaged (")
    assert said.endswith("); train again or copy it again")


def edit(place: Path, **changes: Any) -> None:
    config = json.loads((place / CONFIG).read_text())
    config["card"].update(changes)
    (place / CONFIG).write_text(json.dumps(config))


def test_a_family_that_this_edgekit_does_not_have(copy: Path) -> None:
    edit(copy, family="resnext")
    assert refusal(copy).startswith(f"{copy / CONFIG}: this edgekit has no family 'resnext'; it has ")


def test_weights_of_another_family(copy: Path, pico_cnn: Path) -> None:
    shutil.copyfile(pico_cnn / WEIGHTS, copy / WEIGHTS)
    assert refusal(copy).startswith(f"{copy / WEIGHTS} does not fit its {CONFIG}: ")


@pytest.mark.parametrize("changes", [{"size": "small"}, {"classes": ["a", "b"]}])
def test_a_config_of_another_model(copy: Path, changes: dict[str, Any]) -> None:
    edit(copy, **changes)
    assert refusal(copy).startswith(f"{copy / WEIGHTS} does not fit its {CONFIG}: ")


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:20],
        lambda raw: raw[:-10],
        lambda raw: b"\xff" * 8 + raw[8:],
        lambda raw: b"<html></html>",
        lambda raw: raw[:8] + b"{" * 40 + raw[48:],
    ],
    ids=["empty", "cut in the header", "cut in the data", "a header bomb", "HTML", "garbage"],
)
def test_damaged_weights(copy: Path, damage: Callable[[bytes], bytes]) -> None:
    (copy / WEIGHTS).write_bytes(damage((copy / WEIGHTS).read_bytes()))
    said = refusal(copy)
    assert said.startswith(f"{copy / WEIGHTS} is missing or damaged (")
    assert said.endswith("); train again or copy it again")


def test_missing_weights(copy: Path) -> None:
    (copy / WEIGHTS).unlink()
    assert refusal(copy).startswith(f"{copy / WEIGHTS} is missing or damaged (")
