from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from edgekit.errors import DataError
from edgekit.pictures import read_arrays, write_arrays
from edgekit.pictures.outcomes import outcomes
from edgekit.report import write_report
from edgekit.report.pictures import draw
from edgekit.report.pictures.colours import SYMBOLS, diverging, grey, ink_on, sequential, shade, signed_shade, style_of
from edgekit.report.pictures.confusion import difference, matrix
from edgekit.report.pictures.curves import curves
from edgekit.report.pictures.section import Picture, file_part
from edgekit.report.pictures.svg import _SHAPES, Axes, Canvas, ticks
from edgekit.report.pictures.tiles import Row, tile_grid

SVG = "{http://www.w3.org/2000/svg}"
HISTORY = [
    {"epoch": e, "loss": 2.0 / (e + 1), "validation": 0.5 + 0.1 * e, "learning_rate": 1e-3, "seconds": 1.0}
    for e in range(4)
]


def texts(picture: Picture) -> list[str]:
    """What an SVG says, without tooltips."""
    return [t.text or "" for t in ElementTree.fromstring(picture.content).iter(f"{SVG}text")]


def tips(picture: Picture) -> list[str]:
    return [t.text or "" for t in ElementTree.fromstring(picture.content).iter(f"{SVG}title")]


def size_of(picture: Picture) -> tuple[int, int]:
    return Image.open(io.BytesIO(picture.content)).size


