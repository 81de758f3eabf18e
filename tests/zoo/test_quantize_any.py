"""Any ONNX file: what comes out loads, agrees, keeps the contract, and is smaller, or says truly why not."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.compress import TECHNIQUES, OnnxStep
from edgekit.data.split import Split
from edgekit.errors import ModelError
from edgekit.graph import admit, probe, write
from edgekit.graph.read import size_bytes
from edgekit.ort import Session
from edgekit.search.quantize import QuantizeReport, QuantizeRequest, quantize_model
from edgekit.specs import Feeds
from tests.zoo import (  # noqa: F401  -- each module puts its builders into ZOO
    control_flow,
    convolutions,
    names,
    quantised,
    recurrent,
    storage,
    transformers,
    types,
)
from tests.zoo.entry import METADATA, ZOO, Case, graph_model, inputs, weight

# ONNX Runtime's CPU provider has next to no bfloat16 kernels; that method says so, and nothing is left to test here
METHODS = [
    t for t in TECHNIQUES.values() if t.kind == "quantize" and t.stage == "onnx" and t.method not in ("bf16", "auto")
]
LEAST_COSINE = {"int4": 0.97}
CASES = pytest.mark.parametrize("case", ZOO.values(), ids=list(ZOO))


def quantize(model: Path, out: Path, split: Split | None, **options: object) -> QuantizeReport:
    return quantize_model(
        QuantizeRequest(model, out, calibration=split, threads=1, **{"seconds": 0.02, **options})  # type: ignore[arg-type]
    )


def flat(value: object) -> np.ndarray:  # type: ignore[type-arg]
    parts = value if isinstance(value, list) else [value]
    return np.concatenate([np.asarray(p, np.float64).ravel() for p in parts])


def cosine(wanted: object, got: object) -> float:
    a, b = flat(wanted), flat(got)
    assert a.shape == b.shape
    assert np.isfinite(b).all()
    return 1.0 if np.array_equal(a, b) else float(a @ b / np.sqrt((a @ a) * (b @ b)))


def check_contract(before: Session, after: Session) -> None:
    assert after.inputs == before.inputs
    assert [(o.name, o.dtype) for o in after.outputs] == [(o.name, o.dtype) for o in before.outputs]
    assert after.metadata == before.metadata


def agreement(before: Path, after: Path, feeds: Mapping[str, object]) -> float:
    """The lowest cosine of all outputs; both files have to keep the contract."""
    first, second = Session(before, threads=1), Session(after, threads=1)
    check_contract(first, second)
    pairs = zip(first.run(feeds), second.run(feeds), strict=True)  # type: ignore[arg-type]
    return min(cosine(a, b) for a, b in pairs)


def test_there_are_files_enough() -> None:
    assert len(ZOO) >= 50
    assert sum(bool(c.unchanged) for c in ZOO.values()) >= 8


@CASES
def test_every_file_says_what_it_is(case: Case) -> None:
    assert case.build.__doc__
    model = case.entry().model
    assert {p.key: p.value for p in model.metadata_props} == METADATA
    assert model.SerializeToString() == case.entry().model.SerializeToString()


@pytest.fixture
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prove files in this process: these tests load and run them anyway, and children would take most of the time."""

    def in_this_process(path: Path, feeds: Feeds | None = None, **_: object) -> probe.Probe:
        session = Session(path, threads=1)
        return probe.Probe(feeds is not None and bool(session.run(feeds)), True)

    for module in (admit, write):
        monkeypatch.setattr(module, "probe_model", in_this_process)


