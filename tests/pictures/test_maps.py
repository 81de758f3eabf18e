from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.compress.quantize.static import StaticConfig
from edgekit.ort import Session
from edgekit.pictures.activations import compare_activations
from edgekit.pictures.choice import first_of_classes, most_changed, shown_classified
from edgekit.pictures.images import Layout, layout_of
from edgekit.pictures.images_made import generated, reconstructions
from edgekit.pictures.runs import noise_facts, run_rows, snr_db
from edgekit.pictures.saliency import compare_saliency, occlusion_maps, rank_correlation, window

GREY_8 = Layout(8, 8, 1, first=True)


def test_samples_are_the_first_of_each_class_and_the_most_changed() -> None:
    labels = np.array([2, 0, 0, 1, 2, 1])
    assert first_of_classes(labels) == [1, 3, 0]
    assert first_of_classes(labels, 2) == [1, 3]
    assert most_changed(np.array([0.1, 0.9, 0.5, 0.5]), 2) == [1, 2]
    before = np.stack([np.full(6, 0.8), np.ones(6), labels], axis=1)
    after = before.copy()
    after[4, 0], after[5, 2], after[2, 0] = 0.2, 0, 0.7
    assert shown_classified(labels, before, after) == [1, 3, 0, 5, 4]  # a changed answer before changed confidence


def test_layouts() -> None:
    assert layout_of((3, 224, 200)) == Layout(224, 200, 3, first=True)
    assert layout_of((224, 200, 3)) == Layout(224, 200, 3, first=False)
    assert layout_of((10,)) is None
    assert layout_of((5, 8, 8)) is None
    assert window(GREY_8) == (2, 1)
    assert window(Layout(28, 28, 1, first=True)) == (4, 2)
    images = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    assert Layout(4, 5, 3, first=True).channels_last(images)[1, 2, 3, 0] == images[1, 0, 2, 3]
    shown = Layout(4, 5, 3, first=True).shown(images, None)
    assert (shown.shape, shown.min(), shown.max()) == ((2, 4, 5, 3), 0.0, 1.0)


def test_images_are_shown_as_they_were_stored() -> None:
    from edgekit.data import find_source

    data = find_source("digits").load(None, "classification")
    images = data.splits["test"].arrays["image"][:5]
    assert data.preprocessing is not None
    shown = GREY_8.shown(images, data.preprocessing)
    assert shown[..., 0] == pytest.approx(data.preprocessing.inverse(images)[:, 0] / 16, abs=1e-6)


def test_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    for a, b in ((rng.normal(size=50), rng.normal(size=50)), (rng.integers(0, 4, 40), rng.integers(0, 4, 40))):
        assert rank_correlation(a, b) == pytest.approx(float(spearmanr(a, b).statistic))
    assert rank_correlation(np.ones(4), np.arange(4)) is None


def test_signal_over_noise() -> None:
    a = np.full(10, 2.0)
    assert snr_db(a, a * 0.9) == pytest.approx(20.0)
    assert snr_db(a, a) is None
    assert noise_facts(a, a) == {"snr_db": None, "same": True}
    assert noise_facts(a, a * np.nan) == {"snr_db": None, "same": False}


def test_occlusion_of_a_linear_model_is_its_weights_times_the_image(tmp_path: Path) -> None:
    pytest.importorskip("captum")
    from tests.conftest import dense

    weight = np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
    path = tmp_path / "m.onnx"
    onnx.save(dense(weight), path)
    images = np.random.default_rng(1).standard_normal((3, 1, 8, 8)).astype(np.float32)
    classes = np.array([0, 3, 9])
    maps = occlusion_maps(Session(path), images, classes, GREY_8)
    assert maps.shape == (3, 8, 8)
    share = images[:, 0] * weight.T[classes].reshape(3, 8, 8)
    corner = share[:, :2, :2].sum(axis=(1, 2))  # the only patch that covers the first pixel
    assert maps[:, 0, 0] == pytest.approx(corner, abs=1e-4)
    patches = np.stack([share[:, y : y + 2, x : x + 2].sum(axis=(1, 2)) for y in (3, 4) for x in (3, 4)])
    assert maps[:, 4, 4] == pytest.approx(patches.mean(axis=0), abs=1e-4)


def test_a_model_looks_where_it_looks(pico_onnx: Path) -> None:
    pytest.importorskip("captum")
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 1, 8, 8)).astype(np.float32)
    sessions = Session(pico_onnx), Session(pico_onnx)
    facts, maps = compare_saliency(sessions, images, np.array([1, 2]), GREY_8)
    assert facts["spearman"] == [1.0, 1.0]
    assert (facts["patch_px"], facts["stride_px"]) == (2, 1)
    assert maps["base"].shape == maps["variant"].shape == (2, 8, 8)