@pytest.fixture
def report() -> dict[str, Any]:
    """A report of two models with everything that can be drawn of a classification."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    base = np.stack([rng.uniform(0.5, 1, 60), np.ones(60), labels], axis=1)
    int8 = base.copy()
    int8[0] = (0.6, 0, 2)  # one of class 0 taken for class 2
    facts = outcomes(labels, {"base": base, "int8": int8}, ("ant", "bee", "<cat>"), ["int8"])
    samples = [{"index": i, "label": i, "base": i, "variant": 2 if i == 0 else i} for i in range(2)]
    saliency = {"method": "occlusion", "patch_px": 2, "stride_px": 1, "spearman": [0.98, None], "mean_spearman": 0.98}
    layers = [{"name": "conv1", "channels": [4, 4], "size": [8, 8], "snr_db": 31.23, "same": False}]
    against = {"samples": {"samples": samples}, "saliency": saliency, "activations": {"layers": layers}}
    pictures = {
        "arrays": "pictures/arrays.npz",
        "classes": ["ant", "bee", "<cat>"],
        "facts": {"classification": facts, "against": {"int8": against}},
    }
    return {
        "metric": "top1",
        "best": "int8",
        "models": [{"name": "base"}, {"name": "int8"}],
        "training": {"history": HISTORY},
        "pictures": pictures,
    }


@pytest.fixture
def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    maps = {f"int8/saliency.{side}": rng.standard_normal((2, 8, 8)) for side in ("base", "variant")}
    maps |= {f"int8/activations.0.{side}": rng.uniform(0, 1, (2, 8, 8)) for side in ("base", "variant")}
    return {"int8/samples.image": rng.uniform(0, 1, (2, 8, 8, 1)).astype(np.float32), **maps}


def test_a_report_has_its_sections_in_order(report: Any, arrays: Any) -> None:
    sections = draw(report, arrays)
    assert [s.title for s in sections] == [
        "Training",
        "Confusion",
        "Confidence",
        "Accuracy of each class",
        "Saliency",
        "Activations",
    ]
    files = [p.file for s in sections for p in s.pictures]
    assert len(set(files)) == len(files)
    assert all(re.fullmatch(r"[\w.-]+\.(svg|png)", f) for f in files)
    assert all(p.alt and p.width_px > 0 for s in sections for p in s.pictures)


def test_captions_say_the_method_and_the_figures(report: Any, arrays: Any) -> None:
    by_title = {s.title: s for s in draw(report, arrays)}
    assert "occlusion with Captum" in by_title["Saliency"].text
    assert "a patch of 2 pixels, moved by 1" in by_title["Saliency"].text
    assert "first test sample of each of the first 6 classes" in by_title["Saliency"].text
    assert (
        by_title["Saliency"].facts[0].startswith("Rank correlation (Spearman) of the maps of base and int8: 0.980 on")
    )
    assert by_title["Activations"].facts == ("conv1: signal over noise 31.2 dB over all 4 channels and samples",)
    assert by_title["Confusion"].facts == (
        "int8 gives another answer than the first for 1 of 60 samples: 1 from right to wrong, 0 from wrong to right, "
        "0 from one wrong class to another.",
    )
    assert by_title["Confidence"].facts[0].startswith("Calibration error of base: ")


def test_nothing_is_drawn_of_nothing() -> None:
    bare = {"metric": "rmse", "best": None, "models": [{"name": "base"}], "training": {}, "pictures": {}}
    assert draw(bare, {}) == []
    assert draw({**bare, "training": {"history": []}}, {}) == []


def test_without_captum_the_section_says_what_to_install(report: Any, arrays: Any) -> None:
    report["pictures"]["facts"]["against"]["int8"]["saliency"] = {"missing": "install captum"}
    (section,) = [s for s in draw(report, arrays) if s.title == "Saliency"]
    assert (section.text, section.pictures) == ("install captum", ())


def test_titles_name_the_variant_where_there_are_several(report: Any, arrays: Any) -> None:
    against = report["pictures"]["facts"]["against"]
    against["int4"] = against["int8"]
    arrays |= {name.replace("int8/", "int4/"): value for name, value in arrays.items()}
    titles = [s.title for s in draw(report, arrays)]
    assert "Saliency: int8" in titles
    assert "Activations: int4" in titles


def test_a_missing_array_is_one_line(report: Any, arrays: Any) -> None:
    del arrays["int8/saliency.base"]
    with pytest.raises(DataError, match=r"lacks 'saliency\.base'; run the recipe again") as error:
        draw(report, arrays)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 broken", b"\x93NUMPY"], ids=str)
def test_a_missing_or_damaged_file_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "arrays.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"from which the pictures are drawn, is (not there|damaged)") as error:
        read_arrays(path)
    assert "\n" not in str(error.value)


def test_arrays_come_back(tmp_path: Path, arrays: Any) -> None:
    write_arrays(tmp_path / "a" / "arrays.npz", arrays)
    back = read_arrays(tmp_path / "a" / "arrays.npz")
    assert set(back) == set(arrays)
    assert all((back[name] == arrays[name]).all() for name in arrays)


def test_the_matrix_says_every_count_and_share() -> None:
    counts = np.array([[8, 2, 0], [0, 5, 0], [1, 0, 3]])
    picture = matrix("c.svg", "int8", ("a", "b & c", "d"), counts)
    said = texts(picture)
    assert [t for t in said if t.isdigit()] == ["8", "2", "5", "1", "3"]
    assert [t for t in said if t.endswith("%")] == ["80.0%", "20.0%", "100%", "25.0%", "75.0%"]
    assert "a taken for b & c: 2 (20.0 %)" in tips(picture)
    assert picture.alt == "confusion matrix of int8: 16 of 19 right"


def test_the_difference_is_signed() -> None:
    picture = difference("d.svg", "int8 - base", ("a", "b"), np.array([[-2, 2], [1, -1]]))
    assert [t for t in texts(picture) if t[0] in "+-"] == ["-2", "+2", "+1", "-1"]
    assert "a taken for b: +2" in tips(picture)


def test_curves_have_a_panel_for_what_is_known() -> None:
    (section,) = curves({"history": HISTORY}, "top1")
    assert [p.file for p in section.pictures] == [
        "training-loss.svg",
        "training-validation.svg",
        "training-learning-rate.svg",
    ]
    assert "epoch 3: 0.5" in tips(section.pictures[0])
    assert "top1 on validation data" in texts(section.pictures[1])
    without = [{**epoch, "validation": None, "loss": float("nan")} for epoch in HISTORY]
    assert [p.file for p in curves({"history": without}, "top1")[0].pictures] == ["training-learning-rate.svg"]


def test_tiles_are_as_large_as_they_say() -> None:
    tile = np.zeros((8, 8, 3), np.uint8)
    tile[0, 0] = 255
    picture = tile_grid("t.png", "tiles", [Row("", (tile, None)), Row("", (tile, tile))], (), 64)
    assert picture.width_px == 2 * (64 + 4)
    assert size_of(picture) == (2 * picture.width_px, 2 * (4 + 2 * 68))
    pixels = np.asarray(Image.open(io.BytesIO(picture.content)))
    corner = pixels[8 : 8 + 128, :128]
    assert (corner[:16, :16] == 255).all()  # one pixel of 8 became 16 of 128
    assert (corner[16:, 16:] == 0).all()
    assert (pixels[8 : 8 + 128, 136:264] == 255).all()  # a free place


def test_large_images_are_made_smaller() -> None:
    picture = tile_grid("t.png", "tiles", [Row("name", (np.full((300, 200, 3), 9, np.uint8),))], ("column",), 50)
    assert size_of(picture)[0] == 2 * picture.width_px


def test_colours() -> None:
    assert sequential(np.array([0.0, 1.0]), 0, 1).tolist() == [[68, 1, 84], [253, 231, 37]]
    assert diverging(np.array([0.0]), 1.0).tolist() == [[255, 255, 255]]
    assert grey(np.array([0.5])).tolist() == [[128, 128, 128]]
    assert (shade(0.0), shade(1.0)) == ("#ffffff", "#08306b")
    assert signed_shade(1.0) == "#b2182b"
    assert (ink_on("#ffffff"), ink_on("#08306b")) == ("#111827", "#ffffff")
    assert sequential(np.ones(3), 1, 1).shape == (3, 3)  # a constant has a colour too


def test_axes_put_values_in_their_places() -> None:
    axes = Axes(10, 20, 100, 50, (0, 2), (0, 1))
    assert axes.at(1, 0.5) == (60, 45)
    log = Axes(0, 0, 100, 100, (0, 1), (0.01, 100), log_y=True)
    assert log.at(0, 1) == pytest.approx((0, 50))
    assert ticks(0, 0) == [0.0]
    canvas = Canvas(100, 100, "<b>")
    canvas.text(1, 2, "a < b")
    assert "a &lt; b" in canvas.render().decode()
    ElementTree.fromstring(canvas.render())


def test_names_of_models_become_names_of_files() -> None:
    assert file_part("../runs/a b.onnx") == "runs-a-b.onnx"


def test_pages_hold_their_pictures_and_fetch_nothing(full_report: dict[str, Any], tmp_path: Path) -> None:
    write_report(full_report, tmp_path)
    page = re.sub(r"<script.*?</script>", "", (tmp_path / "report.html").read_text(), flags=re.DOTALL)
    fetched = re.findall(r"""(?:src|href)=["']?(?!data:)([^"' >]+)|url\((?!data:)""", page)
    assert fetched == []
    assert page.count("<svg") == len(list((tmp_path / "pictures").glob("*.svg")))
    assert page.count("data:image/png;base64,") == len(list((tmp_path / "pictures").glob("*.png")))
    assert "&lt;cat&gt;" in page
    assert "<cat>" not in page
    linked = re.findall(r'src="([^"]+)"', (tmp_path / "report.md").read_text())
    assert len(linked) == 3 + 3 + 1 + 1 + 1 + 2
    assert all((tmp_path / link).is_file() for link in linked)


def test_a_report_is_drawn_again_from_its_files_alone(full_report: dict[str, Any], tmp_path: Path) -> None:
    write_report(full_report, tmp_path)
    first = {p.name: p.read_bytes() for p in tmp_path.rglob("*.*") if p.is_file()}
    (tmp_path / "pictures" / "confusion-old.svg").write_text("of an earlier run")
    write_report(json.loads((tmp_path / "results.json").read_text()), tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.rglob("*.*") if p.is_file()} == first


@pytest.fixture
def full_report(report: dict[str, Any], arrays: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """That of test_report, with pictures."""
    from tests.report.test_report import facts_of, model

    write_arrays(tmp_path / "pictures" / "arrays.npz", arrays)
    models = [model("base", 1000, 0.98, 1.0, 1.0), model("int8", 250, 0.975, 0.5, 2.0)]
    return {**facts_of(models), **{k: report[k] for k in ("training", "pictures")}}


@pytest.mark.parametrize("kind", ["reconstruction", "generation"])
def test_images_that_models_make_stand_below_each_other(kind: str) -> None:
    rng = np.random.default_rng(0)
    found = {"n": 256, "samples": [0, 1, 2], "snr_db": 26.04, "same": False}
    images = {f"int8/{kind}.{side}": rng.uniform(0, 1, (3, 8, 8, 1)) for side in ("input", "base", "variant")}
    pictures = {"classes": [], "facts": {"against": {"int8": {kind: found}}}}
    report = {"metric": "m", "best": None, "models": [{"name": "base"}, {"name": "int8"}], "pictures": pictures}
    (section,) = draw(report, images)
    (picture,) = section.pictures
    rows = 4 if kind == "reconstruction" else 3
    assert size_of(picture)[1] == 2 * (4 + rows * (76 + 4))
    assert section.facts == ("base and int8: signal over noise 26.0 dB over 256 outputs.",)
    assert "the two that compression changed most among the first 256 of the test split" in section.text
    found |= {"snr_db": None, "same": True}
    assert draw(report, images)[0].facts == ("base and int8: no difference.",)
    found["same"] = False
    assert "not finite or all zero" in draw(report, images)[0].facts[0]


def test_many_models_are_told_apart() -> None:
    names = [f"m{i}" for i in range(20)]
    report = {"models": [{"name": name} for name in names], "best": "m3"}
    assert len({style_of(report, name) for name in names}) == len(names)
    assert set(SYMBOLS) == {"circle", *_SHAPES}
