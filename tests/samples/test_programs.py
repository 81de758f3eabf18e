"""samples/node and samples/c: the same pixels as Python, the golden check, and what they say of bad bundles."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.data import ImagePreprocessing
from edgekit.runtime.choose import missing_features
from tests.pillow_reference import read_picture
from tests.samples.bundles import Size, seal, write_echo, write_weights_beside
from tests.samples.conftest import SAMPLES, Program, build_c, run

_SIZES = [Size(8, 8), Size(31, 17), Size(23, 64), Size(5, 3), Size(40, 64), Size(64, 20), Size(1, 1)]
_FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


def _preparing(resample: str, resize: tuple[int, ...], channels: int) -> ImagePreprocessing:
    return ImagePreprocessing(12, 20, channels, 1 / 255, (0.485,) * channels, (0.225,) * channels, resize, resample)


@pytest.fixture(scope="module")
def watched_c(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """samples/c, built so that it ends at a leak, at memory that is not its own, and at undefined behaviour."""
    sanitize = "-fsanitize=address,undefined"
    place = tmp_path_factory.mktemp("watched")
    program = build_c(place, f"CFLAGS=-O1 -g {sanitize} -fno-sanitize-recover=all", f"LDFLAGS={sanitize}")
    return lambda *args: run(program, *args)


@pytest.mark.parametrize("resize", [(), (16,), (33, 9)])
def test_pixels_are_pillows_to_the_bit(sample: Program, tmp_path: Path, resize: tuple[int, ...]) -> None:
    for index, resample in enumerate(_FILTERS):
        bundle = write_echo(tmp_path / resample, _preparing(resample, resize, 1 + 2 * (index % 2)), _SIZES)
        said = sample(bundle, "--golden")
        assert said.code == 0, said.out + said.err
        assert said.out.count("ok   echo picture") == len(_SIZES)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_is_laid_on_the_background(sample: Program, tmp_path: Path, channels: int) -> None:
    for background in (255, 0, 127):
        preparing = replace(_preparing("bilinear", (16,), channels), background=background)
        bundle = write_echo(tmp_path / str(background), preparing, _SIZES[:3], alpha=True)
        said = sample(bundle, "--golden")
        assert said.code == 0, said.out + said.err
        assert said.out.count("ok   echo picture") == 3


def test_an_animation_is_refused(sample: Program, echo_bundle: Path, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.png", save_all=True, append_images=frames[1:])
    said = sample(echo_bundle, tmp_path / "two.png")
    assert (said.code, said.out) == (1, "")
    told = "holds several pictures (frames or pages), and the model takes one; save that as a file of its own"
    assert said.err == f"error: {tmp_path / 'two.png'} {told}\n"
    frames[0].save(tmp_path / "one.png", save_all=True)
    assert sample(echo_bundle, tmp_path / "one.png").code == 0


def test_several_pictures_are_known_in_every_format_of_browsers(node_sample: Program, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 5), colour) for colour in ("red", "blue", "white")]
    wanted = {}
    for suffix in ("gif", "png", "webp", "avif"):
        for count in (1, 3):
            path = tmp_path / f"{count}.{suffix}"
            frames[0].save(path, save_all=count > 1, append_images=frames[1:count])
            wanted[path.name] = count > 1
        (tmp_path / f"cut.{suffix}").write_bytes((tmp_path / f"3.{suffix}").read_bytes()[:9])
        wanted[f"cut.{suffix}"] = False
    frames[0].save(tmp_path / "a.jpg")
    wanted["a.jpg"] = False
    script = """
