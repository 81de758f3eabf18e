from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgekit.data.npz import npz_source
from edgekit.data.split import Split
from edgekit.errors import DataError, ExportError, ModelError, RecipeError
from edgekit.evaluate import evaluate
from edgekit.export.torch_onnx import ExportResult, export_onnx
from edgekit.families import FAMILIES
from edgekit.families.recurrent_module import RecurrentLayer, turned
from edgekit.ort import Session
from edgekit.specs import Array, TensorSpec
from edgekit.tasks import find_metric
from edgekit.training.checkpoint import ModelCard, TrainedModel, load_checkpoint, save_checkpoint
from edgekit.training.request import train_family

KINDS = ("rnn", "gru", "lstm")
SERIES = TensorSpec("series", "float32", ("batch", "time", 3))
LENGTHS = TensorSpec("lengths", "int64", ("batch",))
IDS = TensorSpec("ids", "int64", ("batch", "length"), 30)
MASK = TensorSpec("mask", "int64", ("batch", "length"))
ENDS = np.array([9, 1, 4, 9, 2])


def pico(kind: str, size: str = "pico", task: str = "classification", *inputs: TensorSpec) -> TrainedModel:
    torch.manual_seed(0)
    card = ModelCard(kind, size, task, "made up", tuple("abcd"), inputs or (SERIES, LENGTHS), {})
    if task == "language-modelling":
        card = ModelCard(kind, size, task, "made up", (), inputs, {}, outputs=("logits",))
    return TrainedModel(card.build().eval(), card)


def series(n: int = 5, time: int = 9, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, time, 3)).astype(np.float32)


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def exported(model: TrainedModel, path: Path) -> ExportResult:
    result = export_onnx(model, path)
    assert (result.exporter, result.note) == ("dynamo", "")
    assert result.parity.batches == (1, 2, 7)
    assert result.parity.lengths == (1, 3, 64, 200)
    assert result.parity.max_abs < 1e-5
    return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_layer_is_torchs_own(kind: str, bidirectional: bool) -> None:
    ours = RecurrentLayer(kind, 3, 4, bidirectional)
    theirs = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[kind](3, 4, batch_first=True, bidirectional=bidirectional)
    for part, suffix in (("ahead", ""), ("back", "_reverse")):
        for name, value in ours.state_dict().items():
            if name.startswith(part):
                theirs.get_parameter(name.removeprefix(f"{part}.") + suffix).data.copy_(value)
    x = torch.from_numpy(series())
    out, end = ours(x)
    wanted, state = theirs(x)
    np.testing.assert_allclose(out.detach(), wanted.detach(), atol=1e-6)
    for got, want in zip(end, state if kind == "lstm" else (state,), strict=True):
        np.testing.assert_allclose(got.detach(), want.detach(), atol=1e-6)


def test_a_series_is_turned_within_its_own_length() -> None:
    x = torch.arange(8.0).reshape(2, 4, 1)
    assert turned(x, torch.tensor([4, 2])).flatten().tolist() == [3, 2, 1, 0, 5, 4, 6, 7]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["pico", "pico-bidirectional"])
