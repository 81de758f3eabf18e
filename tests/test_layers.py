"""The order of the package: a module imports from its left only, and what is heavy only inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgekit

PACKAGE = Path(edgekit.__file__).parent
_ORDER = """
    errors specs runtime files nvidia machine progress interrupt steps ort
    families tasks data graph training load export compress judge evaluate agreement streaming generate pictures
    bench comparison search recipe bundle doctor report pipeline cli
"""
ORDER = _ORDER.split()
HEAVY = {
    "captum",
    "cryptography",
    "PIL",
    "torch",
    "lightning",
    "onnxruntime",
    "plotly",
    "scipy",
    "sklearn",
    "tokenizers",
    "torch_pruning",
    "transformers",
    "optimum",
    "neural_compressor",
}
# Modules that are imported only by functions that need torch anyway.
MAY_BE_HEAVY = {
    "compress/distill/objective.py",
    "families/decoder.py",
    "families/encoder_decoder.py",
    "families/bert_module.py",
    "families/layers.py",
    "families/recurrent_module.py",
    "families/vae_module.py",
    "graph/learnt_steps.py",
    "graph/operators.py",
    "graph/trainable.py",
    "training/callbacks.py",
    "training/gan.py",
    "training/masks.py",
    "training/module.py",
    "training/objective.py",
    "training/rescaled.py",
}
MODULES = sorted(str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py"))


def layer(module: str) -> str:
    return module.removesuffix(".py").split("/")[0]


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Each imported module, and whether that happens when the file is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        or (isinstance(function, ast.If) and ast.unparse(function.test) == "TYPE_CHECKING")
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: relative import"
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "edgekit" else [node.module]
        for name in names:
            yield name, id(node) not in inner


@pytest.mark.parametrize("module", [m for m in MODULES if layer(m) not in ("__init__", "__main__")])
def test_a_module_imports_from_its_left(module: str) -> None:
    own = layer(module)
    assert own in ORDER, f"{own} has no place in the order; add it to ORDER"
    for name, _ in imports(PACKAGE / module):
        parts = name.split(".")
        if parts[0] != "edgekit" or len(parts) < 2 or parts[1] == "__version__":
            continue
        allowed = ORDER.index(parts[1]) <= ORDER.index(own)
        assert allowed, f"edgekit/{module} imports {name}, which is to the right of {own}"


@pytest.mark.parametrize("module", [m for m in MODULES if m not in MAY_BE_HEAVY])
def test_heavy_packages_are_imported_inside_functions(module: str) -> None:
    heavy = [name for name, at_once in imports(PACKAGE / module) if at_once and name.split(".")[0] in HEAVY]
    assert not heavy, f"edgekit/{module} imports {', '.join(heavy)} when it is imported; do it inside the function"
