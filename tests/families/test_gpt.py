from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgekit.data.split import Split
from edgekit.errors import RecipeError
from edgekit.evaluate import evaluate
from edgekit.export.torch_onnx import export_onnx
from edgekit.families import FAMILIES
from edgekit.ort import Session
from edgekit.specs import TensorSpec
from edgekit.tasks import find_metric
from edgekit.training.checkpoint import ModelCard, TrainedModel

VOCABULARY = 300
IDS = (TensorSpec("ids", "int64", ("batch", "length"), VOCABULARY),)


def pico() -> TrainedModel:
    torch.manual_seed(0)
    card = ModelCard("gpt", "pico", "language-modelling", "text", (), IDS, {})
    module = card.build().eval()
    for parameter in module.parameters():  # larger than at the start, so that attention looks at something
        parameter.data.mul_(4)
    return TrainedModel(module, card)


def tokens(batch: int, length: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(length).integers(0, VOCABULARY, (batch, length)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpt") / "gpt.onnx"
    result = export_onnx(pico(), path)
    assert (result.exporter, result.parity.lengths) == ("dynamo", (1, 3, 64, 128))
    assert result.parity.max_rel < 1e-5
    return path


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpt") / "cache.onnx"
    result = export_onnx(pico().take("cache"), path)
    assert (result.exporter, result.parity.batches) == ("dynamo", (1, 2, 7))
    assert result.parity.max_rel < 1e-5
    return path


def weights(size: str) -> int:
    with torch.device("meta"):
        module = FAMILIES["gpt"].make(size, (TensorSpec("ids", "int64", ("batch", "length"), 50_257),), 0)
    return sum(p.numel() for p in module.parameters())


def test_base_is_gpt2_in_size() -> None:
    """The published 124,439,808 of GPT-2's smallest model, whose attention has the same biases."""
    assert weights("base") == 124_439_808


def test_a_token_sees_what_is_before_it_and_nothing_after() -> None:
    module, ids = pico().module, tokens(1, 12)
    changed = ids.clone()
    changed[0, 6] = (changed[0, 6] + 1) % VOCABULARY
    before, after = module(ids)[0], module(changed)[0]
    torch.testing.assert_close(before[:6], after[:6], rtol=0, atol=0)
    assert (before[6:] - after[6:]).abs().amax(dim=1).min() > 1e-4


def test_training_and_evaluation_compute_the_same() -> None:
    """The fused product of training, and the plain ones that are exported."""
    module, ids = pico().module, tokens(3, 40)
    plain = module(ids)
    torch.testing.assert_close(module.train()(ids), plain, rtol=1e-4, atol=1e-4)


def test_the_table_of_tokens_is_also_the_last_layer() -> None:
    module = pico().module
    assert sum(p.shape == (VOCABULARY, 32) for p in module.parameters()) == 1
    assert not [m for m in module.modules() if isinstance(m, nn.Linear) and m.out_features == VOCABULARY]


@pytest.mark.parametrize("which", ["plain", "cached"])
def test_tied_embeddings_are_one_tensor_of_the_file(which: str, request: pytest.FixtureRequest) -> None:
    graph = onnx.load(request.getfixturevalue(which)).graph
    assert [tuple(i.dims) for i in graph.initializer if VOCABULARY in i.dims] == [(VOCABULARY, 32)]


def test_the_cache_has_hugging_faces_names(cached: Path) -> None:
    session = Session(cached)
    assert [str(s) for s in session.inputs[:2]] == [
        "ids: int64 batchxlength",
        "past_key_values.0.key: float32 batchx2xpastx16",
    ]
    assert [s.name for s in session.outputs] == [
        "logits",
        "present.0.key",
        "present.0.value",
        "present.1.key",
        "present.1.value",
    ]


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("cuts", [(1, 1, 1), (3, 1, 60), (64, 1, 1, 62)])
def test_pieces_with_the_cache_are_the_whole_without(plain: Path, cached: Path, batch: int, cuts: tuple[int]) -> None:
    """One file serves the prompt (nothing has gone before) and each step."""
    whole, session = Session(plain), Session(cached)
    ids = tokens(batch, sum(cuts)).numpy()
    past = [np.zeros((batch, 2, 0, 16), np.float32)] * 4
    found, start = [], 0
    for cut in cuts:
        names = [s.name for s in session.inputs]
        logits, *past = session.run(dict(zip(names, [ids[:, start : start + cut], *past], strict=True)))
        found.append(logits)
        start += cut
    assert past[0].shape == (batch, 2, sum(cuts), 16)
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole.run({"ids": ids})[0], atol=2e-5)


def test_a_file_with_a_cache_is_judged_on_plain_text(plain: Path, cached: Path) -> None:
    """Nothing has gone before a sample: its memory is empty."""
    split = Split("test", {"ids": tokens(9, 20).numpy()}, np.full(9, 19))
    metric = find_metric("bits-per-character")
    first, second = (evaluate(Session(path), split, metric) for path in (plain, cached))
    assert second.value == pytest.approx(first.value, rel=1e-5)


def test_positions_are_the_papers_sines_and_cosines() -> None:
    """Vaswani et al. 2017, section 3.5, by the formula."""
    from edgekit.families.decoder import SinusoidalPositions

    found = SinusoidalPositions(50, 8)(torch.arange(50)).numpy()
    for position in (0, 1, 49):
        for i in range(4):
            angle = position / 10_000 ** (2 * i / 8)
            assert found[position, 2 * i : 2 * i + 2].tolist() == pytest.approx(
                [np.sin(angle), np.cos(angle)], abs=1e-5
            )


def test_a_transformer_remembers_as_a_gpt_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    card = ModelCard("transformer", "pico", "language-modelling", "text", (), IDS, {})
    model = TrainedModel(card.build().eval(), card)
    result = export_onnx(model.take("cache"), tmp_path / "cache.onnx")
    assert (result.exporter, result.parity.lengths) == ("dynamo", (1, 3, 64, 128))
    assert result.parity.max_rel < 1e-5
    assert "positions.table" not in dict(model.module.named_parameters())


def test_only_text_is_taken() -> None:
    for inputs in (TensorSpec("x", "float32", ("batch", 13)), TensorSpec("ids", "int64", ("batch", "length"))):
        with pytest.raises(RecipeError, match=r"^family 'gpt' takes the ids of a text \(batch, length\), got "):
            FAMILIES["gpt"].make("pico", (inputs,), 2)
