"""Every symbolic dimension stays open, and the file is run at all of them before it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import ExportError
from edgekit.export import torch_onnx
from edgekit.export.parity import Case, cases, example_feeds
from edgekit.export.torch_onnx import export_onnx
from edgekit.families import FAMILIES, Family
from edgekit.graph.feeds import generate_feeds
from edgekit.ort import Session
from edgekit.specs import TensorSpec
from edgekit.training.checkpoint import ModelCard, TrainedModel

SERIES = TensorSpec("series", "float32", ("batch", "time", 3))
LENGTHS = TensorSpec("lengths", "int64", ("batch",))
IDS = TensorSpec("ids", "int64", ("batch", "length"))
MASK = TensorSpec("mask", "int64", ("batch", "length"))


class MeanOfSeries(nn.Module):
    """The mean over the steps that are no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, series: Tensor, lengths: Tensor) -> Tensor:
        there = torch.arange(series.shape[1]) < lengths[:, None]
        return self.head((series * there[..., None]).sum(1) / lengths[:, None])


class Words(nn.Module):
    """A table of words and one of positions, which ends at 16."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(50, 4), nn.Embedding(16, 4)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        positions = self.positions(torch.arange(ids.shape[1]))
        return ((self.words(ids) + positions) * mask[..., None]).sum(1)


class Cached(nn.Module):
    """The sum of what went before and of what comes, and both one after the other."""

    def forward(self, series: Tensor, past: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        present = torch.cat([past, series], dim=1)
        return (present * mask[..., None]).sum(1), present


class Frozen(nn.Module):
    """Takes as many steps as its weight has, and no other number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, 3))

    def forward(self, series: Tensor) -> Tensor:
        return (series * self.weight).sum(1)


class Elman(nn.Module):
    """torch's own recurrent layer, which the dynamo exporter cannot take at an open length."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.RNN(3, 4, batch_first=True)

    def forward(self, series: Tensor) -> Tensor:
        return self.layer(series)[0][:, -1]  # type: ignore[no-any-return]


def model(module: nn.Module, *inputs: TensorSpec, outputs: tuple[str, ...] = ("logits",)) -> TrainedModel:
    torch.manual_seed(0)
    card = ModelCard("net", "", "classification", "", (), inputs, {}, outputs=outputs, architecture={"kind": "test"})
    return TrainedModel(module.eval(), card)


def dims(path: Path) -> dict[str, list[str | int]]:
    values = onnx.load(path).graph.input
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def test_lengths_are_open_and_run_full_and_padded(tmp_path: Path) -> None:
    result = export_onnx(model(MeanOfSeries(), SERIES, LENGTHS), tmp_path / "m.onnx")
    assert result.exporter == "dynamo"
    assert result.parity.batches == (1, 2, 7)
    assert result.parity.lengths == (1, 3, 64, 200)
    assert result.parity.padded
    assert 0 <= result.parity.max_abs < 1e-5
    assert dims(tmp_path / "m.onnx") == {"series": ["batch", "time", 3], "lengths": ["batch"]}


def test_the_longest_is_the_limit_of_the_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family(
        name="words",
        summary="",
        paper="",
        tasks=("classification",),
        sizes={"pico": {"positions": 16}},
        build=lambda inputs, outputs, positions: Words(),
    )
    monkeypatch.setitem(FAMILIES, "words", family)
    card = ModelCard("words", "pico", "classification", "", tuple("abcd"), (IDS, MASK), {})
    result = export_onnx(TrainedModel(card.build().eval(), card), tmp_path / "m.onnx")
    assert result.parity.lengths == (1, 3, 16)
    assert result.parity.padded
    assert dims(tmp_path / "m.onnx") == {"ids": ["batch", "length"], "mask": ["batch", "length"]}


def test_what_went_before_may_be_nothing(tmp_path: Path) -> None:
    past = TensorSpec("past", "float32", ("batch", "past", 3))
    mask = TensorSpec("mask", "int64", ("batch", "past + length"))
    series = TensorSpec("series", "float32", ("batch", "length", 3))
    cached = model(Cached(), series, past, mask, outputs=("sum", "present"))
    result = export_onnx(cached, tmp_path / "m.onnx")
    assert result.parity.lengths == (1, 3, 64, 200)
    assert dims(tmp_path / "m.onnx")["past"] == ["batch", "past", 3]
    session = Session(tmp_path / "m.onnx")
    for before, length in ((0, 4), (9, 1), (0, 1), (5, 7)):
        feeds = {
            "series": np.ones((2, length, 3), np.float32),
            "past": np.ones((2, before, 3), np.float32),
            "mask": np.ones((2, before + length), np.int64),
        }
        total, present = session.run(feeds)
        assert total.tolist() == [[before + length] * 3] * 2
        assert present.shape == (2, before + length, 3)


def test_a_fixed_length_is_run_alone(tmp_path: Path) -> None:
    result = export_onnx(model(MeanOfSeries(), SERIES, LENGTHS), tmp_path / "m.onnx", fix=["time=9", "batch=2"])
    assert dims(tmp_path / "m.onnx") == {"series": [2, 9, 3], "lengths": [2]}
    assert (result.parity.batches, result.parity.padded) == ((2,), True)


def test_a_module_that_takes_one_length_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"^net cannot be run at batch 1, time 3: The size of .*; where its forward holds"
    ):
        export_onnx(model(Frozen(), SERIES), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_what_the_dynamo_exporter_cannot_take_goes_the_older_way(tmp_path: Path) -> None:
    result = export_onnx(model(Elman(), SERIES), tmp_path / "m.onnx")
    assert (result.exporter, result.parity.lengths) == ("torchscript", (1, 3, 64, 200))
    assert result.note.startswith("the dynamo exporter failed: ")


def test_a_length_that_an_exporter_froze_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older exporter writes the example's length into the attention of torch's own encoder, without a word."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
            self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

        def forward(self, series: Tensor) -> Tensor:
            return self.body(series)  # type: ignore[no-any-return]

    def fail(model: TrainedModel, opset: int) -> Any:
        raise ValueError("not today")

    monkeypatch.setattr(torch_onnx, "_export_dynamo", fail)
    spec = TensorSpec("series", "float32", ("batch", "time", 4))
    with pytest.raises(ExportError, match=r"does not run at batch 1, time 1, where torch does: "):
        export_onnx(model(Encoder(), spec), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_the_cases() -> None:
    words = model(Words(), IDS, MASK)
    found = cases(words, words.inputs)
    assert [(c.batch, c.length) for c in found if not c.padded] == [(b, n) for b in (1, 2, 7) for n in (1, 3, 64)] + [
        (1, 200)
    ]
    assert len(found) == 20
    assert str(found[-1]) == "batch 1, length 200, padded"


def test_padded_feeds_end_anywhere_and_the_first_sample_is_whole() -> None:
    case = Case(7, 12, {"length": 12, "time": 12}, padded=True)
    mask = example_feeds(model(Words(), IDS, MASK), case)["mask"]
    ends = mask.sum(axis=1)
    assert mask.dtype == np.int64
    assert ends[0] == 12
    assert ends.min() >= 1
    assert len(set(ends.tolist())) > 2
    assert all((row[:end] == 1).all() for row, end in zip(mask, ends, strict=True))
    lengths = example_feeds(model(MeanOfSeries(), SERIES, LENGTHS), case)["lengths"]
    assert lengths.tolist() == ends.tolist()


def test_generated_lengths_are_full() -> None:
    feeds = generate_feeds([SERIES, LENGTHS], batch=4, default_dim=9)
    assert feeds["lengths"].tolist() == [9] * 4
