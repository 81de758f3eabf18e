"""preprocessor_config.json against the processors that wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ModelError
from edgekit.load.image_processor import FILE, read_image_processor
from tests.pillow_reference import read_picture, resized


def processor(name: str, **options: Any) -> Any:
    import transformers

    return getattr(transformers, name)(**options)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViTImageProcessor", {"size": {"height": 24, "width": 32}}),
    "vit-bicubic": ("ViTImageProcessor", {"size": {"height": 24, "width": 24}, "resample": 3}),
    "convnext": ("ConvNextImageProcessor", {"size": {"shortest_edge": 28}, "crop_pct": 0.875}),
    "convnext-warped": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    "bit": ("BitImageProcessor", {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 28}}),
    "deit": ("DeiTImageProcessor", {"size": {"height": 36, "width": 36}, "crop_size": {"height": 32, "width": 32}}),
    "mobilenet": ("MobileNetV2ImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": 32}),
    "plain": ("ViTImageProcessor", {"size": {"height": 16, "width": 16}, "do_normalize": False, "do_rescale": False}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(50, 71), (71, 50), (20, 12)])
def test_pictures_come_out_as_hugging_face_makes_them(case: str, shape: tuple[int, int], tmp_path: Path) -> None:
    theirs = processor(CASES[case][0], **CASES[case][1])
    theirs.save_pretrained(tmp_path)
    ours = read_image_processor(tmp_path / FILE, 3)
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    wanted = theirs(picture, return_tensors="np")["pixel_values"]
    got = ours(resized(picture, ours)[None])
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_metadata_of_resizing(tmp_path: Path) -> None:
    processor("ConvNextImageProcessor", size={"shortest_edge": 28}).save_pretrained(tmp_path)
    said = read_image_processor(tmp_path / FILE, 3).as_dict()
    assert (said["resize"], said["resample"], said["height"], said["width"]) == ((32,), "bilinear", 28, 28)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"image_processor_type": "EfficientNetImageProcessor"}, "image processor 'EfficientNetImageProcessor' is unk"),
        ({"image_processor_type": "ViTImageProcessor", "do_flip_channel_order": True}, "is not supported"),
        ({"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 9}, "do_center_crop": False}, "crop"),
        ({"image_mean": [0.5]}, "mean and deviation of 1 channels for a model of 3"),
        ({"size": {"height": "big", "width": 3}}, "cannot be used"),
        ([], "cannot be used"),
    ],
)
def test_configs_that_cannot_be_used(config: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(config))
    with pytest.raises(ModelError, match=said):
        read_image_processor(tmp_path / FILE, 3)


def test_pictures_from_files(tmp_path: Path) -> None:
    from PIL import Image

    processor("ViTImageProcessor", size={"height": 8, "width": 8}).save_pretrained(tmp_path)
    ours = read_image_processor(tmp_path / FILE, 3)
    Image.new("RGB", (20, 10), (255, 0, 0)).save(tmp_path / "red.png")
    made = read_picture(tmp_path / "red.png", ours)
    assert made.shape == (1, 3, 8, 8)
    np.testing.assert_allclose(made[0, :, 4, 4], [1, -1, -1])
