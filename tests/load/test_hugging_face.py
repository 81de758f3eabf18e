"""Hugging Face directories that the tests themselves save, and hub ids without a network."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgekit.errors import ModelError
from edgekit.load import open_checkpoint
from edgekit.load.hub import is_hub_id
from edgekit.load.hugging_face import load_hugging_face
from edgekit.ort import Session
from edgekit.training.checkpoint import save_checkpoint

LABELS = {0: "cat", 1: "dog", 2: "owl"}
CONFIGS: dict[str, dict[str, Any]] = {
    "ViT": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 16,
        "patch_size": 8,
    },
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"},
    "ConvNext": {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2, "patch_size": 2},
}
Cli = Callable[..., Any]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory an architecture; only to be read."""
    import transformers

    place = tmp_path_factory.mktemp("hf")
    torch.manual_seed(0)
    labels = {"id2label": LABELS, "label2id": {v: k for k, v in LABELS.items()}}
    for name, options in CONFIGS.items():
        config = getattr(transformers, f"{name}Config")(**options, **labels)
        getattr(transformers, f"{name}ForImageClassification")(config).eval().save_pretrained(place / name)
        transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(place / name)
    return place


@pytest.fixture
def vit(saved: Path, tmp_path: Path) -> Path:
    """A ViT's directory, to be changed."""
    return Path(shutil.copytree(saved / "ViT", tmp_path / "vit"))


def change(place: Path, **entries: Any) -> None:
    path = place / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def refusal(place: Path) -> str:
    with pytest.raises(ModelError) as error:
        load_hugging_face(place)
    return str(error.value)


@pytest.mark.parametrize("name", CONFIGS)
def test_export_of_image_classifiers(name: str, saved: Path, tmp_path: Path, cli: Cli) -> None:
    answer = cli("export", saved / name, "--out", tmp_path / "m.onnx", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["parity"]["batches"] == [1, 2, 7]
    session = Session(tmp_path / "m.onnx")
    assert [str(s) for s in session.inputs] == ["pixel_values: float32 batchx3x16x16"]
    assert [(s.name, s.shape) for s in session.outputs] == [("logits", ("batch", 3))]
    assert json.loads(session.metadata["edgekit.classes"]) == ["cat", "dog", "owl"]
    said = json.loads(session.metadata["edgekit.preprocessing"])
    assert (said["resize"], said["mean"], said["scale"]) == ([16, 16], [0.5] * 3, pytest.approx(1 / 255))
    from transformers import AutoModelForImageClassification

    theirs = AutoModelForImageClassification.from_pretrained(saved / name).eval()
    pixels = np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)
    with torch.inference_mode():
        wanted = theirs(pixel_values=torch.from_numpy(pixels)).logits.numpy()
    np.testing.assert_allclose(session.run({"pixel_values": pixels})[0], wanted, atol=1e-5)


def test_a_checkpoint_of_it_is_built_again_without_its_directory(saved: Path, tmp_path: Path) -> None:
    model = load_hugging_face(saved / "ResNet")
    save_checkpoint(model, tmp_path / "c", {})
    again = open_checkpoint(tmp_path / "c")
    assert (again.card.family, again.card.classes) == ("hf:resnet", ("cat", "dog", "owl"))
    assert again.card.architecture == model.card.architecture
    assert str(saved) not in (tmp_path / "c" / "config.json").read_text()
    pixels = {"pixel_values": np.ones((2, 3, 16, 16), np.float32)}
    np.testing.assert_array_equal(again.run(pixels)[0], model.run(pixels)[0])


def test_pickled_weights_are_read_without_running_them(vit: Path) -> None:
    weights = load_file(vit / "model.safetensors")
    (vit / "model.safetensors").unlink()
    torch.save(weights, vit / "pytorch_model.bin")
    assert load_hugging_face(vit).card.classes == ("cat", "dog", "owl")

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {vit / 'touched'}",)

    torch.save({**weights, "hook": Bomb()}, vit / "pytorch_model.bin")
    assert "holds code, not only weights: it would call posix.system" in refusal(vit)
    assert not (vit / "touched").exists()


