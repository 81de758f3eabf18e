from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import BundleError, InputError, ProviderError
from edgekit.runtime import Model, load
from tests.conftest import ROOT
from tests.runtime.bundles import logits_of, manifest, variant, write_bundle, zipped


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "b")


@pytest.fixture
def model(bundle: Path) -> Model:
    return load(bundle)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 1, 8, 8)).astype(np.float32)


def test_run_gives_what_the_model_computes(model: Model) -> None:
    x = images(3)
    found = model.run({"image": x})
    assert list(found) == ["logits"]
    np.testing.assert_allclose(found["logits"], logits_of(x), rtol=1e-5, atol=1e-5)


def test_a_zip_gives_the_same(bundle: Path, model: Model, tmp_path: Path) -> None:
    x = images(2)
    with load(zipped(bundle, tmp_path / "b.zip")) as packed:
        np.testing.assert_array_equal(packed.run({"image": x})["logits"], model.run({"image": x})["logits"])


def test_a_prediction_has_the_best_classes_first(model: Model) -> None:
    x = images(1)
    answer = model.predict({"image": x}, top=3)
    logits = logits_of(x)[0].astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum()
    assert answer.label == str(logits.argmax())
    assert answer.score == pytest.approx(shares.max(), rel=1e-5)
    assert [c.label for c in answer.top] == [str(i) for i in np.argsort(-logits)[:3]]
    assert answer.outputs["logits"].shape == (10,)
    assert answer.as_dict()["label"] == answer.label


def test_a_list_is_answered_in_its_order(model: Model) -> None:
    x = images(70)
    answers = model.predict([{"image": row} for row in x])
    assert [a.label for a in answers] == [str(i) for i in logits_of(x).argmax(axis=1)]
    assert model.predict(list(x))[69].label == answers[69].label


def test_threads_share_a_model(model: Model) -> None:
    x = images(8)
    wanted, wrong = logits_of(x), []

    def work(index: int) -> None:
        for _ in range(50):
            found = model.run({"image": x[index : index + 1]})["logits"][0]
            if not np.allclose(found, wanted[index], rtol=1e-4, atol=1e-4):
                wrong.append(index)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        (
            {"image": np.zeros((1, 1, 8, 7), np.float32)},
            "input 'image' has shape 1x1x8x7; it takes image: float32 batchx1x8x8",
        ),
        ({"image": np.zeros((1, 1, 8, 8))}, "input 'image' has dtype float64, and the model takes float32"),
        ({"image": np.zeros((8, 8), np.float32)}, "input 'image' has shape 8x8; it takes"),
        ({"picture": np.zeros((1, 1, 8, 8), np.float32)}, "input 'image' is missing; the model takes image: float32"),
        ({}, "input 'image' is missing"),
        ({"image": [[1.0]]}, "input 'image' must be a numpy array, got list"),
    ],
)
def test_arrays_that_are_not_taken_are_named(model: Model, feeds: dict[str, np.ndarray], said: str) -> None:
    for ask in (model.run, model.predict):
        with pytest.raises(InputError, match=r".") as caught:
            ask(feeds)
        assert said in str(caught.value) or "must be" in said
        assert "\n" not in str(caught.value)


def test_empty_inputs_are_refused(model: Model) -> None:
    with pytest.raises(InputError, match="the list is empty"):
        model.predict([])
    with pytest.raises(InputError, match="item 1 of 2: input 'image' has dtype int64"):
        model.predict([{"image": images(1)}, {"image": np.zeros((1, 1, 8, 8), np.int64)}])
    with pytest.raises(InputError, match="has 2 rows, and one input has one"):
        model.predict({"image": images(2)})


def test_a_closed_model_says_so(bundle: Path) -> None:
    with load(bundle) as model:
        pass
    with pytest.raises(BundleError, match="the model of bundle tiny is closed; load it again"):
        model.run({"image": images(1)})


def test_the_first_variant_that_runs_is_taken(tmp_path: Path) -> None:
    variants = [
        variant("gpu", providers=["NoneExecutionProvider"]),
        variant("fast", cpu_features=["no_such_flag"]),
        variant("new", minimum_onnxruntime="99.1"),
        variant("plain"),
    ]
    bundle = write_bundle(tmp_path / "b", manifest(variants))
    model = load(bundle)
    assert (model.variant.name, model.provider) == ("plain", "cpu")
    for name, said in (
        ("gpu", "gpu on none: the installed ONNX Runtime has no none"),
        ("new", "new on cpu: it needs ONNX Runtime 99.1 or newer, and "),
    ):
        with pytest.raises(ProviderError, match=said):
            load(bundle, variant=name)
    with pytest.raises(ProviderError, match=r"no variant for provider 'cuda'; it has gpu \(none\), fast \(cpu\)"):
        load(bundle, provider="cuda")
    with pytest.raises(BundleError, match="unknown variant 'plane'; did you mean 'plain'"):
        load(bundle, variant="plane")


def test_a_changed_model_is_not_loaded(bundle: Path) -> None:
    path = bundle / "models/base/model.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"models/base/model.onnx was changed: its SHA-256 is"):
        load(bundle)


def test_the_runtime_needs_numpy_and_onnxruntime_only(bundle: Path) -> None:
    """Every other installed package is blocked in a fresh interpreter."""
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {{*sys.stdlib_module_names, "numpy", "onnxruntime", "edgekit"}}:
            raise ModuleNotFoundError("blocked: " + name, name=name)
sys.meta_path.insert(0, Block())
import edgekit.runtime
assert "onnxruntime" not in sys.modules and "asyncio" not in sys.modules
ours = sorted(m for m in sys.modules if m.startswith("edgekit.") and not m.startswith("edgekit.runtime"))
assert ours == ["edgekit.errors", "edgekit.specs"], ours
import numpy
model = edgekit.runtime.load({str(bundle)!r})
print(model.predict({{"image": numpy.ones((1, 1, 8, 8), "float32")}}).label)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in "0123456789"
