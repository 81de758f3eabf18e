"""Models that the user's code builds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.errors import ModelError
from edgekit.load import Builder, Description, Hints, WeightFile, open_checkpoint, parse_inputs
from edgekit.load.foreign import load_built
from edgekit.ort import Session
from edgekit.training.checkpoint import ModelCard, TrainedModel, save_checkpoint
from tests.load.nets import Plain

NETS = "tests.load.nets"
IMAGE = Description(parse_inputs(["image=1x1x8x8"]))
Cli = Callable[..., Any]


def images(n: int) -> dict[str, Any]:
    return {"image": np.random.default_rng(n).standard_normal((n, 1, 8, 8)).astype(np.float32)}


def refusal(reference: str, described: Description = IMAGE, **arguments: Any) -> str:
    with pytest.raises(ModelError) as error:
        load_built(Builder(reference, arguments), None, described)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_export_with_weights_is_what_torch_gives(tmp_path: Path, cli: Cli) -> None:
    torch.manual_seed(1)
    model = Plain(5).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    answer = cli(
        *("export", tmp_path / "w.pth", "--builder", f"{NETS}:Plain.of", "--argument", "outputs=5"),
        *("--input", "image=1x1x8x8", "--classes", 5, "--out", tmp_path / "m.onnx", "--json"),
    )
    assert answer.code == 0, answer.err
    assert answer.json()["parity"]["batches"] == [1, 2, 7]
    session = Session(tmp_path / "m.onnx")
    assert (str(session.inputs[0]), session.outputs[0].name) == ("image: float32 batchx1x8x8", "logits")
    assert json.loads(session.metadata["edgekit.classes"]) == ["0", "1", "2", "3", "4"]
    with torch.inference_mode():
        wanted = model(torch.from_numpy(images(3)["image"])).numpy()
    np.testing.assert_allclose(session.run(images(3))[0], wanted, atol=1e-5)


def test_a_file_of_the_user_without_weights(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(Path(__file__).parent / "nets.py", tmp_path / "mine.py")
    monkeypatch.chdir(tmp_path)
    answer = cli("export", "--builder", "mine.py:plain", "--input", "image=1x1x8x8", "--out", "m.onnx", "--json")
    assert answer.code == 0, answer.err
    assert [s.name for s in Session(tmp_path / "m.onnx").outputs] == ["output"]
    assert answer.json()["exporter"] == "dynamo"


def test_mappings_and_several_inputs(tmp_path: Path) -> None:
    from edgekit.export.torch_onnx import export_onnx

    mapped = load_built(Builder(f"{NETS}:Mapped"), None, IMAGE)
    export_onnx(mapped, tmp_path / "mapped.onnx")
    session = Session(tmp_path / "mapped.onnx")
    assert [(s.name, s.shape) for s in session.outputs] == [("classes", ("batch", 3)), ("features", ("batch", 144))]
    described = Description(parse_inputs(["ids=1x4:int64", "scale=batchx2"]))
    paired = load_built(Builder(f"{NETS}:Paired"), None, described)
    export_onnx(paired, tmp_path / "paired.onnx")
    session = Session(tmp_path / "paired.onnx")
    assert [str(s) for s in session.inputs] == ["ids: int64 batchx4", "scale: float32 batchx2"]
    assert [s.name for s in session.outputs] == ["output_0", "output_1"]


def test_a_batch_that_is_built_in_is_refused(tmp_path: Path, cli: Cli) -> None:
    answer = cli("export", "--builder", f"{NETS}:Frozen", "--input", "image=1x1x8x8", "--out", tmp_path / "m.onnx")
    assert answer.code == 1
    assert "cannot be run at batch 1: " in answer.err
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nets", "names no function; write it as package.module:function or file.py:function"),
        ("nowhere.nets:plain", "there is no module 'nowhere'"),
        (f"{NETS}x:plain", "there is no module 'tests.load.netsx'"),
        (f"{NETS}:plane", "has no 'plane'; did you mean 'plain'?"),
        (f"{NETS}:CONSTANT", "is a int, not a function or class"),
        (f"{NETS}:number", "gave a int; it must return a torch.nn.Module"),
        (f"{NETS}:failing", "failed: RuntimeError: no such layer (nets.py:"),
        ("nowhere.py:plain", "nowhere.py is not there"),
        (f"{NETS}:Odd", "gave Tensor, str; its forward must return a tensor, a tuple or a mapping of tensors"),
    ],
)
def test_builders_that_build_nothing(reference: str, said: str) -> None:
    assert said in refusal(reference)


def test_wrong_arguments_inputs_and_classes() -> None:
    assert "failed: TypeError" in refusal(f"{NETS}:Plain.of", wrong=3)
    assert "does not take image: float32 batchx1x9x9: RuntimeError" in refusal(
        f"{NETS}:plain", Description(parse_inputs(["image=1x1x9x9"]))
    )
    assert "gives 3 a sample, not 2 classes" in refusal(f"{NETS}:plain", replace(IMAGE, classes=("a", "b")))
    assert "needs its inputs: --input" in refusal(f"{NETS}:plain", Description())


def test_an_error_while_the_users_module_is_imported(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import math\n\nmath.no_such_function()\n")
    with pytest.raises(ModelError) as error:
        Builder("broken.py:build", directory=tmp_path).build()
    assert "failed: AttributeError" in str(error.value)
    assert str(error.value).endswith("(broken.py:3)")


@pytest.mark.parametrize("flag", ["image", "=1x2", "image=0x2", "image=1x2:floaty", "image=1x-2", "1a=2"])
def test_inputs_that_are_none(flag: str) -> None:
    with pytest.raises(ModelError, match=r"input"):
        parse_inputs([flag])


def checkpoint(place: Path, builder: str) -> TrainedModel:
    model = load_built(Builder(builder), None, IMAGE)
    save_checkpoint(model, place, {})
    return model


@pytest.mark.parametrize("builder", [f"{NETS}:plain", f"{NETS}:Mapped"])
def test_a_checkpoint_of_a_builder_runs_only_code_that_is_named_again(tmp_path: Path, builder: str, cli: Cli) -> None:
    place = tmp_path / "c"
    model = checkpoint(place, builder)
    answer = cli("export", place, "--out", tmp_path / "m.onnx")
    assert answer.code == 1
    assert answer.err == (
        f"error: {place} was built by the code {builder}; edgekit runs no code that a file names, name it yourself: "
        f"--builder {builder}\n"
    )
    again = open_checkpoint(place, Builder(builder))
    assert again.card == model.card
    np.testing.assert_array_equal(again.run(images(2))[0], model.run(images(2))[0])
    assert cli("export", place, "--builder", builder, "--out", tmp_path / "m.onnx").code == 0


def test_cards_survive_json(tmp_path: Path) -> None:
    card = checkpoint(tmp_path, f"{NETS}:Mapped").card
    said = json.loads((tmp_path / "config.json").read_text())["card"]
    assert ModelCard.from_dict(said) == card
    assert said["architecture"] == {"builder": f"{NETS}:Mapped", "arguments": {}, "values": True}


def test_weights_of_a_family(tmp_path: Path, cli: Cli, pico_cnn: Path) -> None:
    from edgekit.training.checkpoint import load_checkpoint

    ours = load_checkpoint(pico_cnn)
    weights = {f"net.{k}": v for k, v in ours.module.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "w.ckpt")
    start = ("export", tmp_path / "w.ckpt", "--family", "cnn", "--size", "pico", "--out", tmp_path / "m.onnx")
    said = cli(*start, "--data", "digits").err
    assert "error: " in said
    assert "every extra name starts with 'net.': --strip net." in said
    assert cli(*start, "--data", "digits", "--strip", "net.").code == 0
    np.testing.assert_allclose(Session(tmp_path / "m.onnx").run(images(3))[0], ours.run(images(3))[0], atol=1e-4)
    assert json.loads(Session(tmp_path / "m.onnx").metadata["edgekit.preprocessing"])["mean"] == [0.3053]
    assert cli(*start, "--input", "image=1x1x8x8", "--classes", 10, "--strip", "net.").code == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "holds weights, not what to do with them; say it: --family F"),
        (("--family", "cmn", "--data", "digits"), "unknown family 'cmn'; did you mean 'cnn'?"),
        (("--family", "cnn", "--size", "huge", "--data", "digits"), "unknown size 'huge' of family 'cnn'"),
        (("--family", "cnn"), "needs its inputs: --input"),
        (("--family", "cnn", "--input", "image=1x1x8x8"), "needs the number of its classes: --classes 10"),
        (("--family", "cnn", "--data", "digits", "--classes", "zero"), "--classes zero: neither a number from 1 on"),
        (("--family", "cnn", "--data", "digits", "--task", "clasification"), "unknown task 'clasification'; did you"),
        (("--family", "cnn", "--builder", "a:b"), "exactly one of"),
        (("--family", "cnn", "--trust-remote-code"), "`trust_remote_code` does not go with `family`"),
        (("--builder", "a:b", "--argument", "x"), "--argument x: got no name=value"),
    ],
)
def test_what_must_be_said_of_weights(tmp_path: Path, cli: Cli, flags: tuple[str, ...], said: str) -> None:
    torch.save(Plain().state_dict(), tmp_path / "w.pth")
    answer = cli("export", tmp_path / "w.pth", "--out", tmp_path / "m.onnx", *flags)
    assert answer.code == 1
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "m.onnx").exists()


def test_nothing_to_export(cli: Cli, tmp_path: Path) -> None:
    answer = cli("export", "--out", tmp_path / "m.onnx")
    assert answer.err == "error: nothing to export: give a SOURCE, or --builder package.module:function\n"


def test_names_of_classes_from_a_file(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n\nowl\n")
    answer = cli(
        *("export", "--builder", f"{NETS}:plain", "--input", "image=1x1x8x8", "--classes", tmp_path / "names.txt"),
        *("--out", tmp_path / "m.onnx"),
    )
    assert answer.code == 0
    assert json.loads(Session(tmp_path / "m.onnx").metadata["edgekit.classes"]) == ["cat", "dog", "owl"]


def test_a_weight_file_says_what_it_did_not_fit() -> None:
    with pytest.raises(ModelError, match=r"no\.pth is not there"):
        WeightFile(Path("no.pth")).into(Plain(), "plain")


def test_hints_that_say_nothing() -> None:
    assert Hints().given() == {}
