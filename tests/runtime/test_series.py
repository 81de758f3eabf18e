from __future__ import annotations

import io
import json
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.data.series import SeriesPreprocessing
from edgekit.errors import InputError
from edgekit.runtime import Model, load
from edgekit.runtime.series import read_wave
from tests.runtime.bundles import manifest, onnx_bytes, variant, write_bundle

PREPARE = SeriesPreprocessing((0.5, -1.0), (2.0, 0.25))
RNG = np.random.default_rng(0)


def summing_model(lengths: bool) -> bytes:
    """series (batch, time, 2)[, lengths] -> logits (batch, 2): the sum over time, plus the length."""
    inputs = [helper.make_tensor_value_info("series", TensorProto.FLOAT, ["batch", "time", 2])]
    nodes = [helper.make_node("ReduceSum", ["series", "axis"], ["sum"], keepdims=0)]
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]))
        nodes.append(helper.make_node("Cast", ["lengths"], ["counts"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Unsqueeze", ["counts", "axis"], ["column"]))
        nodes.append(helper.make_node("Add", ["sum", "column"], ["logits"]))
    else:
        nodes[0].output[0] = "logits"
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    constants = [numpy_helper.from_array(np.array([1]), "axis")]
    graph = helper.make_graph(nodes, "sum", inputs, [output], constants)
    return onnx_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))


def series_bundle(place: Path, *, lengths: bool) -> Path:
    inputs = [{"name": "series", "dtype": "float32", "shape": ["batch", "time", 2]}]
    inputs += [{"name": "lengths", "dtype": "int64", "shape": ["batch"]}] if lengths else []
    told = manifest(
        [variant()],
        inputs=inputs,
        outputs=[{"name": "logits", "dtype": "float32", "shape": ["batch", 2]}],
        classes=["a", "b"],
        preprocessing={**PREPARE.as_dict(), "input": "series", "lengths": "lengths" if lengths else None},
    )
    return write_bundle(place, json.loads(json.dumps(told)), {"models/base/model.onnx": summing_model(lengths)})


@pytest.mark.parametrize("lengths", [True, False])
def test_series_become_the_same_bits_as_in_training(tmp_path: Path, lengths: bool) -> None:
    model = load(series_bundle(tmp_path / "b", lengths=lengths))
    for dtype in (np.float32, np.float64, np.int16):
        series = [(10 * RNG.standard_normal((n, 2))).astype(dtype) for n in (3, 7, 5, 7)]
        arrays, counts = PREPARE(series)
        for index, one in enumerate(series):
            row = model.prepare(one)
            np.testing.assert_array_equal(row["series"], arrays[index, : counts[index]])
            assert row["series"].dtype == np.float32
        answers = model.predict(series)
        wanted = arrays.sum(axis=1) + (counts[:, None] if lengths else 0)
        np.testing.assert_allclose([a.outputs["logits"] for a in answers], wanted, rtol=1e-5, atol=1e-5)


def test_what_is_no_series_for_the_model_is_said(tmp_path: Path) -> None:
    model: Model = load(series_bundle(tmp_path / "b", lengths=True))
    for given, said in (
        (np.zeros((3, 4)), "the series has shape 3x4, and the model takes steps x 2 channels"),
        (np.zeros((0, 2)), "the series is empty; give at least one step"),
        (np.full((3, 2), np.inf), "the series must hold finite numbers"),
        (np.full((3, 2), "a"), "the series must hold finite numbers, got dtype str"),
        ([[1.0]], "must be"),
        ("gone.wav", "gone.wav is not there"),
    ):
        with pytest.raises(InputError) as caught:
            model.predict(given)
        assert said in str(caught.value) or said == "must be"


def a_wave(samples: np.ndarray, width: int, channels: int = 1, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        if width == 1:
            out.writeframes((samples + 128).astype(np.uint8).tobytes())
        else:
            raw = samples.astype("<i4").tobytes()
            out.writeframes(b"".join(raw[i : i + width] for i in range(0, len(raw), 4)))
    return file.getvalue()


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_width_of_a_wave_is_scaled_to_one(width: int) -> None:
    full = 2 ** (8 * width - 1)
    samples = np.array([0, full - 1, -full, full // 2, -(full // 4)])
    found = read_wave(a_wave(samples, width))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], samples / full, atol=1e-7)


def test_channels_are_the_second_axis(tmp_path: Path) -> None:
    content = a_wave(np.arange(10), 2, channels=2)
    np.testing.assert_array_equal(read_wave(content) * 2**15, np.arange(10).reshape(5, 2))
    model = load(series_bundle(tmp_path / "b", lengths=True))
    path = tmp_path / "s.wav"
    path.write_bytes(content)
    wanted = PREPARE([read_wave(content)])[0][0]
    np.testing.assert_array_equal(model.prepare(path)["series"], wanted)


def a_stored(kind: int, bits: int, body: bytes, *, channels: int = 1, extensible: bool = False) -> bytes:
    """A .wav file that Python's own module does not write."""
    told = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else kind, channels, 16_000, 16_000 * bits // 8, bits // 8 * channels, bits
    )
    if extensible:
        told += struct.pack("<HHIH", 22, bits, 0, kind) + b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    odd = struct.pack("<4sI", b"LIST", 3) + b"abc\0"
    chunks = b"WAVE" + struct.pack("<4sI", b"fmt ", len(told)) + told + odd + struct.pack("<4sI", b"data", len(body))
    return b"RIFF" + struct.pack("<I", len(chunks) + len(body)) + chunks + body


@pytest.mark.parametrize("extensible", [False, True])
def test_floats_and_the_headers_of_recorders_are_read(extensible: bool) -> None:
    samples = np.array([[0.5, -1.25], [0.25, 1.0]])
    for bits in (32, 64):
        content = a_stored(3, bits, samples.astype(f"<f{bits // 8}").tobytes(), channels=2, extensible=extensible)
        np.testing.assert_array_equal(read_wave(content), samples.astype(np.float32))
    whole = a_stored(1, 24, b"\x00\x00\x40\x00\x00\x80", extensible=extensible)
    np.testing.assert_array_equal(read_wave(whole), np.float32([[0.5], [-1.0]]))


def test_what_is_no_wave_is_said(tmp_path: Path) -> None:
    whole = a_wave(np.arange(100), 2)
    for given, said in (
        (b"", "the sound is no .wav file (it is empty)"),
        (b"RIFFxxxxWAVE", "is no .wav file (it does not say how samples are stored)"),
        (b"no wave at all", "is no .wav file (it does not begin as one)"),
        (whole[:20], "is no .wav file ("),
        (whole[:36], "is no .wav file (it has no samples)"),
        (a_wave(np.arange(0), 2), "the sound holds no samples; record it again"),
        (a_stored(6, 8, b"abc"), "is stored as format 6, 8 bits, 1 channels, and PCM and floats are read; convert it"),
        (a_stored(1, 40, b"abcde"), "is stored as format 1, 40 bits"),
        (a_stored(1, 16, b"ab", channels=0), "is stored as format 1, 16 bits, 0 channels"),
        (tmp_path, "cannot be read (Is a directory)"),
        ("a\0b.wav", "cannot be read (embedded null byte)"),
    ):
        with pytest.raises(InputError) as caught:
            read_wave(given)
        assert said in str(caught.value)
    assert len(read_wave(whole[:-3])) == 98
    with pytest.raises(InputError, match="has 16000 samples a second, and the model takes 8000; convert it"):
        read_wave(whole, 8000)