@pytest.mark.parametrize("task", ["classification", "step-classification"])
def test_padding_never_reaches_a_result(kind: str, size: str, task: str, tmp_path: Path) -> None:
    """Each series of a padded batch gets what it gets alone, in torch and in the file, whatever the padding holds."""
    model = pico(kind, size, task)
    result = exported(model, tmp_path / "m.onnx")
    assert result.parity.padded
    assert operators(tmp_path / "m.onnx").count(kind.upper()) == FAMILIES[kind].sizes[size]["depth"]
    x = series()
    for i, end in enumerate(ENDS):
        x[i, end:] = 1e3
    for runner in (model, Session(tmp_path / "m.onnx")):
        together = runner.run({"series": x, "lengths": ENDS})[0]
        for i, end in enumerate(ENDS):
            alone = runner.run({"series": x[i : i + 1, :end], "lengths": ENDS[i : i + 1]})[0][0]
            got = together[i, :end] if task == "step-classification" else together[i]
            np.testing.assert_allclose(got, alone, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_one_length_needs_no_lengths(kind: str, tmp_path: Path) -> None:
    alone, beside = pico(kind, "pico-bidirectional", "classification", SERIES), pico(kind, "pico-bidirectional")
    x = series()
    wanted = beside.run({"series": x, "lengths": np.full(5, 9)})[0]
    np.testing.assert_allclose(alone.run({"series": x})[0], wanted, atol=1e-6)
    result = exported(alone, tmp_path / "m.onnx")
    assert not result.parity.padded
    assert "Cast" not in operators(tmp_path / "m.onnx")


def test_weights_against_the_formula() -> None:
    """Each gate has a row of inputs, one of states and two biases for each unit; a head of 4 classes."""
    for kind, gates in (("rnn", 1), ("gru", 3), ("lstm", 4)):
        module = pico(kind).module
        assert sum(p.numel() for p in module.parameters()) == gates * 16 * (3 + 16 + 2) + 4 * 17
        deep = pico(kind, "pico-bidirectional").module
        layers = 2 * gates * 12 * (3 + 12 + 2) + 2 * gates * 12 * (24 + 12 + 2)
        assert sum(p.numel() for p in deep.parameters()) == layers + 4 * 25


def test_large_weights_are_stored_as_the_runtime_takes_them(tmp_path: Path) -> None:
    exported(pico("lstm", "base"), tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    weights = {i.name: list(i.dims) for i in graph.initializer}
    layers = [[weights[name] for name in node.input[1:4]] for node in graph.node if node.op_type == "LSTM"]
    assert layers == [[[1, 1024, 3], [1, 1024, 256], [1, 2048]], [[1, 1024, 256], [1, 1024, 256], [1, 2048]]]


def test_text_is_classified_under_a_mask(tmp_path: Path) -> None:
    model = pico("lstm", "pico-bidirectional", "classification", IDS, MASK)
    assert exported(model, tmp_path / "m.onnx").parity.padded
    ids = np.random.default_rng(0).integers(0, 30, (5, 9))
    mask = (np.arange(9) < ENDS[:, None]).astype(np.int64)
    together = Session(tmp_path / "m.onnx").run({"ids": ids, "mask": mask})[0]
    for i, end in enumerate(ENDS):
        alone = model.run({"ids": ids[i : i + 1, :end], "mask": mask[i : i + 1, :end]})[0][0]
        np.testing.assert_allclose(together[i], alone, atol=1e-5)


@pytest.mark.parametrize("size", ["pico", "pico-tied"])
def test_a_language_model_sees_no_further_than_its_step(size: str, tmp_path: Path) -> None:
    model = pico("gru", size, "language-modelling", IDS)
    exported(model, tmp_path / "m.onnx")
    ids = np.random.default_rng(0).integers(0, 30, (2, 12))
    logits = Session(tmp_path / "m.onnx").run({"ids": ids})[0]
    assert logits.shape == (2, 12, 30)
    other = ids.copy()
    other[:, 7:] = (other[:, 7:] + 1) % 30
    changed = Session(tmp_path / "m.onnx").run({"ids": other})[0]
    np.testing.assert_allclose(changed[:, :7], logits[:, :7], atol=1e-6)
    assert np.abs(changed[:, 7:] - logits[:, 7:]).max() > 1e-3


def test_a_tied_table_is_stored_once(tmp_path: Path) -> None:
    model = pico("lstm", "pico-tied", "language-modelling", IDS)
    assert sum(1 for v in model.module.state_dict().values() if v.shape == (30, 16)) == 1
    exported(model, tmp_path / "m.onnx")
    tables = [i.name for i in onnx.load(tmp_path / "m.onnx").graph.initializer if sorted(i.dims) == [16, 30]]
    assert len(tables) == 1


def test_a_language_model_does_not_read_backwards() -> None:
    with pytest.raises(RecipeError, match="family 'lstm' at this size reads backwards, so that a language model would"):
        pico("lstm", "pico-bidirectional", "language-modelling", IDS)


@pytest.mark.parametrize(
    "inputs",
    [
        (TensorSpec("image", "float32", ("batch", 1, 8, 8)),),
        (TensorSpec("x", "float32", ("batch", 13)),),
        (TensorSpec("ids", "int64", ("batch", "length")),),
        (SERIES, LENGTHS, LENGTHS),
        (SERIES, TensorSpec("weights", "float32", ("batch",))),
    ],
    ids=["a picture", "a row", "ids of no vocabulary", "three inputs", "no lengths"],
)
def test_what_is_no_series(inputs: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(RecipeError) as error:
        FAMILIES["gru"].make("pico", inputs, 4)
    assert str(error.value).startswith("family 'gru' takes series (batch, time, channels) or ids (batch, length) of a ")
    assert str(error.value).endswith("; choose other data or another family")


def test_techniques_without_a_kernel_are_refused_with_what_to_use() -> None:
    for kind in KINDS:
        assert "use `quantize: weights`" in FAMILIES[kind].refuses["quantize: static"]
    assert "no int8 kernel for GRU" in FAMILIES["gru"].refuses["quantize: dynamic"]
    assert "no int8 kernel for RNN" in FAMILIES["rnn"].refuses["quantize: dynamic"]
    assert "quantize: dynamic" not in FAMILIES["lstm"].refuses


def chunked(session: Session, feeds: dict[str, Array], cuts: list[int]) -> list[list[Array]]:
    """The answers to the chunks between the cuts, each going on where the one before ended."""
    name = session.inputs[0].name
    whole, answers = feeds[name], []
    states = {s.name: np.zeros((len(whole), *s.shape[1:]), np.float32) for s in session.inputs[1:]}
    for start, stop in zip([0, *cuts], [*cuts, whole.shape[1]], strict=True):
        answer, *after = session.run({name: whole[:, start:stop], **states})
        states = dict(zip(states, after, strict=True))
        answers.append([answer, *after])
    return answers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [[], [1, 2, 3, 4, 5, 6, 7, 8], [4], [1, 8]], ids=str)
def test_chunks_come_to_the_same_as_the_whole(kind: str, cuts: list[int], tmp_path: Path) -> None:
    steps = pico(kind, "pico", "step-classification", SERIES)
    exported(steps.take("streaming"), tmp_path / "m.onnx")
    session = Session(tmp_path / "m.onnx")
    states = ["hidden", "cell"] if kind == "lstm" else ["hidden"]
    assert [str(s) for s in session.inputs[1:]] == [f"{name}: float32 batchx1x16" for name in states]
    assert [s.name for s in session.outputs] == ["logits", *(f"next_{name}" for name in states)]
    x = series()
    got = np.concatenate([answer for answer, *_ in chunked(session, {"series": x}, cuts)], axis=1)
    np.testing.assert_allclose(got, steps.run({"series": x})[0], atol=1e-5)


def test_a_stream_of_several_layers_ends_at_the_answer_to_the_whole(tmp_path: Path) -> None:
    whole = pico("lstm", "small", "classification", SERIES)
    exported(whole.take("streaming"), tmp_path / "m.onnx")
    x = series(3, 20)
    answers = chunked(Session(tmp_path / "m.onnx"), {"series": x}, [7, 8, 15])
    np.testing.assert_allclose(answers[-1][0], whole.run({"series": x})[0], atol=1e-5)
    assert answers[-1][1].shape == (3, 2, 64)


def test_lengths_are_no_input_of_a_stream() -> None:
    assert [s.name for s in pico("gru").take("streaming").inputs] == ["series", "hidden"]


def test_what_reads_backwards_cannot_stream(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as error:
        pico("lstm", "pico-bidirectional").take("streaming")
    assert str(error.value) == (
        "a bidirectional model cannot stream: it needs the end of a series before its beginning; train a size without "
        "-bidirectional"
    )


def test_a_family_that_does_not_stream(pico_cnn: Path) -> None:
    with pytest.raises(ModelError, match="model of family 'cnn': it has no parts, got 'streaming'"):
        load_checkpoint(pico_cnn).take("streaming")


def test_streaming_from_the_command_line(tmp_path: Path, cli: Any) -> None:
    save_checkpoint(pico("gru"), tmp_path / "gru", {})
    answer = cli("export", tmp_path / "gru", "--streaming", "--out", tmp_path / "m.onnx", "--json")
    assert answer.code == 0
    assert answer.json()["parity"]["lengths"] == [1, 3, 64, 200]
    assert [s.name for s in Session(tmp_path / "m.onnx").outputs] == ["logits", "next_hidden"]
    assert cli("export", tmp_path / "gru", "--streaming", "--part", "x", "--out", tmp_path / "n.onnx").code == 2
    save_checkpoint(pico("gru", "pico-bidirectional"), tmp_path / "both", {})
    answer = cli("export", tmp_path / "both", "--streaming", "--out", tmp_path / "n.onnx")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("error: a bidirectional model cannot stream: ")
    assert not (tmp_path / "n.onnx").exists()


def test_series_with_other_channels_are_refused_with_both_shapes() -> None:
    model = pico("gru")
    split = Split("mine", {"series": np.zeros((5, 9, 2), np.float32), "lengths": ENDS})
    with pytest.raises(DataError) as error:
        split.matched(model.inputs)
    assert str(error.value) == (
        "data 'mine', input 'series': shape (5, 9, 2) does not fit series: float32 batchxtimex3; dimension 2 must be 3"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_training_on_series_of_different_lengths(kind: str, tmp_path: Path) -> None:
    """Which of two channels is the larger at the last step that is no padding: more than 90 %, of 48 series."""
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((320, 8, 2)).astype(np.float32), rng.integers(1, 9, 320)
    last = x[np.arange(320), lengths - 1]
    np.savez(tmp_path / "d.npz", series=x, lengths=lengths, labels=(last[:, 0] > last[:, 1]).astype(np.int64))
    options = {"epochs": 12, "batch_size": 16, "learning_rate": 2e-2}
    train_family(kind, "pico", str(tmp_path / "d.npz"), tmp_path / "out", options)
    export_onnx(load_checkpoint(tmp_path / "out"), tmp_path / "m.onnx")
    test = npz_source(tmp_path / "d.npz").load(None, "classification").splits["test"]
    assert evaluate(Session(tmp_path / "m.onnx"), test, find_metric("top1")).value > 0.9
