"""Teachers: what they answer, what is refused, and what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from edgekit.compress.distill import answers
from edgekit.compress.distill.answers import keep_answers
from edgekit.compress.distill.open import open_teacher, open_teachers
from edgekit.compress.distill.teacher import Ensemble, OnnxTeacher, TorchTeacher, for_teacher
from edgekit.data import DataSet
from edgekit.errors import CompressError, ModelError
from edgekit.graph.fix import fix_inputs
from edgekit.specs import TensorSpec
from edgekit.training.checkpoint import TrainedModel, load_checkpoint
from edgekit.training.seen import Seen, Spot


class Counting:
    """A teacher that counts what it is asked, and may stop answering."""

    module = None
    name = "counting"

    def __init__(self, teacher: TorchTeacher, most: int = 10**9) -> None:
        self.teacher, self.most, self.asked = teacher, most, 0
        self.key, self.inputs = teacher.key, teacher.inputs

    def look(self, inputs: Sequence[Tensor], spots: Sequence[Spot] = ()) -> Seen:
        if self.asked + len(inputs[0]) > self.most:
            raise MemoryError("as if killed")
        self.asked += len(inputs[0])
        return self.teacher.look(inputs, spots)


def kept(teacher: Any, data: DataSet, place: Path, **options: Any) -> Any:
    given = {"task": "classification", "place": place, "fingerprint": "f", **options}
    return keep_answers(teacher, data.splits["train"], ["image"], **given)


def test_each_sample_is_asked_about_once(teacher: TorchTeacher, digits: DataSet, tmp_path: Path) -> None:
    count = len(digits.splits["train"])
    counting = Counting(teacher)
    found = kept(counting, digits, tmp_path)
    assert counting.asked == count + 2  # two samples tell how large an answer is
    again = kept(counting, digits, tmp_path)
    assert counting.asked == count + 4
    rows = torch.tensor([5, 3, count - 1])
    wanted = teacher.look([torch.from_numpy(digits.splits["train"].arrays["image"][rows.numpy()])]).outputs
    for each in (found, again):
        torch.testing.assert_close(each.take(rows), wanted, rtol=1e-4, atol=1e-4)
    assert kept(Counting(teacher), digits, tmp_path, fingerprint="other data") is not None
    assert len(list(tmp_path.glob("*/answers.json"))) == 2


def test_mirrored_samples_have_answers_of_their_own(teacher: TorchTeacher, digits: DataSet, tmp_path: Path) -> None:
    found = kept(teacher, digits, tmp_path, mirrored=True)
    images = torch.from_numpy(digits.splits["train"].arrays["image"][:4])
    view = torch.tensor([0, 1, 1, 0])
    shown = torch.where(view[:, None, None, None] == 1, images.flip(3), images)
    torch.testing.assert_close(found.take(torch.arange(4), view), teacher.look([shown]).outputs, rtol=1e-4, atol=1e-4)


def test_asking_goes_on_where_it_was_cut_off(
    teacher: TorchTeacher, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_AT_ONCE", 50)
    monkeypatch.setattr(answers, "_BETWEEN", 100)
    count = len(digits.splits["train"])
    with pytest.raises(MemoryError):
        kept(Counting(teacher, 320), digits, tmp_path)
    (record,) = tmp_path.glob("*/answers.json")
    assert json.loads(record.read_text())["done"] == 300
    second = Counting(teacher)
    found = kept(second, digits, tmp_path)
    assert second.asked == count - 300 + 2
    whole = kept(teacher, digits, tmp_path / "whole")
    np.testing.assert_array_equal(found.views[0][0], whole.views[0][0])


def test_damaged_answers_are_asked_for_anew(teacher: TorchTeacher, digits: DataSet, tmp_path: Path) -> None:
    kept(teacher, digits, tmp_path)
    (file,) = tmp_path.glob("*/0.0.npy")
    file.write_bytes(b"cut short")
    counting = Counting(teacher)
    kept(counting, digits, tmp_path)
    assert counting.asked == len(digits.splits["train"]) + 2


def test_what_is_too_large_is_not_kept(teacher: TorchTeacher, digits: DataSet, tmp_path: Path) -> None:
    size = 4 * 10 * len(digits.splits["train"])
    assert kept(teacher, digits, tmp_path, most_bytes=size - 1) is None
    assert not list(tmp_path.iterdir())
    assert kept(teacher, digits, tmp_path, most_bytes=size) is not None


def test_a_teacher_is_frozen_and_a_copy(pico_cnn: Path) -> None:
    model = load_checkpoint(pico_cnn)
    teacher = TorchTeacher(model, "cnn")
    model.module.train()
    assert not teacher.module.training
    assert not any(p.requires_grad for p in teacher.module.parameters())
    assert all(p.requires_grad for p in model.module.parameters())


def test_an_ensemble_is_the_mean_of_probabilities(teacher: TorchTeacher, pico_mlp: Path, digits: DataSet) -> None:
    members = (teacher, TorchTeacher(load_checkpoint(pico_mlp), "mlp"))
    x = [torch.from_numpy(digits.splits["test"].arrays["image"][:8])]
    each = [m.look(x).outputs[0] for m in members]
    both = Ensemble(members, of_classes=True).look(x).outputs[0]
    torch.testing.assert_close(both.softmax(-1), (each[0].softmax(-1) + each[1].softmax(-1)) / 2, rtol=1e-4, atol=1e-5)
    plain = Ensemble(members, of_classes=False)
    torch.testing.assert_close(plain.look(x).outputs[0], (each[0] + each[1]) / 2, rtol=1e-4, atol=1e-4)
    assert plain.name == "cnn and mlp"
    assert len({plain.key, Ensemble(members, of_classes=True).key, *(m.key for m in members)}) == 4


def test_an_onnx_file_of_fixed_batch_is_asked_in_parts(pico_onnx: Path, digits: DataSet, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed.onnx"
    onnx.save(fix_inputs(onnx.load(pico_onnx), {"batch": 4}), fixed)
    x = [torch.from_numpy(digits.splits["test"].arrays["image"][:10])]
    free, parts = (OnnxTeacher(p, "t").look(x).outputs[0] for p in (pico_onnx, fixed))
    assert parts.shape == (10, 10)
    torch.testing.assert_close(parts, free, rtol=1e-4, atol=1e-4)


def test_an_onnx_file_shows_its_outputs_only(pico_onnx: Path) -> None:
    with pytest.raises(CompressError, match=r"t is an ONNX file and shows its outputs only; use `distill: logits`"):
        OnnxTeacher(pico_onnx, "t").look([torch.zeros(1, 1, 8, 8)], [Spot("0")])


def test_what_a_teacher_gets_is_found_by_name_or_place() -> None:
    image, noise = torch.ones(2, 1, 4, 4), torch.ones(2, 8)
    named = TensorSpec("image", "float32", ("batch", 1, 4, 4))
    assert for_teacher([named], {"image": image, "more": noise}, "classification", "t")[0] is image
    renamed = TensorSpec("pixel_values", "float32", ("batch", 1, 4, 4))
    assert for_teacher([renamed], {"image": image}, "classification", "t")[0] is image
    wider = TensorSpec("noise", "float32", ("batch", 32))
    given = for_teacher([named, wider], {"image": image, "noise": noise}, "reconstruction", "t")
    assert given[1].shape == (2, 32)
    assert not given[1].any()
    with pytest.raises(CompressError, match=r"^teacher t takes z: .*32.*, and the student's z is 8: both must be made"):
        for_teacher([replace(wider, name="z")], {"z": noise}, "generation", "t")
    with pytest.raises(CompressError, match=r"^teacher t takes image, noise, and the student takes image; give a"):
        for_teacher([named, wider], {"image": image}, "classification", "t")


def named(model: TrainedModel, **facts: Any) -> TrainedModel:
    return TrainedModel(model.module, replace(model.card, **facts))


def refused(model: TrainedModel, data: DataSet, said: str) -> None:
    with pytest.raises(CompressError, match=f"^{said}"):
        open_teacher("base", data, lambda: model)


def test_teachers_of_other_tasks_and_classes_are_refused(pico_cnn: Path, digits: DataSet) -> None:
    model = load_checkpoint(pico_cnn)
    refused(named(model, task="regression"), digits, "teacher base is for regression, and digits is for classification")
    three = named(model, classes=("a", "b", "c"))
    refused(three, digits, r"teacher base has 3 classes \(a, b, c\), and digits has 10 \(0, 1, 2, …\); give a teacher")
    turned = named(model, classes=tuple(reversed(digits.classes)))
    refused(turned, digits, r"teacher base has the classes in another order \(9, 8, 7, …\) than digits \(0, 1, 2, …\)")
    unborn = named(model, architecture={"hf": {}, "untrained_head": True})
    refused(unborn, digits, "teacher base has no trained layer for classes; fine-tune it first")


def test_an_onnx_file_of_other_classes_is_refused(pico_onnx: Path, digits: DataSet, tmp_path: Path) -> None:
    model, path = onnx.load(pico_onnx), tmp_path / "three.onnx"
    entry = next(p for p in model.metadata_props if p.key == "edgekit.classes")
    entry.value = json.dumps(["a", "b", "c"])
    onnx.save(model, path)
    with pytest.raises(CompressError, match=r"three.onnx has 3 classes \(a, b, c\), and digits has 10"):
        open_teachers([str(path)], digits, None)


def test_what_is_not_there_is_no_teacher(digits: DataSet, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"teacher .*nowhere.onnx is not there; give a checkpoint or"):
        open_teachers([str(tmp_path / "nowhere.onnx")], digits, None)
    with pytest.raises(ModelError, match=r"^teacher base is not there; give a checkpoint"):
        open_teachers(["base"], digits, None)


def test_without_a_recipe_base_is_a_directory(
    pico_cnn: Path, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").symlink_to(pico_cnn)
    monkeypatch.chdir(tmp_path)
    assert open_teachers(["base"], digits, None).name == "base"


def test_other_names_of_classes_are_told(pico_cnn: Path, digits: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    model = named(load_checkpoint(pico_cnn), classes=tuple("abcdefghij"))
    open_teacher("base", digits, lambda: model)
    assert "teacher base calls its classes a, b, c, …, and digits 0, 1, 2, …" in capsys.readouterr().err
