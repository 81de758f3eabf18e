"""What pruning took out of a module, written down so that the same module can be built again.

The record is plain JSON in a model's card:

    {"kept": {"blocks": [0, 2, 3]},                                  children of a container that are still there
     "layers": {"0": {"numbers": {"out_channels": 8},                attributes of a layer that differ from the build's
                      "tensors": {"weight": [8, 1, 3, 3]}}},         and shapes of its own parameters and buffers
     "size": {"depth": 3}}                                           arguments of the family's size that no longer hold

Names of layers are those after children were removed. It knows shapes and nothing of kinds of layers, so that it holds
for all of them: convolutions, matrices, normalisations, embeddings, recurrent layers, attention heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

Edits = Mapping[str, Any]


def apply_edits(module: nn.Module, edits: Edits) -> nn.Module:
    """Bring a freshly built module to the shape that was recorded; new tensors hold zeros.

    Args:
        module: Changed in place.
        edits: The record; {} for a module that is as it was built.

    Raises:
        ModelError: if the record is of another module.
    """
    try:
        for path in sorted(edits.get("kept", {}), key=lambda p: p.count(".")):
            keep_children(module, path, edits["kept"][path])
        replaced: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
        for name, layer in edits.get("layers", {}).items():
            _reshape(module.get_submodule(name), layer, replaced)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"the card's edits are of another module ({error}); give the checkpoint as it was") from error
    return module


def keep_children(module: nn.Module, path: str, kept: Sequence[int]) -> None:
    """Remove all but some children of a container inside a module; the others close ranks.

    Args:
        module: Changed in place.
        path: Of an `nn.Sequential` or `nn.ModuleList`.
        kept: Indices of its children, in their order.
    """
    container: Any = module.get_submodule(path)
    chosen = [container[index] for index in kept]
    container._modules.clear()
    for index, child in enumerate(chosen):
        container.add_module(str(index), child)


def without_children(edits: Edits, path: str, kept: Sequence[int]) -> dict[str, Any]:
    """The record after `keep_children`, on top of what was recorded before.

    Args:
        edits: Before.
        path: Of the container.
        kept: Indices of its children as it was before.
    """
    before = edits.get("kept", {})
    composed = [before[path][index] for index in kept] if path in before else list(kept)
    moved = {name: _moved(name, path, kept) for key in ("kept", "layers") for name in edits.get(key, {})}
    renamed = {
        key: {new: value for name, value in edits.get(key, {}).items() if (new := moved[name]) is not None}
        for key in ("kept", "layers")
    }
    return _tidy({**edits, "layers": renamed["layers"], "kept": {**renamed["kept"], path: composed}})


def with_shapes(edits: Edits, before: nn.Module, after: nn.Module) -> dict[str, Any]:
    """The record after layers changed their shapes, on top of what was recorded before.

    Args:
        edits: Of `before`.
        before: A module.
        after: The same with other shapes.
    """
    old, layers = dict(before.named_modules()), dict(edits.get("layers", {}))
    for name, layer in after.named_modules():
        changed = _changed(old[name], layer)
        if changed:
            there = layers.get(name, {})
            layers[name] = {k: {**there.get(k, {}), **changed.get(k, {})} for k in ("numbers", "tensors")}
    return _tidy({**edits, "layers": {name: _tidy(layer) for name, layer in layers.items()}})


def with_size(edits: Edits, **arguments: Any) -> dict[str, Any]:
    """The record with arguments of the family's size that no longer hold, such as `depth`."""
    return _tidy({**edits, "size": {**edits.get("size", {}), **arguments}})


def _moved(name: str, path: str, kept: Sequence[int]) -> str | None:
    """The name of a layer after children of a container were removed; None if it was one of them."""
    inside = f"{path}." if path else ""
    if not name.startswith(inside) or name == path:
        return name
    first, dot, rest = name.removeprefix(inside).partition(".")
    return f"{inside}{kept.index(int(first))}{dot}{rest}" if int(first) in kept else None


def _changed(before: nn.Module, after: nn.Module) -> dict[str, Any]:
    numbers = dict(_numbers(before))
    shapes = {k: tuple(v.shape) for k, v in _tensors(before)}
    return _tidy(
        {
            "numbers": {k: _plain(v) for k, v in _numbers(after) if numbers.get(k) != v},
            "tensors": {k: list(v.shape) for k, v in _tensors(after) if shapes.get(k) != tuple(v.shape)},
        }
    )


def _numbers(layer: nn.Module) -> Iterator[tuple[str, int | tuple[int, ...]]]:
    """Attributes of a layer that say sizes: whole numbers, and tuples of them."""
    for name, value in vars(layer).items():
        sizes = value if isinstance(value, tuple) else (value,)
        if not name.startswith("_") and sizes and all(type(size) is int for size in sizes):
            yield name, value


def _tensors(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from layer.named_parameters(recurse=False, remove_duplicate=False)
    yield from layer.named_buffers(recurse=False, remove_duplicate=False)


def _plain(value: int | tuple[int, ...]) -> int | list[int]:
    return list(value) if isinstance(value, tuple) else value


def _reshape(
    layer: nn.Module, wanted: Mapping[str, Any], replaced: dict[int, tuple[nn.Parameter, nn.Parameter]]
) -> None:
    """Give a layer its recorded numbers and shapes; what was one parameter of two layers stays one."""
    from torch import nn

    for name, value in wanted.get("numbers", {}).items():
        getattr(layer, name)
        setattr(layer, name, tuple(value) if isinstance(value, list) else value)
    for name, shape in wanted.get("tensors", {}).items():
        old = getattr(layer, name)
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(old.detach().new_zeros(shape), old.requires_grad)
            # the old one is kept with the new one, so that its id is not given to another
            setattr(layer, name, replaced.setdefault(id(old), (old, new))[1])
        else:
            layer.register_buffer(name, old.new_zeros(shape), persistent=name not in layer._non_persistent_buffers_set)


def _tidy(edits: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is empty, so that a model that was never pruned has no record."""
    return {k: v for k, v in edits.items() if v != {}}