def test_a_directory_without_weights(vit: Path, cli: Cli) -> None:
    (vit / "model.safetensors").unlink()
    answer = cli("export", vit, "--out", vit / "m.onnx")
    assert answer.code == 1
    assert answer.err == (
        f"error: {vit} has no weights: neither model.safetensors nor pytorch_model.bin, only config.json, "
        f"preprocessor_config.json; copy or download them (`hf download ID --local-dir {vit}`)\n"
    )


def test_damaged_weights_and_configs(vit: Path) -> None:
    whole = (vit / "model.safetensors").read_bytes()
    (vit / "model.safetensors").write_bytes(whole[:-100])
    assert "copy or download it again" in refusal(vit)
    (vit / "model.safetensors").write_bytes(whole)
    change(vit, hidden_size=12)
    assert "shape of vit.embeddings.cls_token: it must be (1, 1, 12)" in refusal(vit)
    change(vit, hidden_size="wide")
    assert "cannot be" in refusal(vit)
    (vit / "config.json").write_text("{")
    assert "config.json is missing or damaged" in refusal(vit)


def test_a_head_that_is_not_there_is_not_made_up(vit: Path) -> None:
    weights = {k: v for k, v in load_file(vit / "model.safetensors").items() if not k.startswith("classifier")}
    save_file(weights, vit / "model.safetensors", {"format": "pt"})
    assert refusal(vit).splitlines()[1:] == ["missing classifier.bias", "missing classifier.weight"]


def test_models_that_are_no_image_classifiers(vit: Path) -> None:
    change(vit, model_type="bert")
    assert "model type 'bert' is no image classifier that transformers" in refusal(vit)
    change(vit, model_type="nonesuch")
    assert "model type 'nonesuch'" in refusal(vit)


def test_code_that_comes_with_a_model_is_refused(vit: Path, cli: Cli) -> None:
    (vit / "modeling.py").write_text(f"open({str(vit / 'touched')!r}, 'w')\n")
    change(vit, auto_map={"AutoModelForImageClassification": "modeling.Net"})
    answer = cli("export", vit, "--out", vit / "m.onnx")
    assert answer.code == 1
    assert "asks to run Python code of its own (modeling.Net)" in answer.err
    assert "add --trust-remote-code" in answer.err
    assert not (vit / "touched").exists()


def test_without_a_preprocessor_the_size_is_the_configs(vit: Path, saved: Path, tmp_path: Path) -> None:
    (vit / "preprocessor_config.json").unlink()
    card = load_hugging_face(vit).card
    assert (card.inputs[0].shape, card.preprocessing) == (("batch", 3, 16, 16), {})
    bare = Path(shutil.copytree(saved / "ResNet", tmp_path / "resnet"))
    (bare / "preprocessor_config.json").unlink()
    assert "says how large pictures are" in refusal(bare)


def test_ids_of_the_hub() -> None:
    assert is_hub_id("google/vit-base-patch16-224")
    assert not any(map(is_hub_id, ("models/cnn.onnx", "a/b/c", "vit", "../vit/x", "runs/w.safetensors")))


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_an_id_without_a_network_is_told_at_once(how: str, tmp_path: Path, process: Callable[..., Any]) -> None:
    reach = {"HF_HUB_OFFLINE": "1"} if how == "offline" else {"HF_ENDPOINT": "http://127.0.0.1:9"}
    none = {name: "" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")}
    started = time.monotonic()
    answer = process(
        "export", "nobody/nothing", "--out", tmp_path / "m.onnx", HF_HOME=str(tmp_path / "hf"), **reach, **none
    )
    assert time.monotonic() - started < 60
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert "model nobody/nothing is no path here and not in the cache" in answer.err
    assert "`hf download nobody/nothing --local-dir nothing`" in answer.err
    assert ("HF_HUB_OFFLINE forbids" if how == "offline" else "127.0.0.1 cannot be reached") in answer.err
