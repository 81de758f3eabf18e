"""The runtime in one file answers where edgekit cannot be imported."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.errors import BundleError
from edgekit.runtime import load
from edgekit.runtime.single import MODULES, loader_source, refuse_shared_names
from tests.runtime.bundles import IMAGE, manifest, write_bundle

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {*sys.stdlib_module_names, "numpy", "onnxruntime", "loader", "PIL"}:
            raise ModuleNotFoundError("blocked: " + name, name=name)
sys.meta_path.insert(0, Block())
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    place = write_bundle(tmp_path / "b", manifest(preprocessing=IMAGE))
    (place / "loader.py").write_text(loader_source(), encoding="utf-8")
    Image.fromarray(np.random.default_rng(0).integers(0, 17, (8, 8), dtype=np.uint8)).save(tmp_path / "p.png")
    return place


def python(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=place, timeout=60, env={})


def test_an_app_without_edgekit_gets_the_same_answer(bundle: Path) -> None:
    picture = str(bundle.parent / "p.png")
    code = f"""{BLOCK}
from loader import load, MicroBatcher
with load(".") as model, MicroBatcher(model) as batcher:
    answer = model.predict({picture!r})
    assert batcher.predict({picture!r}).label == answer.label
    print(answer.outputs["logits"].tolist())
"""
    done = python(bundle, "-c", code)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(json.loads(done.stdout), load(bundle).predict(picture).outputs["logits"].tolist())


def test_it_is_a_command_too(bundle: Path) -> None:
    done = python(bundle.parent, "-I", "b/loader.py", "p.png", "gone.png")
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 1
    assert first["label"] == load(bundle).predict(bundle.parent / "p.png").label
    assert second == {"input": "gone.png", "error": "gone.png is not there"}
    (bundle / "manifest.json").unlink()
    done = python(bundle.parent, "-I", "b/loader.py", "p.png")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "it has no manifest.json" in done.stderr


def test_every_module_that_answers_needs_is_in_it() -> None:
    """Nothing is imported from edgekit, and each name is defined once."""
    tree = ast.parse(loader_source())
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not [name for name in imported if name and name.startswith("edgekit")]
    assert len(MODULES) == len(set(MODULES))


def test_one_name_for_two_things_is_refused() -> None:
    trees = {"a": ast.parse("def f(): pass"), "b": ast.parse("f = 1")}
    with pytest.raises(BundleError, match="the runtime has f in two modules"):
        refuse_shared_names(trees)
