"""Weights out of files that nobody vouches for: safetensors, and torch files of which no code is ever run."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import progress
from edgekit.errors import ModelError, brief, unknown
from edgekit.runtime.arrays import ARRAY_ERRORS, read_npz

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".safetensors", ".npz")
# Names under which training scripts store the weights beside their optimizer.
_USUAL = ("state_dict", "model_state_dict", "model", "weights", "params")
_SAFE = "torch.save(model.state_dict(), 'weights.pt'), or safetensors"
# What torch's unpickler raises on damaged files, as tried on cut, flipped and made-up ones.
_DAMAGED = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
    pickle.UnpicklingError,
)


def read_weights(path: Path, entry: str = "") -> dict[str, Tensor]:
    """Read named tensors from a .safetensors, .npz or torch file.

    Args:
        path: The file; what it is follows from its content.
        entry: Dotted name of the mapping inside a torch file that holds the weights, such as "netG_state_dict"; where
            it is not given, the only one there is, or the one of a usual name.

    Returns:
        Name -> tensor, on the CPU.

    Raises:
        ModelError: if the file is missing, cut short, damaged, compressed, holds code, or no or several state dicts.
    """
    head = _head(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return _read_safetensors(path)
    if path.suffix == ".safetensors":
        raise ModelError(f"{path} is no safetensors file{_looks_like(head)}; copy or download it again")
    if path.suffix == ".npz":
        return _read_npz(path)
    return _state_dict(_read_torch(path, head), path, entry)


def _read_npz(path: Path) -> dict[str, Tensor]:
    """NumPy's archive of plain arrays; Python objects in it are never unpickled."""
    import torch

    _check_archive(path)
    try:
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in read_npz(path).items()}
    except ARRAY_ERRORS as error:
        raise ModelError(
            f"{path} is damaged or no .npz of plain arrays ({brief(error, 160)}); save it again"
        ) from error


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"weights {path} is a directory; name the file in it")
    if not path.is_file():
        raise ModelError(f"weights {path} is not there; give a {', '.join(SUFFIXES)} file")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ModelError(f"{path} is empty; copy or download it again")
    return head


def _looks_like(head: bytes) -> str:
    """What a file seems to be instead, from its first bytes; "" if nobody knows."""
    if head.lstrip().startswith((b"<!DOCTYPE", b"<!doctype", b"<html")):
        return ": it is a web page, the download gave an error page"
    if head.startswith(b"version https://git-lfs"):
        return ": it is a pointer of git-lfs (`git lfs pull` fetches the file)"
    if head.startswith(b"\x89HDF"):
        return ": it is an HDF5 file of Keras"
    if head.startswith(b"GGUF"):
        return ": it is a GGUF file"
    return ""


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged ({brief(error, 160)}); copy or download it again") from error


def _read_torch(path: Path, head: bytes) -> Any:
    """Unpickle by torch's restricted unpickler, which builds tensors and containers and calls nothing else."""
    import torch

    zipped = head.startswith(b"PK\x03\x04")
    if zipped:
        _check_archive(path)
    elif not head.startswith(b"\x80"):
        raise ModelError(f"{path} is no weights file{_looks_like(head)}; give a {', '.join(SUFFIXES)} file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise ModelError(_why_not(path, str(error))) from error


def _why_not(path: Path, said: str) -> str:
    named = re.search(r"GLOBAL ([\w.]+)|`([\w.]+)`.* (?:is not allowed|blocked)", said)
    if named:
        what = named[1] or named[2]
        return (
            f"{path} holds code, not only weights: it would call {what}; edgekit never runs code from a file. "
            f"Save the weights alone where the model was trained: {_SAFE}"
        )
    operand = re.search(r"Unsupported operand \d+", said)
    if operand:
        return (
            f"{path} is a pickle that torch.save did not write ({operand[0]}); edgekit never runs code from a file. "
            f"Save the weights where the model was trained: {_SAFE}"
        )
    return f"{path} is damaged or no torch file ({said.split(chr(10))[0][:160]}); copy or download it again"


def _check_archive(path: Path) -> None:
    """Refuse what torch never writes: members that are compressed, so that a small file could fill the memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{path} is cut short or damaged ({brief(error, 160)}); copy or download it again") from error
    if any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise ModelError(f"{path} is compressed, which torch never writes; unpack it and save it again: {_SAFE}")
    if sum(m.file_size for m in members) > path.stat().st_size:
        raise ModelError(f"{path} holds members that overlap; it is not opened, save it again: {_SAFE}")
    if any(m.filename.endswith("constants.pkl") for m in members):
        raise ModelError(f"{path} is a TorchScript archive, which holds code; save its weights alone: {_SAFE}")


def _state_dict(content: Any, path: Path, entry: str) -> dict[str, Tensor]:
    found = _state_dicts(content)
    if entry:
        if entry not in found:
            raise ModelError(f"{path}: {unknown('entry', entry, found)}")
        return found[entry]
    if "" in found or len(found) == 1:
        return found.get("") or next(iter(found.values()))
    if not found:
        raise ModelError(f"{path} holds no named tensors but {_kind(content)}; save it so: {_SAFE}")
    usual = [name for name in found if name in _USUAL]
    if len(usual) != 1:
        raise ModelError(
            f"{path} holds several state dicts: {', '.join(found)}; say which: --entry {next(iter(found))}"
        )
    progress.note(f"{path}: taking {usual[0]!r} of {', '.join(found)}")
    return found[usual[0]]


def _state_dicts(content: Any, name: str = "", depth: int = 0) -> dict[str, dict[str, Tensor]]:
    """Every mapping of names to tensors, by its dotted place; values of a state dict that are no tensors are left."""
    import torch

    if not isinstance(content, Mapping) or depth > 3:
        return {}
    tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if tensors and all(isinstance(k, str) for k in content):
        return {name: tensors}
    found = {}
    for key, value in content.items():
        found.update(_state_dicts(value, f"{name}.{key}".lstrip("."), depth + 1))
    return found


def _kind(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a mapping of {', '.join(map(str, list(content)[:5])) or 'nothing'}"
    return f"a {type(content).__name__}"
