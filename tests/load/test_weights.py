"""Files of weights that nobody vouches for."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgekit.errors import ModelError
from edgekit.load import read_weights

WEIGHTS = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.ones(2)}


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def refusal(path: Path, entry: str = "") -> str:
    with pytest.raises(ModelError) as error:
        read_weights(path, entry)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files(tmp_path: Path, legacy: bool) -> None:
    torch.save(WEIGHTS, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    found = read_weights(tmp_path / "w.pth")
    assert {k: tuple(v.shape) for k, v in found.items()} == {"fc.weight": (2, 3), "fc.bias": (2,)}
    assert found["fc.weight"][1, 2] == 5


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_safetensors_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    save_file(WEIGHTS, tmp_path / name)
    assert torch.equal(read_weights(tmp_path / name)["fc.weight"], WEIGHTS["fc.weight"])


@pytest.mark.parametrize("how", ["torch", "legacy", "pickle", "inside"])
def test_code_in_a_pickle_is_refused_and_never_run(tmp_path: Path, how: str) -> None:
    touched, path = tmp_path / "touched", tmp_path / "evil.pth"
    bomb = Bomb(touched)
    if how == "pickle":
        path.write_bytes(pickle.dumps({"fc.weight": bomb}))
    else:
        content = {"state_dict": WEIGHTS, "hook": bomb} if how == "inside" else bomb
        torch.save(content, path, _use_new_zipfile_serialization=how != "legacy")
    said = refusal(path)
    assert not touched.exists()
    assert ("torch.save did not write" if how == "pickle" else "it would call posix.system") in said
    assert "edgekit never runs code from a file" in said
    assert "torch.save(model.state_dict()" in said


def test_a_whole_module_is_code_too(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pt")
    assert "it would call torch.nn.modules.linear.Linear" in refusal(tmp_path / "model.pt")


def test_files_that_are_none(tmp_path: Path) -> None:
    contents = {
        "empty.pt": (b"", "is empty"),
        "page.pth": (b"<!DOCTYPE html><html>404</html>", "it is a web page"),
        "lfs.bin": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of git-lfs"),
        "noise.pt": (bytes(range(7, 107)), "no weights file"),
        "page.safetensors": (b"<html>nothing</html>" * 10, "is no safetensors file: it is a web page"),
        "short.safetensors": (b"\xff\xff\xff\x00\x00\x00\x00\x00{}", "is no safetensors file"),
    }
    for name, (content, said) in contents.items():
        (tmp_path / name).write_bytes(content)
        assert said in refusal(tmp_path / name), name
    assert "is not there" in refusal(tmp_path / "no.pt")
    assert "is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_files_cut_short(tmp_path: Path, kind: str, keep: float) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    big = {"weight": torch.randn(100, 100), "bias": torch.randn(100)}
    if kind == "safetensors":
        save_file(big, path)
    else:
        torch.save(big, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    assert "copy or download it again" in refusal(path)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1 << 20)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as source, zipfile.ZipFile(tmp_path / "deflated.pt", "w") as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member), compress_type=zipfile.ZIP_DEFLATED)
    assert (tmp_path / "deflated.pt").stat().st_size < 20_000
    assert "is compressed, which torch never writes" in refusal(tmp_path / "deflated.pt")


def test_torchscript_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for name in ("m/constants.pkl", "m/code/m.py", "m/data.pkl"):
            archive.writestr(name, b"")
    assert "is a TorchScript archive" in refusal(tmp_path / "script.pt")


def test_weights_inside_a_training_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save({"epoch": 3, "netG": WEIGHTS}, path)
    assert set(read_weights(path)) == set(WEIGHTS)
    other = {k: v + 1 for k, v in WEIGHTS.items()}
    torch.save({"model": WEIGHTS, "ema": other, "optimizer": {"state": {}}}, path)
    assert torch.equal(read_weights(path)["fc.bias"], torch.ones(2))
    assert torch.equal(read_weights(path, "ema")["fc.bias"], torch.full((2,), 2.0))
    assert "unknown entry 'emma'; did you mean 'ema'? allowed: ema, model" in refusal(path, "emma")
    torch.save({"netG": WEIGHTS, "netD": other}, path)
    assert "holds several state dicts: netG, netD; say which: --entry netG" in refusal(path)
    torch.save({"nets": {"G": WEIGHTS, "D": other}}, path)
    assert torch.equal(read_weights(path, "nets.D")["fc.bias"], torch.full((2,), 2.0))


def test_torch_files_without_named_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "c.pth")
    assert "holds no named tensors but a mapping of epoch" in refusal(tmp_path / "c.pth")
    torch.save(torch.ones(3), tmp_path / "t.pth")
    assert "holds no named tensors but a Tensor" in refusal(tmp_path / "t.pth")


def test_numpy_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", weight=np.arange(6.0).reshape(2, 3))
    assert read_weights(tmp_path / "w.npz")["weight"][1, 2] == 5
    np.savez(tmp_path / "objects.npz", weight=np.array([Bomb(tmp_path / "touched")], dtype=object))
    assert "is damaged or no .npz of plain arrays (Object arrays cannot be loaded" in refusal(tmp_path / "objects.npz")
    assert not (tmp_path / "touched").exists()
    np.savez_compressed(tmp_path / "packed.npz", weight=np.zeros(100_000))
    assert "is compressed" in refusal(tmp_path / "packed.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "w.npz").read_bytes()[:-30])
    assert "is cut short or damaged" in refusal(tmp_path / "cut.npz")
