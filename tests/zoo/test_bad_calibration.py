"""What a user may give by mistake: each is answered once, early, in one line that names it; nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.compress import TECHNIQUES, OnnxStep
from edgekit.data.npz import load_npz
from edgekit.data.split import Split
from edgekit.errors import CompressError, DataError, EdgekitError, ModelError, OutputError
from edgekit.search.quantize import QuantizeRequest, quantize_model
from edgekit.specs import Array
from tests.zoo.entry import Entry, graph_model, inputs, weight
from tests.zoo.storage import broken, dense

Arrays = dict[str, Array]


@pytest.fixture
def entry() -> Entry:
    """Two inputs: one of rank 3 with a fixed size, one of int64."""
    rng = np.random.default_rng(0)
    text = """two (float[batch, 1, 64] x, int64[batch, 1] id) => (float[batch, 1, 48] y) {
        e = Gather(table, id) s = Add(x, e) a = MatMul(s, w1) y = Tanh(a)
    }"""
    weights = {"table": weight(rng, 30, 64, fan_in=1), "w1": weight(rng, 64, 48, fan_in=64)}
    return Entry(graph_model(text, weights), {"x": inputs(rng, 8, 1, 64), "id": rng.integers(0, 30, (8, 1))})


def refusal(entry: Entry, split: Split | None, directory: Path, method: str = "auto") -> EdgekitError:
    """The error of quantising with this data; no output may be left."""
    model, out = entry.write(directory), directory / "out" / "q.onnx"
    with pytest.raises(EdgekitError) as caught:
        quantize_model(QuantizeRequest(model, out, method, calibration=split, threads=1, seconds=0.05))
    assert not out.exists()
    assert "\n" not in str(caught.value)
    return caught.value


def with_x(change: Callable[[Array], Array]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, "x": change(arrays["x"])}


def holding(value: float) -> Callable[[Arrays], Arrays]:
    def put(x: Array) -> Array:
        x = x.copy()
        x[5, 0, 3] = value
        return x

    return with_x(put)


MISTAKES: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "nan": (holding(np.nan), "input 'x': sample 5 holds NaN or Inf"),
    "inf": (holding(np.inf), "input 'x': sample 5 holds NaN or Inf"),
    "zero samples": (lambda a: {k: v[:0] for k, v in a.items()}, "no samples"),
    "missing input": (lambda a: {"x": a["x"]}, "the model wants x, id; the data has x"),
    "extra input": (lambda a: {**a, "mask": a["id"]}, "the model wants x, id; the data has x, id, mask"),
    "wrong name": (lambda a: {"X": a["x"], "id": a["id"]}, "the model wants x, id; the data has X, id"),
    "float for int": (lambda a: {**a, "id": a["id"].astype(np.float32)}, "dtype float32 does not fit id: int64"),
    "text for float": (with_x(lambda x: x.astype(str)), "does not fit x: float32"),
    "rank too low": (with_x(lambda x: x[:, 0, 0]), "rank 1 (8,) does not fit x: float32"),
    "rank too high": (with_x(lambda x: x[:, None, None]), "rank 5 (8, 1, 1, 1, 64) does not fit x"),
    "fixed dimension": (with_x(lambda x: x[:, :, :63]), "dimension 2 must be 64"),
    "different lengths": (with_x(lambda x: x[:7]), "x: 7, id: 8"),
}


@pytest.mark.parametrize("method", ["auto", "static"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_bad_calibration_is_named(mistake: str, method: str, entry: Entry, tmp_path: Path) -> None:
    change, said = MISTAKES[mistake]
    error = refusal(entry, Split("calib.npz", change(dict(entry.arrays))), tmp_path, method)
    assert isinstance(error, DataError)
    assert said in str(error)
    assert "calib.npz" in str(error)


@pytest.mark.parametrize(
    "method", [t.method for t in TECHNIQUES.values() if t.kind == "quantize" and t.stage == "onnx"]
)
def test_every_technique_refuses_what_does_not_fit(method: str, entry: Entry, tmp_path: Path) -> None:
    technique = TECHNIQUES[f"quantize: {method}"]
    split = Split("calib.npz", {"x": entry.arrays["x"]})
    step = OnnxStep(entry.write(tmp_path), tmp_path / "q.onnx", split)
    with pytest.raises(DataError, match="the model wants x, id; the data has x"):
        technique.apply(technique.config(), step)
    assert not step.out.exists()


def test_static_without_data_says_what_to_give(entry: Entry, tmp_path: Path) -> None:
    error = refusal(entry, None, tmp_path, "static")
    assert isinstance(error, CompressError)
    assert "--calibration" in str(error)


def test_ids_beyond_the_table_end_in_one_line(entry: Entry, tmp_path: Path) -> None:
    error = refusal(entry, Split("calib.npz", {**entry.arrays, "id": np.full((8, 1), 999)}), tmp_path)
    assert isinstance(error, ModelError)


def test_arrays_that_are_views_are_taken(entry: Entry, tmp_path: Path) -> None:
    """A slice of a larger array, in Fortran order, in float64 and int32."""
    x = np.asfortranarray(np.repeat(entry.arrays["x"], 2, axis=0).astype(np.float64))[::2]
    split = Split("views", {"x": x, "id": entry.arrays["id"].astype(np.int32)})
    out = tmp_path / "out.onnx"
    request = QuantizeRequest(entry.write(tmp_path), out, "weights", calibration=split, threads=1, seconds=0.05)
    assert quantize_model(request).status == "ok"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["w2", "b1"])
def test_weights_that_are_not_finite_are_named(value: float, name: str, tmp_path: Path) -> None:
    good = dense(np.random.default_rng(0))
    bad = Entry(broken(good, name, value), good.arrays)
    error = refusal(bad, bad.split, tmp_path)
    assert isinstance(error, ModelError)
    assert f"weight '{name}' holds 1 values that are NaN or Inf" in str(error)


def link_to(model: Path) -> Path:
    made = model.with_name("link.onnx")
    made.symlink_to(model)
    return made


@pytest.mark.parametrize(
    "path_of",
    [lambda m: m, lambda m: m.parent / "." / ".." / m.parent.name / m.name, link_to],
    ids=["same", "dots", "link"],
)
def test_output_on_top_of_input(path_of: Callable[[Path], Path], tmp_path: Path) -> None:
    entry = dense(np.random.default_rng(0))
    model = entry.write(tmp_path)
    before = model.read_bytes()
    with pytest.raises(OutputError):
        quantize_model(QuantizeRequest(model, path_of(model), calibration=entry.split, threads=1, seconds=0.05))
    assert model.read_bytes() == before


def test_output_that_is_the_models_external_data(tmp_path: Path) -> None:
    entry = Entry(dense(np.random.default_rng(0)).model, external=True)
    model = entry.write(tmp_path)
    before = (tmp_path / "weights.bin").read_bytes()
    with pytest.raises(OutputError):
        quantize_model(QuantizeRequest(model, tmp_path / "weights.bin", "weights", threads=1, seconds=0.05))
    assert (tmp_path / "weights.bin").read_bytes() == before


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda p: None, "is not there"),
    "no archive": (lambda p: p.write_bytes(b"x = 1"), "not a readable .npz"),
    "objects": (lambda p: np.savez(p, x=np.array([{}, []], dtype=object)), "not a readable .npz"),
    "scalar": (lambda p: np.savez(p, x=np.float32(1)), "is a scalar"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_command_line_answers_in_one_line(kind: str, tmp_path: Path, cli) -> None:  # type: ignore[no-untyped-def]
    make, said = BAD_FILES[kind]
    data = tmp_path / "c.npz"
    make(data)
    with pytest.raises(DataError, match=said):
        load_npz(data)
    model = dense(np.random.default_rng(0)).write(tmp_path)
    answer = cli("quantize", str(model), "--out", str(tmp_path / "q.onnx"), "--calibration", str(data), "--json")
    assert answer.code == 1
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "q.onnx").exists()