@pytest.fixture
def quantised(pico_onnx: Path, tmp_path: Path) -> Path:
    from edgekit.compress import TECHNIQUES, OnnxStep
    from edgekit.data import load_split

    out = tmp_path / "int8.onnx"
    config = StaticConfig.model_validate({"quantize": "static", "calibration": {"samples": 32, "method": "minmax"}})
    step = OnnxStep(
        model=pico_onnx, out=out, calibration=load_split("digits", "calibration"), target="cpu", work=tmp_path
    )
    TECHNIQUES["quantize: static"].apply(config, step)
    return out


def test_layers_are_found_again_in_a_quantised_model(pico_onnx: Path, quantised: Path) -> None:
    from edgekit.data import load_split

    rows = {"image": load_split("digits", "test").arrays["image"][:4]}
    before = pico_onnx.read_bytes(), quantised.read_bytes()
    layers, maps = compare_activations(pico_onnx, quantised, rows)
    assert len(layers) == 3
    assert [tuple(layer["channels"]) for layer in layers] == [(8, 8), (16, 16), (16, 16)]
    assert [layer["size"] for layer in layers] == [[8, 8], [4, 4], [4, 4]]
    assert all(15 < layer["snr_db"] < 80 for layer in layers)  # the first convolution stays in float, its result not
    assert maps["0.base"].shape == (4, 8, 8)
    assert maps["0.base"].min() >= 0  # after the activation function
    assert (pico_onnx.read_bytes(), quantised.read_bytes()) == before


def test_the_same_model_has_the_same_activations(pico_onnx: Path) -> None:
    rows = {"image": np.random.default_rng(0).standard_normal((2, 1, 8, 8)).astype(np.float32)}
    layers, maps = compare_activations(pico_onnx, pico_onnx, rows)
    assert [layer["snr_db"] for layer in layers] == [None] * 3
    assert (maps["2.base"] == maps["2.variant"]).all()


def test_a_model_without_convolutions_has_no_activations_to_show(dense_onnx: Path) -> None:
    rows = {"image": np.zeros((1, 1, 8, 8), np.float32)}
    assert compare_activations(dense_onnx, dense_onnx, rows) == ([], {})


def scaled(tmp_path: Path, name: str, factor: float, source: str = "image") -> Session:
    """A model that gives its input times a factor."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 1, 4, 4]) for n in (source, "made")]
    node = helper.make_node("Mul", [source, "factor"], ["made"])
    constant = numpy_helper.from_array(np.float32(factor).reshape(1), "factor")
    graph = helper.make_graph([node], name, ends[:1], ends[1:], [constant])
    path = tmp_path / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return Session(path)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Session, Session]:
    return scaled(tmp_path, "base", 1.0), scaled(tmp_path, "variant", 0.9)


def test_reconstructions_of_each_class_and_the_most_changed(pair: Any) -> None:
    from edgekit.data.split import Split

    images = np.full((20, 1, 4, 4), 0.1, np.float32)
    images[7], images[13] = 0.9, 0.8  # a tenth of them is the largest change
    split = Split("test", {"image": images}, np.arange(20) % 3)
    facts, arrays = reconstructions(pair, split, Layout(4, 4, 1, first=True), None)
    assert facts["samples"] == [0, 1, 2, 7, 13]
    assert facts["snr_db"] == pytest.approx(20.0, abs=1e-4)
    assert arrays["input"].shape == arrays["base"].shape == (5, 4, 4, 1)


def test_samples_of_a_generator_for_the_same_vectors(pair: Any) -> None:
    from edgekit.data.split import Split

    latents = np.random.default_rng(0).standard_normal((300, 1, 4, 4)).astype(np.float32)
    facts, arrays = generated(pair, Split("test", {"image": latents}), Layout(4, 4, 1, first=True), None)
    assert facts["n"] == 256
    assert facts["samples"][:6] == list(range(6))
    assert len(facts["samples"]) == 8
    change = np.square(0.1 * latents[:256]).mean(axis=(1, 2, 3))
    assert facts["samples"][6:] == [i for i in np.argsort(-change) if i > 5][:2]
    assert arrays["variant"].shape == (8, 4, 4, 1)


def test_rows_run_through_a_model_of_a_fixed_batch(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, 2]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "fixed", ends[:1], ends[1:])
    path = tmp_path / "fixed.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    rows = np.arange(14, dtype=np.float32).reshape(7, 2)
    assert (run_rows(Session(path), {"x": rows})[0] == -rows).all()
