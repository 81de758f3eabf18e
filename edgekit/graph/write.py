"""Writing .onnx files: pinned versions, checked, loaded and run before they take their place."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx

from edgekit.errors import ModelError
from edgekit.files import replacing
from edgekit.graph.probe import Probe, probe_model
from edgekit.graph.read import every_weight, proto_bytes, read_structure
from edgekit.specs import Feeds

_EXTERNAL_ABOVE = 1_900_000_000


def write_model(model: onnx.ModelProto, out: Path, *, feeds: Feeds | None = None) -> Probe:
    """Write a model atomically, after the checker, a session and a run in a child process accepted it.

    Args:
        model: What to write; it is not changed.
        out: Where; nothing is left there on failure.
        feeds: Inputs for the proof run; guessed where they are not given.

    Raises:
        ModelError: if the checker or ONNX Runtime refuses what would be written.
        OutputError: if the operating system refuses.
    """
    with replacing(out) as temporary:
        save(model, temporary)
        return accept(temporary, feeds)


def copy_model(source: Path, out: Path) -> None:
    """Copy a model, atomically; its external data gets a name of its own, so that it replaces no other model's."""
    model, names = read_structure(source), dict[str, str]()
    for tensor in every_weight(model):
        for entry in tensor.external_data:
            if entry.key == "location":
                number = f".{len(names)}" if names else ""
                entry.value = names.setdefault(entry.value, f"{out.name}{number}.data")
    with replacing(out) as temporary:
        for location, name in names.items():
            shutil.copyfile(source.parent / location, temporary.parent / name)
        if names:
            temporary.write_bytes(model.SerializeToString(deterministic=True))
        else:
            shutil.copyfile(source, temporary)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Serialise a model; above 1.9 GB the weights go into one file beside it."""
    if proto_bytes(model) <= _EXTERNAL_ABOVE:
        path.write_bytes(model.SerializeToString(deterministic=True))
        return
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save_model(copy, str(path), save_as_external_data=True, location=f"{path.name}.data")


def accept(path: Path, feeds: Feeds | None = None) -> Probe:
    """Check, load and run a file that was just written; a ModelError says what is wrong with it."""
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, RuntimeError) as error:
        raise ModelError(f"edgekit made a model that the ONNX checker refuses: {str(error).splitlines()[0]}") from error
    return probe_model(path, feeds)
