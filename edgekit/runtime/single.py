"""The runtime as one file, for an app that has no edgekit: made of its own sources, so that nothing is written twice.

The modules are put one behind the other under one namespace, in the order in which they import each other; imports of
edgekit fall away. That no two of them use one name for two things is checked when the file is made.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from edgekit import __version__
from edgekit.errors import BundleError

_PACKAGE = Path(__file__).resolve().parents[1]
_RUNTIME = """
    names archive directories zips opening arrays fields image entries manifest choose seal signature session check
    batches answers thresholds token_pairs guard pictures tokenizer texts waves series prepare memory sampling writing
    model batcher sources script
"""
MODULES = ("errors", "specs", *(f"runtime/{name}" for name in _RUNTIME.split()))
_HEAD = '''"""A bundle's model in one file, made by edgekit {version}; it needs numpy and onnxruntime.

    from loader import load

    with load(".") as model:  # the bundle: a directory or a .zip
        print(model.predict("picture.png").label)

On a command line: python loader.py INPUT... (the bundle is the folder of this file). Pictures need pillow, and texts
tokenizers. Do not edit; make it again with edgekit pack --loader. Licence: Apache-2.0.
"""

from __future__ import annotations

{imports}
'''
_TAIL = """
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parent))
"""


def loader_source() -> str:
    """The text of loader.py.

    Raises:
        BundleError: if two modules of the runtime use one name for two things.
    """
    trees = {name: ast.parse(_text(name)) for name in MODULES}
    refuse_shared_names(trees)
    bodies = "\n\n\n".join(_body(_text(name), tree) for name, tree in trees.items())
    head = _HEAD.format(version=__version__, imports="\n".join(_imports(trees)))
    return f"{head}\n\n{bodies}\n\n{_TAIL}"


def refuse_shared_names(trees: dict[str, ast.Module]) -> None:
    """Refuse modules that define one name twice.

    Raises:
        BundleError: with the first such name.
    """
    counts = Counter(name for tree in trees.values() for name in set(_defined(tree)))
    shared = sorted(name for name, count in counts.items() if count > 1)
    if shared:
        raise BundleError(
            f"the runtime has {shared[0]} in two modules, and the single file has one namespace; rename one"
        )


def _imports(trees: dict[str, ast.Module]) -> list[str]:
    """The lines that import what is not edgekit's: of whole modules first, then of names, each once."""
    whole, names = set(), dict[str, set[str]]()
    for node in (node for tree in trees.values() for node in tree.body if _is_foreign(node)):
        if isinstance(node, ast.ImportFrom):
            names.setdefault(str(node.module), set()).update(ast.unparse(alias) for alias in node.names)
        else:
            whole.add(ast.unparse(node))
    return [*sorted(whole), *(f"from {module} import {', '.join(sorted(names[module]))}" for module in sorted(names))]


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            yield from (name.id for name in ast.walk(target) if isinstance(name, ast.Name))


def _text(name: str) -> str:
    return (_PACKAGE / f"{name}.py").read_text(encoding="utf-8")


def _is_own(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "edgekit"


def _place_of(node: ast.AST) -> str:
    """The module that edgekit's own import names."""
    return str(getattr(node, "module", "")).removeprefix("edgekit.").replace(".", "/")


def _is_foreign(node: ast.AST) -> bool:
    """Whether it is an import that the single file needs too."""
    imported = isinstance(node, (ast.Import, ast.ImportFrom)) and not _is_own(node)
    return imported and not (isinstance(node, ast.ImportFrom) and node.module == "__future__")


def _body(text: str, tree: ast.Module) -> str:
    """A module without its docstring, its imports, and imports of edgekit inside functions."""
    lines: list[str | None] = list(text.splitlines())
    dropped = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    dropped += [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and _is_own(node)]
    if tree.body and isinstance(tree.body[0], ast.Expr):
        dropped.append(tree.body[0])  # type: ignore[arg-type]
    foreign = next((n for n in dropped if _is_own(n) and _place_of(n) not in MODULES), None)
    if foreign is not None:
        raise BundleError(f"the runtime imports {_place_of(foreign)}, which the single file lacks; add it to MODULES")
    for_types = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    for node in (*dropped, *for_types):
        for number in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[number] = None
    return "\n".join(line for line in lines if line is not None).strip()
