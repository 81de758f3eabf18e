"""A Hugging Face preprocessor_config.json -> our preprocessing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.data import ImagePreprocessing
from edgekit.errors import ModelError

FILE = "preprocessor_config.json"
# Image processors that do nothing but resize, crop, rescale and normalise, in this order.
_KNOWN = ("ViT", "DeiT", "Beit", "Bit", "ConvNext", "CLIP", "Siglip", "MobileNetV1", "MobileNetV2", "Swin", "ResNet")
_RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers
_CONVNEXT_CROP, _CONVNEXT_WARPS_FROM = 224 / 256, 384


def read_image_processor(path: Path, channels: int) -> ImagePreprocessing:
    """Read how pictures become the model's input.

    Args:
        path: A preprocessor_config.json.
        channels: Of the model's input.

    Raises:
        ModelError: if it is not there, damaged, or does what ours cannot.
    """
    if not path.is_file():
        raise ModelError(f"{path} is not there; give a {FILE}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return _convert(config, channels)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} cannot be used: {' '.join(str(error).split()) or type(error).__name__}") from error


def _convert(config: Mapping[str, Any], channels: int) -> ImagePreprocessing:
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "ViTImageProcessor")
    name = kind.removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if name not in _KNOWN:
        raise ValueError(f"image processor {kind!r} is unknown; known are {', '.join(_KNOWN)}")
    for key in ("do_flip_channel_order", "do_pad", "rescale_offset", "do_center_pad", "do_reduce_labels"):
        if config.get(key):
            raise ValueError(f"`{key}` is not supported")
    resize, (height, width) = _sizes(config, name)
    normalises = config.get("do_normalize", True)
    mean = _by_channel(config.get("image_mean", 0.5) if normalises else 0.0, channels)
    std = _by_channel(config.get("image_std", 0.5) if normalises else 1.0, channels)
    return ImagePreprocessing(
        height=height,
        width=width,
        channels=channels,
        scale=float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0,
        mean=mean,
        std=std,
        resize=resize,
        resample=_RESAMPLE[int(config.get("resample", 2))],
    )


def _sizes(config: Mapping[str, Any], name: str) -> tuple[tuple[int, ...], tuple[int, int]]:
    """What is resized to (one number: the shorter edge), and what is cut out of the middle."""
    size = config.get("size", {"height": 224, "width": 224})
    if name in ("ConvNext", "ResNet"):
        return _convnext_sizes(config, size)
    square = size if isinstance(size, int) else None
    if square is not None and name in ("ViT", "DeiT", "Beit", "Swin", "Siglip"):
        size = {"height": square, "width": square}
    edge = square if square is not None else size.get("shortest_edge")
    resize = (int(edge),) if edge and "height" not in _mapping(size) else (int(size["height"]), int(size["width"]))
    if not config.get("do_center_crop", "crop_size" in config):
        if len(resize) == 1:
            raise ValueError(f"it resizes the shorter edge to {edge} and does not crop: inputs have no one size")
        return resize, (resize[0], resize[1])
    crop = config.get("crop_size", resize[0])
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    return resize, (int(crop["height"]), int(crop["width"]))


def _mapping(size: Any) -> Mapping[str, Any]:
    return size if isinstance(size, Mapping) else {}


def _convnext_sizes(config: Mapping[str, Any], size: Any) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Small sizes are cut out of a larger picture, from 384 on the picture is warped."""
    edge = int(size if isinstance(size, int) else size["shortest_edge"])
    if edge >= _CONVNEXT_WARPS_FROM:
        return (edge, edge), (edge, edge)
    return (int(edge / (config.get("crop_pct") or _CONVNEXT_CROP)),), (edge, edge)


def _by_channel(value: Any, channels: int) -> tuple[float, ...]:
    values = tuple(float(v) for v in value) if isinstance(value, (list, tuple)) else (float(value),) * channels
    if len(values) != channels:
        raise ValueError(f"mean and deviation of {len(values)} channels for a model of {channels}")
    return values