import { readFileSync } from "node:fs";
const { refuseSeveral } = await import(process.argv[1]);
const refuses = (path) => { try { refuseSeveral(readFileSync(path), path); return false; } catch { return true; } };
console.log(JSON.stringify(process.argv.slice(2).map(refuses)));
"""
    module = (SAMPLES / "javascript/several.mjs").as_uri()
    said = run("node", "--input-type=module", "-e", script, module, *(tmp_path / name for name in wanted))
    assert said.code == 0, said.err
    assert dict(zip(wanted, json.loads(said.out), strict=True)) == wanted


def test_a_picture_is_named(sample: Program, echo_bundle: Path) -> None:
    picture = echo_bundle / "golden/1.raw.png"
    said = sample(echo_bundle, picture, "--top", 2, "--json")
    pixels = read_picture(picture, ImagePreprocessing(8, 8, 1, 1 / 255, (0.3,), (0.37,), (8, 8))).ravel()
    best = json.loads(said.out)[0]["top"]
    assert best[0]["label"] == str(int(pixels.argmax()))
    assert [row["probability"] for row in best] == pytest.approx(np.sort(pixels)[:-3:-1].tolist(), rel=1e-6)


def _change_byte(bundle: Path) -> None:
    model = bundle / "models/echo/model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\x00")


def _cut(bundle: Path) -> None:
    picture = bundle / "golden/0.image.bin"
    picture.write_bytes(picture.read_bytes()[:-4])


def _edit(bundle: Path, old: str, new: str) -> None:
    manifest = bundle / "manifest.json"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))


def _say(bundle: Path, **fields: Any) -> None:
    """Something else of the only variant."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["variants"][0] |= fields
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def _golden(bundle: Path, **fields: Any) -> None:
    """Something else of the golden part."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["golden"] |= fields
    (bundle / "manifest.json").write_text(json.dumps(manifest))


_BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "changed byte": (_change_byte, "models/echo/model.onnx is not the file that was packed: its sha256 differs"),
    "cut file": (_cut, "golden/0.image.bin has 252 bytes; manifest.json says 256"),
    "newer schema": (lambda b: _edit(b, '"schema_version": 1', '"schema_version": 2'), "schema_version 2; this sample"),
    "no JSON": (lambda b: (b / "manifest.json").write_text('{"schema_version": 1'), "JSON"),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "manifest.json"),
    "unlisted model": (lambda b: _edit(b, '"file": "models/echo/', '"file": "models/other/'), "does not list"),
    "outside": (lambda b: _edit(b, "golden/0.image.bin", "../0.image.bin"), "../0.image.bin, which is outside of the"),
    "no variant": (lambda b: _say(b, providers=["CUDAExecutionProvider"]), "does not run here: echo: it is for "),
    "newer ORT": (lambda b: _say(b, minimum_onnxruntime="99.1"), "echo: it needs ONNX Runtime 99.1 or newer, and 1."),
    "CPU": (lambda b: _say(b, cpu_features=["sse", "avx9000"]), "echo: this CPU has no avx9000"),
    "encrypted": (
        lambda b: _say(b, encrypted={"algorithm": "AES-256-GCM", "bundle_id": "0"}),
        "echo: it is encrypted, ",
    ),
    "terminal": (lambda b: _say(b, target="\x1b[2J"), "a text holds a control character"),
    "two lines": (lambda b: _say(b, name="a\nb"), "must be"),
    "no samples": (lambda b: _golden(b, samples=[], outputs={"echo": []}), "samples"),
    "no output": (lambda b: _golden(b, outputs={"echo": [{}, {}]}), "output"),
    "any answer": (lambda b: _golden(b, tolerance={"echo": {"absolute": 0, "relative": 1}}), "tolerance"),
    "session": (lambda b: _say(b, session={"config": {"ep.context_file_path": "/x"}}), "ep.context_file_path "),
}


@pytest.mark.parametrize("case", _BAD)
def test_a_bad_bundle_is_one_line(sample: Program, echo_bundle: Path, tmp_path: Path, case: str) -> None:
    bundle = Path(shutil.copytree(echo_bundle, tmp_path / "bundle"))
    spoil, words = _BAD[case]
    spoil(bundle)
    said = sample(bundle, "--golden")
    assert said.code == 1, said.out + said.err
    assert said.err.startswith("error: ")
    assert words in said.err
    assert said.err.count("\n") == 1


def test_c_wants_a_zip_unpacked(c_sample: Program, echo_bundle: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "bundle"), "zip", echo_bundle)
    said = c_sample(packed, "--golden")
    assert (said.code, said.out) == (1, "")
    assert said.err == f"error: {packed} is a file, and this sample reads a directory: unzip it first\n"


@pytest.mark.parametrize("feature", ["vnni", "AVX2", "amx-int8", "neon_dotprod"])
def test_the_cpu_is_known_as_in_python(sample: Program, echo_bundle: Path, tmp_path: Path, feature: str) -> None:
    bundle = Path(shutil.copytree(echo_bundle, tmp_path / "bundle"))
    _say(bundle, cpu_features=[feature], minimum_onnxruntime="1.9")
    said = sample(bundle, "--golden")
    lacking = missing_features([feature])
    assert said.code == (1 if lacking else 0), said.out + said.err
    assert (f"this CPU has no {feature}" in said.err) == bool(lacking)


def test_what_does_not_run_here_is_left_out(sample: Program, digits_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(digits_bundle, tmp_path / "bundle"))
    _say(bundle, minimum_onnxruntime="2.0")
    said = sample(bundle, "--golden", "--json")
    assert said.code == 0, said.err
    assert {row["name"].split()[0] for row in json.loads(said.out)} == {"base"}
    assert said.err.startswith("left out int8: it needs ONNX Runtime 2.0 or newer, and 1.")
    assert "int8: it needs ONNX Runtime 2.0" in sample(bundle, "--golden", "--variant", "int8").err


def test_weights_beside_the_model_are_used(sample: Program, watched_c: Program, tmp_path: Path) -> None:
    bundle = write_weights_beside(tmp_path / "b", "w.bin", "w.bin")
    for program in (sample, watched_c):
        said = program(bundle, "--golden")
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith("ok   w input 0: y is off by 0")


@pytest.mark.parametrize("listed", ["other.bin", "model.onnx"])
def test_weights_that_the_manifest_does_not_list_are_not_taken(
    sample: Program, watched_c: Program, tmp_path: Path, listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither out of the model's folder, which may list other files, nor out of the working directory."""
    bundle = write_weights_beside(tmp_path / "b", "other.bin", "w.bin")
    if listed == "model.onnx":
        loose = (bundle / "models/w/w.bin").read_bytes()
        for name in ("w.bin", "other.bin"):
            (bundle / "models/w" / name).unlink()
        seal(bundle, json.loads((bundle / "manifest.json").read_text()))
        (bundle / "models/w/w.bin").write_bytes(loose)
    monkeypatch.chdir(bundle / "models/w")
    for program in (sample, watched_c):
        said = program(bundle, "--golden")
        assert (said.code, said.out) == (1, ""), said.out
        assert said.err.startswith("error: ONNX Runtime")
        assert said.err.count("\n") == 1


