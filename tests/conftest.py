"""What many tests share: a command line in this process or its own, small models, and what was trained once."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit import progress
from edgekit.training.config import TrainConfig
from tests import noise

# Models this small run fastest on one thread, and tests run beside each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test comes first, so that in the end no worker runs it while the others have nothing to do."""
    items.sort(key=lambda item: item.name != "test_commands_run_in_their_order")


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    """Lightning's bars off, and the switch back where it was: commands set it for the whole process."""
    progress.set_quiet(True)
    yield
    progress.set_quiet(False)


@pytest.fixture(autouse=True)
def _same_noise() -> None:
    noise.restart()


@pytest.fixture(autouse=True, scope="module")
def _light_heap() -> None:
    """What stays alive from one module to the next is not searched for garbage again: millions of objects, seconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run `edgekit ARGS` in this process."""
    from edgekit.cli import app, main

    def run(*args: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["edgekit", *map(str, args)])
        monkeypatch.setattr(app, "registered_commands", [])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return Answer(int(stop.value.code or 0), said.out, said.err)

    return run


def _environment(extra: dict[str, str]) -> dict[str, str]:
    paths = [extra.pop("PYTHONPATH", ""), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **extra}


@pytest.fixture
def process() -> Callable[..., Answer]:
    """Run `edgekit ARGS` in a process of its own, or Python code with `code=`."""

    def run(*args: object, code: str | None = None, timeout_s: float = 180, **env: str) -> Answer:
        start = ["-c", code] if code is not None else ["-m", "edgekit"]
        done = subprocess.run(
            [sys.executable, *start, *(a if isinstance(a, bytes) else str(a) for a in args)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=_environment(env),
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


class Background:
    """A command that is running, to be sent signals."""

    def __init__(self, args: tuple[object, ...], log: Path) -> None:
        self.log = log
        self.file = log.open("w")
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "edgekit", *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=self.file,
            text=True,
            env=_environment({}),
        )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_until(self, ready: Callable[[], object], timeout_s: float = 120) -> None:
        """Wait until something can be seen; fails when the command ends before."""
        until = time.monotonic() + timeout_s
        while not ready():
            assert self.popen.poll() is None, f"it ended early, with {self.popen.returncode}: {self.said}"
            assert time.monotonic() < until, f"nothing seen within {timeout_s} s: {self.said}"
            time.sleep(0.005)

    def stop(self, number: int, timeout_s: float = 60) -> tuple[int, float]:
        """Send a signal; gives the exit code and the seconds until it ended."""
        started = time.monotonic()
        self.popen.send_signal(number)
        code = self.popen.wait(timeout_s)
        return code, time.monotonic() - started

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()
        self.file.close()


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Callable[..., Background]]:
    """Start `edgekit ARGS` and go on; it is killed when the test ends."""
    started: list[Background] = []

    def start(*args: object) -> Background:
        started.append(Background(args, tmp_path / f"stderr-{len(started)}.txt"))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def tree() -> Callable[[Path], dict[str, str]]:
    """What a directory holds: relative path -> hash of the content."""

    def look(directory: Path) -> dict[str, str]:
        files = (p for p in sorted(directory.rglob("*")) if p.is_file() and p.name != ".edgekit.lock")
        return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    return look


def dense(weight: np.ndarray[Any, Any], *, name: str = "image", opset: int = 18, ir: int = 9) -> onnx.ModelProto:
    """Build a model: image (batch, 1, 8, 8) -> logits (batch, 10) = flattened @ weight (64, 10)."""
    source = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", weight.shape[1]])
    nodes = [
        helper.make_node("Flatten", [name], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"], name="dense"),
    ]
    tensor = numpy_helper.from_array(weight.astype(np.float32), "weight")
    graph = helper.make_graph(nodes, "dense", [source], [logits], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


@pytest.fixture
def dense_proto() -> onnx.ModelProto:
    """An untrained linear model of digits, with metadata."""
    model = dense(np.random.default_rng(0).standard_normal((64, 10)))
    model.metadata_props.add(key="owner", value="somebody")
    return model


@pytest.fixture
def dense_onnx(dense_proto: onnx.ModelProto, tmp_path: Path) -> Path:
    """That model in a file."""
    path = tmp_path / "dense.onnx"
    onnx.save(dense_proto, path)
    return path


@pytest.fixture
def dense_weight(dense_proto: onnx.ModelProto) -> np.ndarray[Any, Any]:
    """Its weight, float32 (64, 10)."""
    return numpy_helper.to_array(dense_proto.graph.initializer[0])


def _trained(family: str, place: Path, epochs: int) -> Path:
    from edgekit.data.digits import fingerprint, load
    from edgekit.training.fit import card_for, fit

    progress.set_quiet(True)
    data = load()
    config = TrainConfig(epochs=epochs, batch_size=64, learning_rate=1e-2)
    fit(card_for(family, "pico", data), lambda: data, config, place, fingerprint=fingerprint())
    return place


@pytest.fixture(scope="session")
def pico_mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a pico MLP trained on digits; only to be read."""
    return _trained("mlp", tmp_path_factory.mktemp("mlp") / "checkpoint", 6)


@pytest.fixture(scope="session")
def pico_cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a pico CNN trained on digits; only to be read."""
    return _trained("cnn", tmp_path_factory.mktemp("cnn") / "checkpoint", 6)


@pytest.fixture(scope="session")
def pico_onnx(pico_cnn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pico CNN, exported; only to be read."""
    from edgekit.export import export_source

    path = tmp_path_factory.mktemp("onnx") / "cnn.onnx"
    export_source(pico_cnn, path)
    return path


@pytest.fixture(scope="session")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of its own, where the judge of the digits is trained once a session; the cache."""
    from edgekit import judge

    place = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "_cache", lambda: place)
        judge.judge_of.cache_clear()
        progress.set_quiet(True)
        judge.judge_of("digits")
        yield place
    judge.judge_of.cache_clear()
