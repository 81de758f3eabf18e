"""Text that a teacher wrote, and students that learn from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgekit.compress.distill.run import Distilling
from edgekit.compress.distill.sequences import Writer, written_by
from edgekit.compress.distill.student import new_student
from edgekit.compress.distill.teacher import OnnxTeacher, Teacher, TorchTeacher
from edgekit.data import DataSet, Split
from edgekit.errors import CompressError
from edgekit.specs import TensorSpec
from edgekit.training.checkpoint import ModelCard, TrainedModel, read_config
from edgekit.training.config import TrainConfig
from tests.compress.distill.conftest import config_of, poisoned

LENGTH, WORDS = 12, 20


@pytest.fixture(scope="module")
def text() -> DataSet:
    rng = np.random.default_rng(3)
    splits = {
        name: Split(name, {"ids": rng.integers(0, WORDS, (count, LENGTH))}, np.full(count, LENGTH - 1))
        for name, count in (("train", 64), ("validation", 16), ("calibration", 8), ("test", 8))
    }
    ids = TensorSpec("ids", "int64", ("batch", "length"), WORDS)
    return DataSet("made-up", "language-modelling", (ids,), (), None, splits)


def model_of(text: DataSet, family: str = "gpt") -> TrainedModel:
    card = ModelCard(family, "pico", text.task, text.name, (), text.inputs, {})
    torch.manual_seed(0)
    module = card.build().eval()
    for parameter in module.parameters():  # an untrained one is sure of nothing
        parameter.data *= 4
    return TrainedModel(module, card)


@pytest.mark.parametrize("family", ["gpt", "transformer", "lstm"])
def test_what_is_written_is_likely_to_its_writer_and_keeps_the_beginning(text: DataSet, family: str) -> None:
    teacher = TorchTeacher(model_of(text, family), family)
    ids = torch.from_numpy(text.splits["train"].arrays["ids"][:16])
    written = Writer(teacher, 0.25, 0.01, seed=1).look([ids]).outputs[0].long()
    assert written.shape == ids.shape
    assert torch.equal(written[:, :3], ids[:, :3])
    logits = teacher.look([written]).outputs[0][:, 2:-1]
    chosen = logits.gather(-1, written[:, 3:, None])[..., 0]
    assert float((logits.max(-1).values - chosen).max()) < 0.15  # at a temperature of 0.01


def test_the_cache_of_a_teacher_changes_nothing(text: DataSet) -> None:
    teacher = TorchTeacher(model_of(text), "gpt")
    ids = [torch.from_numpy(text.splits["train"].arrays["ids"][:8])]
    fast = Writer(teacher, 0.5, 1.0, seed=2).look(ids).outputs[0]
    teacher.memory = ()
    assert torch.equal(Writer(teacher, 0.5, 1.0, seed=2).look(ids).outputs[0], fast)
    assert not torch.equal(Writer(teacher, 0.5, 1.0, seed=3).look(ids).outputs[0], fast)


def test_an_exported_teacher_writes_the_same(text: DataSet, tmp_path: Path) -> None:
    """A table of which token follows which, as a module and as a file."""
    table = torch.randn(WORDS, WORDS, generator=torch.Generator().manual_seed(5))
    card = ModelCard("bigrams", "", text.task, text.name, (), text.inputs, {}, architecture={"builder": "none"})
    module = torch.nn.Embedding.from_pretrained(table)
    shapes = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", WORDS]),
    ]
    gather = helper.make_node("Gather", ["table", "ids"], ["logits"])
    graph = helper.make_graph(
        [gather], "bigrams", shapes[:1], shapes[1:], [numpy_helper.from_array(table.numpy(), "table")]
    )
    path = tmp_path / "bigrams.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    ids = [torch.from_numpy(text.splits["train"].arrays["ids"][:8])]
    both: list[Teacher] = [TorchTeacher(TrainedModel(module, card), "torch"), OnnxTeacher(path, "onnx")]
    written = [Writer(t, 0.5, 1.0, seed=2).look(ids).outputs[0] for t in both]
    assert torch.equal(*written)


def test_a_share_of_the_texts_is_the_teacher_s(text: DataSet, tmp_path: Path) -> None:
    writer = Writer(TorchTeacher(model_of(text), "gpt"), 0.25, 1.0, seed=1)
    before = text.splits["train"].arrays["ids"]
    for share, least, most in ((0.0, 0, 0), (0.5, 20, 44), (1.0, 64, 64)):
        data = written_by(writer, text, share=share, place=tmp_path, fingerprint="f")
        ids = data.splits["train"].arrays["ids"]
        assert ids.dtype == np.int64
        assert least <= int((ids != before).any(1).sum()) <= most
    assert len(list(tmp_path.glob("*/answers.json"))) == 1
    assert data.splits["validation"] is text.splits["validation"]


def distil(text: DataSet, teacher: Teacher, out: Path, **options: object) -> float:
    config = config_of("sequences", weight=1.0, train={"epochs": 10, "batch_size": 16}, **options)
    Distilling(config, new_student("gpt", "pico", text), teacher, TrainConfig(), out, out, "f").run()
    losses = [row["loss"] for row in read_config(out)["history"]]
    return float(losses[-1] / losses[0])


def test_a_student_learns_what_its_teacher_writes(text: DataSet, tmp_path: Path) -> None:
    teacher = TorchTeacher(model_of(text), "gpt")
    assert distil(text, teacher, tmp_path / "a", temperature=0.1) < 0.8
    assert distil(text, teacher, tmp_path / "b", temperature=0.5, also=["logits"], prompt=0.5) < 0.9
    assert list((tmp_path / "b").glob("teacher/*/answers.json"))


def test_tokens_are_learnt_one_by_one_too(text: DataSet, tmp_path: Path) -> None:
    config = config_of("logits", temperature=1.0, weight=1.0, train={"epochs": 5, "batch_size": 16})
    student, teacher = new_student("lstm", "pico", text), TorchTeacher(model_of(text), "gpt")
    Distilling(config, student, teacher, TrainConfig(), tmp_path, tmp_path, "f").run()
    losses = [row["loss"] for row in read_config(tmp_path)["history"]]
    assert losses[-1] < 0.95 * losses[0]


def test_nan_is_no_text(text: DataSet, tmp_path: Path) -> None:
    broken = poisoned(model_of(text))
    for parameter in broken.module.parameters():
        parameter.data[:] = float("nan")
    with pytest.raises(CompressError, match=r"^teacher broken gives NaN or Inf; nothing can be learnt from it"):
        distil(text, TorchTeacher(broken, "broken"), tmp_path)