def test_what_tuning_chooses_is_understood(sample: Program, echo_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(echo_bundle, tmp_path / "bundle"))
    tuned = {"graph_optimization_level": "layout", "execution_mode": "parallel", "inter_op_threads": 2}
    memory = {"enable_mem_pattern": False, "enable_cpu_mem_arena": False}
    _say(bundle, session={**tuned, **memory, "intra_op_threads": 1})
    said = sample(bundle, "--golden")
    assert (said.code, said.err) == (0, "")
    for wrong in ({"execution_mode": "both"}, {"inter_op_threads": 5000}, {"enable_mem_pattern": "no"}):
        _say(bundle, session={**tuned, **wrong})
        said = sample(bundle, "--golden")
        assert said.code == 1
        assert next(iter(wrong)) in said.err
        assert said.err.count("\n") == 1


def test_every_field_of_a_manifest_may_be_wrong(node_sample: Program, echo_bundle: Path) -> None:
    said = run("node", Path(__file__).with_name("wrong_fields.mjs"), SAMPLES / "javascript", echo_bundle)
    assert said.code == 0, said.out + said.err
    tried, refused = map(int, said.out.split())
    assert tried > 500
    assert refused > tried / 2


def test_other_numbers_are_a_no(sample: Program, echo_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(echo_bundle, tmp_path / "bundle"))
    wanted = bundle / "golden/echo/0.pixels.bin"
    numbers = np.fromfile(wanted, np.float32)
    numbers[5] += 0.25
    numbers.tofile(wanted)
    seal(bundle, json.loads((bundle / "manifest.json").read_text()))
    said = sample(bundle, "--golden")
    assert said.code == 3
    assert "FAIL echo input 0: pixels is off by 2.5e-" in said.out
    assert "ok   echo input 1" in said.out


@pytest.mark.parametrize("args", [[], ["bundle"], ["bundle", "--golden", "picture.png"], ["--wrong"]])
def test_wrong_usage(sample: Program, args: list[str]) -> None:
    assert sample(*args).code == 2


def test_no_picture(sample: Program, echo_bundle: Path, tmp_path: Path) -> None:
    text = tmp_path / "picture.png"
    text.write_text("no picture")
    said = sample(echo_bundle, text)
    assert said.code == 1
    assert str(text) in said.err
    assert said.err.count("\n") == 1


def test_a_huge_picture_is_not_decoded(sample: Program, echo_bundle: Path, tmp_path: Path) -> None:
    """60,000 x 60,000 pixels, of which the file has none."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    data = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + data + end)
    said = sample(echo_bundle, tmp_path / "huge.png")
    assert said.code == 1
    assert "64000000 pixels" in said.err
    assert said.err.count("\n") == 1


def test_c_reads_ppm_and_pgm(c_sample: Program, echo_bundle: Path, tmp_path: Path) -> None:
    for suffix, mode in (("ppm", "RGB"), ("pgm", "L")):
        with Image.open(echo_bundle / "golden/1.raw.png") as picture:
            picture.convert(mode).save(tmp_path / f"1.{suffix}")
    answers = [c_sample(echo_bundle, p, "--json").out for p in (tmp_path / "1.ppm", tmp_path / "1.pgm")]
    png = c_sample(echo_bundle, echo_bundle / "golden/1.raw.png", "--json").out
    assert {a.replace("1.ppm", "").replace("1.pgm", "").split("[{", 2)[-1] for a in answers} == {png.split("[{", 2)[-1]}


def test_c_leaks_nothing(watched_c: Program, echo_bundle: Path) -> None:
    for args in (["--golden"], [echo_bundle / "golden/1.raw.png"]):
        said = watched_c(echo_bundle, *args)
        assert (said.code, said.err) == (0, "")


def test_c_survives_broken_manifests(watched_c: Program, echo_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(echo_bundle, tmp_path / "bundle"))
    manifest = (bundle / "manifest.json").read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(30):
        broken = bytearray(manifest[: rng.integers(1, len(manifest))] if rng.random() < 0.3 else manifest)
        for at in rng.integers(0, len(broken), 3):
            broken[at] = rng.choice(list(b'"{}[],:\\u0e-9.tx\xff\x00'))
        (bundle / "manifest.json").write_bytes(bytes(broken))
        said = watched_c(bundle, "--golden")
        assert said.code in (0, 1, 3), said.err
        assert "Sanitizer" not in said.err
        assert "runtime error" not in said.err
