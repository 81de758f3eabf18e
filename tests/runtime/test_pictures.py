"""A picture becomes the same bits here as in training."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.data import ImagePreprocessing
from edgekit.errors import InputError
from edgekit.runtime import load
from edgekit.runtime import pictures as ours
from edgekit.runtime.pictures import PicturePreparation
from tests.pillow_reference import read_picture, resized
from tests.runtime.bundles import IMAGE, manifest, write_bundle

RNG = np.random.default_rng(0)


def preparations() -> list[ImagePreprocessing]:
    grey = ImagePreprocessing(8, 8, 1, 1 / 255, (0.3,), (0.37,))
    colour = ImagePreprocessing(12, 16, 3, 1 / 255, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    made = []
    for resample in ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"):
        for resize in ((), (20,), (10,), (30, 20), (6, 6)):
            base = grey if len(made) % 2 else colour
            made.append(ImagePreprocessing(**{**vars(base), "resize": resize, "resample": resample}))
    return made


@pytest.mark.parametrize("size", [(8, 8), (16, 12), (33, 50), (70, 9)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_a_file_becomes_the_same_bits_as_in_training(tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    pixels = RNG.integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    path = tmp_path / "p.png"
    Image.fromarray(pixels).convert("RGB" if mode == "P" else "RGBA").convert(mode).save(path)
    for prepare in preparations():
        found = PicturePreparation.of({**vars(prepare), "input": "image"})
        wanted = read_picture(path, prepare)[0]
        for given in (path, str(path), path.read_bytes()):
            got = found.row(given)["image"]
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, wanted)


def test_pixels_become_the_same_bits_as_in_training() -> None:
    for prepare in preparations():
        channels = (3,) if prepare.channels == 3 else ()
        found = PicturePreparation.of({**vars(prepare), "input": "image"})
        for shape in ((prepare.height, prepare.width), (40, 31)):
            pixels = RNG.integers(0, 256, (*shape, *channels), dtype=np.uint8)
            wanted = prepare(resized(pixels, prepare)[None])[0]
            np.testing.assert_array_equal(found.row(pixels)["image"], wanted)
            np.testing.assert_array_equal(found.row(Image.fromarray(pixels))["image"], wanted)


def test_stored_pixels_of_any_type_go_in_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "import_pillow", lambda: pytest.fail("Pillow was imported"))
    prepare = ImagePreprocessing(8, 8, 1, 0.0625, (0.3053,), (0.376,))
    found = PicturePreparation.of(IMAGE)
    for dtype in (np.uint8, np.int64, np.float32, np.float64):
        pixels = RNG.integers(0, 17, (8, 8)).astype(dtype)
        np.testing.assert_array_equal(found.row(pixels)["image"], prepare(pixels[None])[0])
        np.testing.assert_array_equal(found.row(pixels[..., None])["image"], prepare(pixels[None])[0])


def test_grey_is_pillows_grey_to_the_bit() -> None:
    pixels = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(ours._grey(pixels), np.asarray(Image.fromarray(pixels).convert("L")))


def _transparent(mode: str) -> Image.Image:
    pixels = RNG.integers(0, 256, (12, 9, 4), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    if mode == "LA":
        return picture.convert("LA")
    if mode == "P":
        return picture.quantize(40)
    return picture


@pytest.mark.parametrize("background", [255, 0, 90])
@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGBA", "png"), ("LA", "png"), ("P", "png"), ("P", "gif"), ("RGBA", "webp")]
)
def test_what_is_transparent_is_laid_on_the_background(tmp_path: Path, mode: str, suffix: str, background: int) -> None:
    _transparent(mode).save(tmp_path / f"p.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    for channels in (1, 3):
        prepare = ImagePreprocessing(
            12, 9, channels, 1 / 255, (0.3,) * channels, (0.4,) * channels, background=background
        )
        found = PicturePreparation.of({**vars(prepare), "input": "image"})
        wanted = read_picture(tmp_path / f"p.{suffix}", prepare)[0]
        np.testing.assert_array_equal(found.row(tmp_path / f"p.{suffix}")["image"], wanted)
        with Image.open(tmp_path / f"p.{suffix}") as picture:
            np.testing.assert_array_equal(found.row(picture)["image"], wanted)
            np.testing.assert_array_equal(found.row(np.asarray(picture.convert("RGBA")))["image"], wanted)


def test_a_transparent_picture_is_as_white_as_a_viewer_shows_it() -> None:
    """And not as black as the hidden colour behind it."""
    logo = np.zeros((4, 4, 4), np.uint8)
    assert (ours.lay_on(logo, 255) == 255).all()
    logo[..., 3] = 255
    assert (ours.lay_on(logo, 255) == 0).all()
    with pytest.raises(InputError, match="pixels with alpha must be uint8, got float32; give height x width x 3"):
        PicturePreparation.of(IMAGE).row(np.zeros((8, 8, 4), np.float32))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_a_file_of_several_pictures_is_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"two.{suffix}", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / f"one.{suffix}", save_all=True)
    for given in (tmp_path / f"two.{suffix}", (tmp_path / f"two.{suffix}").read_bytes()):
        with pytest.raises(
            InputError, match=r"holds several pictures \(frames or pages\), and the model takes one; save"
        ):
            ours.read_pixels(given, 1)
    assert ours.read_pixels(tmp_path / f"one.{suffix}", 1).shape == (8, 8)
    with Image.open(tmp_path / f"two.{suffix}") as picture:  # who opened it chose the frame
        picture.seek(1)
        assert np.abs(ours.read_pixels(picture, 3) - np.array([0, 0, 255])).max() <= 2  # WebP is lossy


def test_the_photo_of_a_phone_with_another_behind_it_is_read(tmp_path: Path) -> None:
    photo, depth = (Image.new("RGB", (16, 16), level) for level in ("gray", "white"))
    photo.save(tmp_path / "p.jpg", "MPO", save_all=True, append_images=[depth])
    assert (ours.read_pixels(tmp_path / "p.jpg", 1) == 128).all()


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    upright = np.zeros((16, 8), np.uint8)
    upright[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees": how a phone that is held upright stores it
    Image.fromarray(np.rot90(upright)).save(tmp_path / "phone.png", exif=exif)
    np.testing.assert_array_equal(ours.read_pixels(tmp_path / "phone.png", 1), upright)
    prepare = ImagePreprocessing(8, 8, 1, 1 / 255, (0.3,), (0.37,))
    found = PicturePreparation.of({**vars(prepare), "input": "image"}).row(tmp_path / "phone.png")["image"]
    np.testing.assert_array_equal(found, read_picture(tmp_path / "phone.png", prepare)[0])


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "gif", "webp", "tiff", "ppm"])
def test_files_of_cameras_phones_and_screens_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    with Image.open(path) as file:
        wanted = np.asarray(file.convert("RGB"))
    np.testing.assert_array_equal(ours.read_pixels(path, 3), wanted)


def bomb(path: Path) -> Path:
    """A PNG of 10,000 x 10,000 pixels in 12 kB."""
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "png")
    path.write_bytes(file.getvalue())
    return path


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bomb(tmp_path / "bomb.png")
    assert path.stat().st_size < 50_000
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match=r"bomb.png has 10000x10000 pixels, and 64,000,000 are the most"):
        ours.read_pixels(path, 1)


def test_more_pixels_than_pillow_opens_are_refused_in_the_same_words(tmp_path: Path) -> None:
    content = (b"P5 30000 30000 255\n", b"P5 9460 9460 255\n")  # the second is where Pillow warns
    for head in content:
        with pytest.raises(InputError, match=r"has (900000000|89491600) pixels, and 64,000,000 are the most"):
            ours.read_pixels(head, 1)


def test_white_of_16_bits_is_white_of_8(tmp_path: Path) -> None:
    levels = np.array([[0, 128], [257, 65535]], np.uint16)
    for suffix in ("png", "tif", "pgm"):
        Image.fromarray(levels).save(tmp_path / f"a.{suffix}")
        assert ours.read_pixels(tmp_path / f"a.{suffix}", 1).tolist() == [[0, 0], [1, 255]]
        assert ours.read_pixels(tmp_path / f"a.{suffix}", 3)[1].tolist() == [[1, 1, 1], [255, 255, 255]]
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(InputError, match=r"f.tif has pixels of float32 that are no 16 bits; save it with 8 bits"):
        ours.read_pixels(tmp_path / "f.tif", 1)


def test_what_is_no_picture_is_said(tmp_path: Path) -> None:
    model = load(write_bundle(tmp_path / "b", manifest(preprocessing=IMAGE)))
    whole = io.BytesIO()
    Image.fromarray(RNG.integers(0, 255, (50, 50), dtype=np.uint8)).save(whole, "png")
    text = tmp_path / "a.png"
    text.write_text("text")
    for given, said in (
        (text, "a.png is no picture that can be read; it is none of PNG, JPEG, BMP, GIF"),
        (tmp_path / "gone.png", "gone.png is not there"),
        (b"", "the picture has no bytes"),
        (whole.getvalue()[:700], "the picture is no picture that can be read ("),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9", "the picture is no picture that can be read; it is none"),
        (7, "a picture is a path, a file's bytes, a Pillow image or an array of pixels, got int"),
        (np.zeros((2, 8, 8, 3), np.uint8), "pixels must be height x width or height x width x 3, got 2x8x8x3"),
        (np.zeros((0, 8), np.uint8), "pixels must be height x width"),
        (np.full((8, 8), np.nan), "the picture has 64 pixels that are NaN or infinite"),
        (np.full((8, 8), "a"), "pixels must be numbers, got dtype str"),
        (np.zeros((9, 9)), "the picture has 9x9 pixels of float64, and the model takes 8x8; only uint8 is resized"),
    ):
        with pytest.raises(InputError) as caught:
            model.predict(given)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_pictures_and_prepared_arrays_give_one_answer(tmp_path: Path) -> None:
    model = load(write_bundle(tmp_path / "b", manifest(preprocessing=IMAGE)))
    pixels = RNG.integers(0, 17, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    prepared = ImagePreprocessing(8, 8, 1, 0.0625, (0.3053,), (0.376,))(pixels[None])
    first, *others = (
        model.predict(g) for g in (pixels, tmp_path / "p.png", {"image": prepared}, {"image": prepared[0]})
    )
    for other in others:
        np.testing.assert_array_equal(other.outputs["logits"], first.outputs["logits"])
    both = model.predict([pixels, tmp_path / "p.png"])
    assert [b.label for b in both] == [first.label] * 2