@pytest.mark.usefixtures("_one_process")
@CASES
def test_auto_gains_or_says_why_not(case: Case, tmp_path: Path) -> None:
    entry = case.entry()
    model, out = entry.write(tmp_path), tmp_path / "out" / "q.onnx"
    original = model.read_bytes()
    report = quantize(model, out, entry.split)
    if not case.unchanged and "slower" in report.reason:  # noise of a busy machine; longer runs tell
        report = quantize(model, out, entry.split, seconds=0.4)
    assert model.read_bytes() == original
    assert agreement(model, out, entry.sample(Session(model, threads=1).inputs)) >= 0.99
    assert report.proof.size_after == size_bytes(out)
    if case.unchanged:
        assert (report.status, report.method) == ("unchanged", "none")
        assert re.search(case.unchanged, report.reason), report.reason
        assert report.proof.size_ratio == pytest.approx(1, abs=0.02)
    else:
        assert report.status == "ok", report.reason
        assert report.proof.size_ratio >= 0.8 * case.least_ratio
        assert report.proof.quality.after >= 0.99


@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("method", METHODS, ids=[t.method for t in METHODS])
@CASES
def test_method_keeps_the_function(case: Case, method, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    entry = case.entry()
    if method.needs_calibration and entry.split is None:
        pytest.skip("its inputs do not fit into arrays to calibrate on")
    model, out = entry.write(tmp_path), tmp_path / "out" / "q.onnx"
    result = method.apply(method.config(), OnnxStep(model, out, entry.split))
    feeds = entry.sample(Session(model, threads=1).inputs)
    assert agreement(model, out, feeds) >= LEAST_COSINE.get(method.method, 0.99)
    assert result.reason
    if not result.changed:
        assert agreement(model, out, feeds) == 1.0
    elif method.method == "weights":
        assert size_bytes(model) / size_bytes(out) >= case.least_ratio
    if case.unchanged and method.method == "weights":
        assert not result.changed
        assert re.search(case.unchanged, result.reason), result.reason


@pytest.mark.parametrize("name", ["branches_with_weights_of_one_name", "words_as_strings", "qdq_conv_net"])
def test_command_line(name: str, tmp_path: Path, cli) -> None:  # type: ignore[no-untyped-def]
    case = ZOO[name]
    entry = case.entry()
    model, out = entry.write(tmp_path), tmp_path / "q.onnx"
    data = []
    if entry.arrays:
        np.savez(tmp_path / "c.npz", **dict(entry.arrays))
        data = ["--calibration", str(tmp_path / "c.npz")]
    answer = cli("quantize", str(model), "--out", str(out), *data, "--threads", "1", "--json")
    assert answer.code == 0, answer.err
    found = answer.json()
    assert found["status"] == ("unchanged" if case.unchanged else "ok")
    assert found["size_bytes"]["after"] == size_bytes(out)
    assert found["reason"]


def test_custom_domain_is_refused_by_name(tmp_path: Path) -> None:
    text = "custom (float[n, 4] x) => (float[n, 4] y) { a = acme.vision.Magic(x) y = Relu(a) }"
    model = tmp_path / "m.onnx"
    model.write_bytes(graph_model(text, {}, domains={"acme.vision": 1}).SerializeToString())
    with pytest.raises(ModelError, match=r"acme\.vision\.Magic"):
        quantize(model, tmp_path / "q.onnx", None)
    assert not (tmp_path / "q.onnx").exists()


def test_external_data_in_a_directory_of_its_own(tmp_path: Path) -> None:
    """What is unchanged is copied, and the copy finds its weights too."""
    rng = np.random.default_rng(0)
    text = "int8 (float[batch, 1, 64] x) => (float[batch, 1, 48] y) { w = DequantizeLinear(q, s) y = MatMul(x, w) }"
    weights = {"q": rng.integers(-127, 128, (64, 48)).astype(np.int8), "s": np.float32(0.01)}
    (tmp_path / "data").mkdir()
    model, out = tmp_path / "m.onnx", tmp_path / "out" / "q.onnx"
    onnx.save_model(
        graph_model(text, weights), model, save_as_external_data=True, location="data/w.bin", size_threshold=0
    )
    report = quantize(model, out, Split("c", {"x": inputs(rng, 8, 1, 64)}))
    assert report.status == "unchanged"
    assert agreement(model, out, {"x": inputs(rng, 2, 1, 64)}) == 1.0


def test_external_data_beside_an_output_in_the_same_directory(tmp_path: Path) -> None:
    entry = replace(ZOO["external_data"].entry())
    model = entry.write(tmp_path)
    before = (tmp_path / "weights.bin").read_bytes()
    report = quantize(model, tmp_path / "q.onnx", entry.split, method="weights")
    assert report.status == "ok"
    assert (tmp_path / "weights.bin").read_bytes() == before
    assert agreement(model, tmp_path / "q.onnx", {"x": entry.arrays["x"][:2]}) >= 0.99


def test_a_crowd_of_large_scales_is_no_crash(tmp_path: Path) -> None:
    """Weights of 1e30 beside weights of 1e-30, and a channel of zeros."""
    rng = np.random.default_rng(0)
    values = weight(rng, 64, 48, fan_in=64)
    values[:, 0], values[:, 1], values[:, 2] = 0, values[:, 1] * 1e-30, values[:, 2] * 1e20
    text = "huge (float[batch, 1, 64] x) => (float[batch, 1, 48] y) { y = MatMul(x, w) }"
    model, out = tmp_path / "m.onnx", tmp_path / "q.onnx"
    model.write_bytes(graph_model(text, {"w": values}).SerializeToString())
    quantize(model, out, Split("c", {"x": inputs(rng, 8, 1, 64)}))
    assert agreement(model, out, {"x": inputs(rng, 2, 1, 64)}) >= 0.99


def files_of(package: str, pattern: str) -> Sequence[Path]:
    """Models that an installed package brings; the package itself is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    return sorted(Path(next(iter(spec.submodule_search_locations))).glob(pattern))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "pattern", "shapes", "least_ratio"),
    [
        ("rapidocr_onnxruntime", "models/*det*.onnx", {"page": (4, 3, 96, 160)}, 3.5),
        ("rapidocr_onnxruntime", "models/*cls*.onnx", {"x": (4, 3, 48, 192)}, 3.5),
        ("rapidocr_onnxruntime", "models/*rec*.onnx", {"x": (4, 3, 48, 160)}, 3.5),
        ("magika", "models/*/model.onnx", {"bytes": (4, 2048)}, 3.5),
        ("silero_vad", "data/silero_vad.onnx", {"input": (8, 1, 576), "state": (8, 2, 1, 128), "sr": (8,)}, 3.5),
    ],
    ids=["ocr-det", "ocr-cls", "ocr-rec", "magika", "silero"],
)
def test_files_of_packages(
    package: str, pattern: str, shapes: dict[str, tuple[int, ...]], least_ratio: float, tmp_path: Path
) -> None:
    files = files_of(package, pattern)
    if not files:
        pytest.skip(f"package {package} is not installed, and its models are not ours to copy")
    model, out = files[0], tmp_path / "q.onnx"
    split = Split("random", random_arrays(model, shapes))
    report = quantize(model, out, split)
    assert report.status == "ok", report.reason
    assert report.proof.size_ratio >= least_ratio
    assert report.proof.quality.after >= 0.99


def pages(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:  # type: ignore[type-arg]
    """Paper with rows of dark strokes: a detector of text answers noise alone with noise."""
    made = np.full(shape, 0.8, np.float32) + rng.standard_normal(shape).astype(np.float32) * 0.03
    for page in made:
        for top in range(8, shape[2] - 16, 24):
            for left in np.cumsum(rng.integers(4, 12, shape[3] // 12)):
                page[:, top : top + 12, left : left + 2] = -0.9
                page[:, top + int(rng.integers(0, 10)), left : left + 6] = -0.9
    return made


def random_arrays(model: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """Random images, bytes, and sound at 16 kHz."""
    rng, kinds = np.random.default_rng(0), {s.name: s.dtype for s in Session(model, threads=1).inputs}
    made = {}
    for name, shape in shapes.items():
        if name == "page":
            made["x"] = pages(rng, shape)
        elif name == "sr":
            made[name] = np.full(shape, 16000, kinds[name])
        elif kinds[name].startswith("int"):
            made[name] = rng.integers(0, 256, shape).astype(kinds[name])
        else:
            made[name] = rng.standard_normal(shape).astype(kinds[name]) * np.float32(0.1 if name == "state" else 1)
    return made
