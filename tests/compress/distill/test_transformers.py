"""Transformers of ours and of Hugging Face: their blocks, students that keep some, and what goes on inside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.compress.distill.losses import LOSSES, Pair
from edgekit.compress.distill.run import Distilling
from edgekit.compress.distill.spots import Blocks, blocks_of, feature_maps, last_tokens, passed_by, penultimate
from edgekit.compress.distill.student import Student, new_student, student_of, with_blocks
from edgekit.compress.distill.teacher import TorchTeacher
from edgekit.data import DataSet, Split
from edgekit.errors import CompressError
from edgekit.load import Description, ModelSource, adapted, load_model, open_checkpoint
from edgekit.specs import TensorSpec
from edgekit.training.augment import Mixture
from edgekit.training.checkpoint import ModelCard, TrainedModel, load_checkpoint, read_config
from edgekit.training.config import TrainConfig
from edgekit.training.objective import LearningBatch, look
from edgekit.training.teaching import TeachingConfig
from tests.compress.distill.conftest import config_of
from tests.load.language_models import WORDS

IMAGE = (TensorSpec("image", "float32", ("batch", 1, 8, 8)),)
IDS = TensorSpec("ids", "int64", ("batch", "length"), 40)
MASK = TensorSpec("mask", "int64", ("batch", "length"))


def model_of(family: str, size: str = "pico") -> TrainedModel:
    task = {"gpt": "language-modelling"}.get(family, "classification")
    inputs = {"vit": IMAGE, "bert": (IDS, MASK), "gpt": (IDS,)}.get(family, IMAGE)
    card = ModelCard(family, size, task, "made-up", ("a", "b"), inputs, {})
    torch.manual_seed(0)
    return TrainedModel(card.build().eval(), card)


def sample_of(model: TrainedModel, count: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(1)
    if model.card.family == "vit":
        return [torch.randn(count, 1, 8, 8)]
    ids, mask = torch.randint(0, 40, (count, 6)), torch.ones(count, 6, dtype=torch.int64)
    mask[0, 4:] = 0
    return [ids, mask][: len(model.inputs)]


@pytest.mark.parametrize(
    ("family", "container", "children"),
    [("vit", "0", ((1, 2), (3, 4))), ("bert", "encoder.blocks", ((0,), (1,))), ("gpt", "blocks", ((0,), (1,)))],
)
def test_blocks_of_our_families(family: str, container: str, children: tuple[tuple[int, ...], ...]) -> None:
    blocks = blocks_of(model_of(family).module)
    assert blocks is not None
    assert (blocks.container, blocks.children) == (container, children)
    assert [a.heads for a in blocks.attentions] == [2, 2]


def test_what_is_no_transformer_has_no_blocks(pico_cnn: Path) -> None:
    assert blocks_of(load_checkpoint(pico_cnn).module) is None
    assert blocks_of(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) is None


@pytest.mark.parametrize("family", ["vit", "bert", "gpt"])
def test_a_student_of_all_blocks_is_the_teacher_and_of_one_is_that_one(family: str) -> None:
    model = model_of(family)
    x = sample_of(model)
    same = with_blocks(model, [0, 1])
    torch.testing.assert_close(same.module(*x), model.module(*x))
    last = with_blocks(model, [1])
    blocks = blocks_of(model.module)
    assert isinstance(blocks, Blocks)
    skipped = {child for child in blocks.children[0]}
    there, left = model.module.get_submodule(blocks.container), last.module.get_submodule(blocks.container)
    kept = [layer for i, layer in enumerate(there.children()) if i not in skipped]
    for ours, theirs in zip(left.children(), kept, strict=True):
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value)
    assert last.card.size_arguments["depth"] == 1
    rebuilt = last.card.build()
    rebuilt.load_state_dict(last.module.state_dict())
    torch.testing.assert_close(rebuilt.eval()(*x), last.module(*x))


def test_blocks_that_are_not_there_are_refused(pico_cnn: Path) -> None:
    with pytest.raises(CompressError, match=r"^layers: bert has blocks 0..1, got 5$"):
        with_blocks(model_of("bert"), [0, 5])
    with pytest.raises(CompressError, match=r"^layers: cnn has no blocks with attention to choose from; name the"):
        with_blocks(load_checkpoint(pico_cnn), [0])


def compared(student: TrainedModel, teacher: TrainedModel, options: TeachingConfig | None = None) -> float:
    x = sample_of(student)
    pair = Pair(student.module, teacher.module, x, x, student.card.task)
    term = LOSSES["transformer"].make(options or TeachingConfig(), pair)
    named = {s.name: value for s, value in zip(student.inputs, x, strict=True)}
    batch = LearningBatch(named, named, Mixture(None), torch.arange(3), lambda: torch.zeros(()))
    ours, theirs = look(student.module, x, term.student), look(teacher.module, x, term.teacher)
    return float(term.compare(ours, theirs, batch).detach())


@pytest.mark.parametrize("family", ["vit", "bert", "gpt"])
def test_a_copy_of_the_teacher_has_no_loss_and_a_part_of_it_some(family: str) -> None:
    model = model_of(family)
    assert compared(with_blocks(model, [0, 1]), model) == pytest.approx(0, abs=1e-10)
    assert compared(with_blocks(model, [1]), model) > 1e-6
    other = torch.manual_seed(5) and TrainedModel(model.card.build().eval(), model.card)
    assert compared(other, model) > 1e-3


def test_padding_has_no_say_in_what_goes_on_inside() -> None:
    model = model_of("bert")
    student = with_blocks(model, [1])
    wanted = compared(student, model)
    ids, mask = sample_of(student)
    ids[0, 4:] = 7
    pair = Pair(student.module, model.module, [ids, mask], [ids, mask], "classification")
    term = LOSSES["transformer"].make(TeachingConfig(), pair)
    named = {"ids": ids, "mask": mask}
    batch = LearningBatch(named, named, Mixture(None), torch.arange(3), lambda: torch.zeros(()))
    looked = [look(m.module, [ids, mask], spots) for m, spots in ((student, term.student), (model, term.teacher))]
    assert float(term.compare(*looked, batch).detach()) == pytest.approx(wanted, rel=1e-4)


def test_blocks_may_be_mapped_by_hand() -> None:
    model = model_of("bert")
    student = with_blocks(model, [0])
    x = sample_of(student)
    pair = Pair(student.module, model.module, x, x, "classification")
    for wrong in ([2], [0, 1]):
        with pytest.raises(CompressError, match=r"^blocks: the student has 1 blocks and the teacher 2, got"):
            LOSSES["transformer"].make(TeachingConfig(blocks=wrong), pair)
    assert compared(student, model, TeachingConfig(blocks=[0])) < compared(student, model, TeachingConfig(blocks=[1]))


def test_students_of_another_width_learn_through_a_projection() -> None:
    model, student = model_of("vit", "small"), model_of("vit")
    x = sample_of(student)
    term = LOSSES["transformer"].make(TeachingConfig(), Pair(student.module, model.module, x, x, "classification"))
    assert isinstance(term.learnt, nn.Linear)
    assert tuple(term.learnt.weight.shape) == (96, 32)


def test_places_are_found_by_what_passes_them(pico_cnn: Path) -> None:
    cnn = load_checkpoint(pico_cnn).module
    x = [torch.zeros(2, 1, 8, 8)]
    maps = feature_maps(cnn, x)
    assert list(maps) == sorted(maps, reverse=True)
    shapes = {p.layer: p.shape for p in passed_by(cnn, x)}
    assert shapes[""] == (2, 10)
    assert all(shapes[name][2:] == size for size, name in maps.items())
    spot = penultimate(cnn, x, "the cnn")
    assert spot.entering
    assert isinstance(cnn.get_submodule(spot.layer), nn.Linear)
    assert last_tokens(cnn, x) is None
    assert last_tokens(model_of("vit").module, x) is not None
    with pytest.raises(CompressError, match=r"^the student has no linear layer before its outputs"):
        penultimate(nn.Flatten(), x, "the student")


def test_pairs_of_layers_may_be_named(pico_cnn: Path) -> None:
    cnn = load_checkpoint(pico_cnn).module
    x = [torch.zeros(2, 1, 8, 8)]
    names = list(feature_maps(cnn, x).values())
    pair = Pair(cnn, cnn, x, x, "classification")
    term = LOSSES["features"].make(TeachingConfig(pairs={names[0]: names[-1]}), pair)
    assert [s.layer for s in (*term.student, *term.teacher)] == [names[0], names[-1]]
    with pytest.raises(CompressError, match=r"^unknown layer 'nowhere' of the student"):
        LOSSES["features"].make(TeachingConfig(pairs={"nowhere": names[0]}), pair)
    last = next(name for name, m in reversed(list(cnn.named_modules())) if isinstance(m, nn.Linear))
    with pytest.raises(CompressError, match=rf"^pairs: {names[0]} gives .* and {last} gives 10, which cannot be"):
        LOSSES["features"].make(TeachingConfig(pairs={names[0]: last}), pair)
    with pytest.raises(
        CompressError, match=r"^`features` looks inside the teacher, and of the teacher only the outputs"
    ):
        LOSSES["features"].make(TeachingConfig(), replace(pair, teacher=None))


SIGN = 33  # a text with this token is spam


def mails(name: str, count: int, length: int = 12) -> Split:
    rng = np.random.default_rng(len(name))
    ids, labels = rng.integers(34, WORDS, (count, length)), rng.integers(0, 2, count)
    ids[labels == 1, 1] = SIGN
    mask = (np.arange(length) < rng.integers(3, length + 1, count)[:, None]).astype(np.int64)
    return Split(name, {"ids": ids * mask, "mask": mask}, labels)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    named = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
    config = BertConfig(vocab_size=WORDS, max_position_embeddings=80, initializer_range=0.3, **sizes, **named)
    place = tmp_path_factory.mktemp("hf") / "bert"
    BertForSequenceClassification(config).save_pretrained(place)
    return load_model(ModelSource(hf=str(place)), Description())


@pytest.fixture
def spam(bert: TrainedModel) -> DataSet:
    sizes = {"train": 256, "validation": 64, "calibration": 16, "test": 16}
    splits = {name: mails(name, count) for name, count in sizes.items()}
    return DataSet("mails", "classification", bert.inputs, ("ham", "spam"), None, splits)


def test_blocks_of_a_hugging_face_model_become_a_student_that_is_loaded_again(
    bert: TrainedModel, spam: DataSet, tmp_path: Path
) -> None:
    base = adapted(bert, spam, trains=False)
    blocks = blocks_of(base.module)
    assert blocks is not None
    assert blocks.container == "model.bert.encoder.layer"
    config = config_of("logits", layers=[1], also=["transformer"], train={"epochs": 2, "batch_size": 32})
    student = student_of(config, base, spam)
    work = Distilling(config, student, TorchTeacher(base, "base"), TrainConfig(), tmp_path, tmp_path, "f")
    learnt = work.run()
    again = open_checkpoint(tmp_path)
    assert len(blocks_of(again.module) or ()) == 1
    feeds = spam.splits["test"].arrays
    np.testing.assert_allclose(again.run(feeds)[0], learnt.run(feeds)[0], rtol=1e-5, atol=1e-6)
    losses = [row["loss"] for row in read_config(tmp_path)["history"]]
    assert losses[1] < losses[0]


def test_a_model_of_ours_learns_from_one_of_hugging_face(bert: TrainedModel, spam: DataSet, tmp_path: Path) -> None:
    student: Student = new_student("bert", "pico", spam)
    config = config_of("transformer", train={"epochs": 1, "batch_size": 64})
    teacher = TorchTeacher(adapted(bert, spam, trains=False), "bert")
    work = Distilling(config, student, teacher, TrainConfig(), tmp_path, tmp_path, "f")
    assert work.run().card.family == "bert"


def test_students_that_cannot_be_are_refused(spam: DataSet, bert: TrainedModel) -> None:
    with pytest.raises(CompressError, match=r"^family 'gpt' does language-modelling, and this is classification"):
        new_student("gpt", "pico", spam)
    with pytest.raises(CompressError, match=r"^unknown size 'tiny' of family 'bert'; allowed: base, pico, small"):
        new_student("bert", "tiny", spam)
    with pytest.raises(CompressError, match=r"^unknown family of the student 'hf:bert'; .*; give `family` and `size`"):
        student_of(config_of("logits", size="pico"), bert, spam)
