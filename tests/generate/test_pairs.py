"""From a table of pairs to what a model writes: train, export in one file and in two, greedy and by a beam."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data import PairTokenizers, load_split
from edgekit.data.text.beside import find_tokenizers
from edgekit.errors import DataError, ModelError
from edgekit.evaluate import evaluate
from edgekit.export import export_source
from edgekit.generate.files import split_for, tokenizers_of
from edgekit.generate.pairs import WithCache, is_model_of_pairs, open_translator
from edgekit.ort import Session
from edgekit.specs import Array, Feeds, TensorSpec
from edgekit.tasks import find_metric
from edgekit.tasks.language import log_probabilities
from edgekit.tasks.sequence_to_sequence import write_greedily
from edgekit.training.checkpoint import TrainedModel, load_checkpoint, read_config
from tests.generate.conftest import pairs_in

Cli = Callable[..., Any]


@dataclass(frozen=True)
class Counting:
    """A session that notes the shape of what is to be written on."""

    session: Session
    asked: list[tuple[int, ...]]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.session.inputs

    def run(self, feeds: Feeds) -> list[Array]:
        self.asked.append(feeds["target"].shape)
        return self.session.run(feeds)


@pytest.fixture(scope="module")
def trained(spelling: Path) -> TrainedModel:
    return load_checkpoint(spelling / "checkpoint")


@pytest.fixture(scope="module")
def known(spelling: Path, trained: TrainedModel) -> PairTokenizers:
    found = find_tokenizers(spelling / "checkpoint", trained.card.preprocessing)
    assert isinstance(found, PairTokenizers)
    return found


def test_it_has_learnt_to_spell(spelling: Path, trained: TrainedModel) -> None:
    """The same figures from torch and from the file; what it writes itself is harder than what it is told."""
    data = pairs_in(spelling)
    split = load_split(data, "test", tokenizer=tokenizers_of(spelling / "checkpoint", trained))
    session = Session(spelling / "whole.onnx")
    found = {}
    for name in ("token-accuracy", "sequence-accuracy", "edit-distance"):
        found[name] = evaluate(trained, split, find_metric(name)).value
        assert evaluate(session, split, find_metric(name)).value == pytest.approx(found[name], abs=1e-9)
    assert found["token-accuracy"] > 0.85
    assert 0.3 < found["sequence-accuracy"] <= 1
    assert found["edit-distance"] < 0.3


def test_two_files_write_what_torch_writes(spelling: Path, trained: TrainedModel, known: PairTokenizers) -> None:
    """Token for token, and the same as the whole in one file."""
    split = load_split(pairs_in(spelling), "test", tokenizer=known)
    assert split.labels is not None
    written, _ = write_greedily(trained.run, split.arrays, split.labels)
    two = open_translator(spelling / "encoder.onnx", spelling / "decoder.onnx")
    one = open_translator(spelling / "whole.onnx")
    for row, source in zip(written[:25], split.arrays["source"], strict=False):
        text = known.source.decode(source)
        wanted = [int(i) for i in row if i >= 0]
        most = split.labels.shape[1]
        assert [list(t.write(text, most=most)[0].ids) for t in (two, one)] == [wanted, wanted]


def test_a_cache_writes_the_same_and_reads_once(spelling: Path) -> None:
    """Greedy and by a beam, whose sequences change their order; one id a run, whatever was written."""
    plain = open_translator(spelling / "encoder.onnx", spelling / "decoder.onnx")
    cached = open_translator(spelling / "encoder-cache.onnx", spelling / "decoder-cache.onnx")
    assert isinstance(cached.model, WithCache)
    for text in ("ab", "hgfedcba", "ca", "bbbbbbbb"):
        for width in (1, 3, 8):
            ours, theirs = (t.write(text, width=width) for t in (cached, plain))
            assert [a.ids for a in ours] == [a.ids for a in theirs]
            assert [a.score for a in ours] == pytest.approx([a.score for a in theirs], abs=1e-4)
    asked: list[tuple[int, ...]] = []
    decoder = cached.model.decoder
    counted = WithCache(cached.model.encoder, Counting(decoder, asked))  # type: ignore[arg-type]
    written = replace(cached, model=counted).write("abcd", width=3)[0]
    assert asked[0] == (1, 1)
    assert all(shape == (3, 1) or shape[1] == 1 for shape in asked)
    assert len(asked) >= len(written.ids)


def test_a_cache_that_knows_nothing_of_what_was_written_reads_it(spelling: Path) -> None:
    cached = open_translator(spelling / "encoder-cache.onnx", spelling / "decoder-cache.onnx")
    plain = open_translator(spelling / "encoder.onnx", spelling / "decoder.onnx")
    feeds = cached.preparation.read(["abc"], "x")
    rows = np.array([[1, 2, 3], [1, 3, 2]])
    wanted = plain.model.read(feeds)(rows)
    ask = cached.model.read(feeds)
    assert ask(rows) == pytest.approx(wanted, abs=1e-4)
    assert ask(rows[:, :2]) == pytest.approx(plain.model.read(feeds)(rows[:, :2]), abs=1e-4)


def test_one_file_serves_the_first_step_and_later_ones(spelling: Path) -> None:
    session = Session(spelling / "decoder-cache.onnx")
    assert [s.name for s in session.inputs][:4] == ["target", "mask", "memory.0.key", "memory.0.value"]
    assert next(s.shape for s in session.inputs if s.name == "memory.1.value") == ("batch", 2, "length", 16)
    assert next(s.shape for s in session.inputs if s.name == "past_key_values.1.key") == ("batch", 2, "past", 16)
    assert [s.name for s in session.outputs] == [
        "logits",
        *(f"present.{b}.{k}" for b in (0, 1) for k in ("key", "value")),
    ]


def test_a_beam_finds_the_likeliest(spelling: Path, known: PairTokenizers) -> None:
    """A beam as wide as all sequences is a search of all sequences, by brute force."""
    translator = open_translator(spelling / "encoder.onnx", spelling / "decoder.onnx")
    end, begin, count = int(known.target.end or 0), known.target.begin, known.target.vocabulary
    ask = translator.model.read(translator.preparation.read(["hb"], "x"))
    first = log_probabilities(ask(np.array([[begin]])))[0]
    others = [i for i in range(count) if i != end]
    second = log_probabilities(ask(np.array([[begin, i] for i in others])))
    totals = {(i,): first[i] + second[n, end] for n, i in enumerate(others)} | {(): first[end]}
    pairs = itertools.product(enumerate(others), others)
    unended = {(i, j): first[i] + second[n, j] for (n, i), j in pairs}
    best = max(totals, key=lambda ids: totals[ids])
    answers = translator.write("hb", width=count**2, penalty=0.0, most=2)
    assert (answers[0].ids, answers[0].ended) == (best, True)
    assert answers[0].log_probability == pytest.approx(totals[best], abs=1e-5)
    assert max(unended.values()) > totals[best]  # it would rather go on
    greedy, wide = (translator.write("abcdefgh", width=w)[0].score for w in (1, 4))
    assert wide >= greedy - 1e-6


def test_what_lies_beside_and_what_the_files_say(spelling: Path) -> None:
    told = read_config(spelling / "checkpoint")["card"]["preprocessing"]
    for place in (spelling, spelling / "checkpoint"):
        assert (place / "tokenizer.json").is_file()
        assert (place / "target-tokenizer.json").is_file()
    for name, part in (("whole", None), ("encoder", "encoder"), ("decoder", "decoder")):
        metadata = Session(spelling / f"{name}.onnx").metadata
        assert metadata.get("edgekit.part") == part
        assert json.loads(metadata["edgekit.preprocessing"]) == told
        assert is_model_of_pairs(spelling / f"{name}.onnx")
    split = split_for(spelling / "whole.onnx", pairs_in(spelling), "test")
    assert set(split.arrays) == {"source", "mask", "target"}


def test_a_second_model_keeps_its_own_tokenisers(spelling: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "target-tokenizer.json"):
        (tmp_path / name).write_text("another model's")
    export_source(spelling / "checkpoint", tmp_path / "mine.onnx")
    assert (tmp_path / "tokenizer.json").read_text() == "another model's"
    assert (tmp_path / "mine.target-tokenizer.json").read_bytes() == (spelling / "target-tokenizer.json").read_bytes()
    assert open_translator(tmp_path / "mine.onnx").write("ab")


def test_a_tokeniser_that_is_missing_or_of_another_model(spelling: Path, tmp_path: Path) -> None:
    for name in ("whole.onnx", "tokenizer.json", "target-tokenizer.json"):
        shutil.copy(spelling / name, tmp_path / name)
    shutil.copy(spelling / "tokenizer.json", tmp_path / "target-tokenizer.json")
    with pytest.raises(ModelError, match=r"target-tokenizer\.json is of another model: it has 12 tokens"):
        open_translator(tmp_path / "whole.onnx")
    (tmp_path / "target-tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"put the target-tokenizer\.json that it was trained with beside it"):
        open_translator(tmp_path / "whole.onnx")


def test_texts_that_cannot_be_read(spelling: Path) -> None:
    translator = open_translator(spelling / "encoder.onnx", spelling / "decoder.onnx")
    with pytest.raises(DataError, match="the text is empty; give one to read"):
        translator.write(" ")
    with pytest.raises(DataError, match="the text has 129 tokens with its end, and the model takes 128 at most"):
        translator.write("a" * 128)
    assert len(translator.write("a" * 127, most=5)[0].ids) <= 5


def test_files_that_are_no_pair(spelling: Path, tmp_path: Path) -> None:
    encoder, decoder, whole = (spelling / f"{n}.onnx" for n in ("encoder", "decoder", "whole"))
    with pytest.raises(ModelError, match=r"is no encoder: it takes target, memory, mask, and one takes source, mask"):
        open_translator(decoder, decoder)
    with pytest.raises(ModelError, match=r"whole\.onnx is no decoder: it takes source, mask, target"):
        open_translator(encoder, whole)
    with pytest.raises(ModelError, match="is no whole model of pairs: it takes source, mask"):
        open_translator(encoder)
    with pytest.raises(
        ModelError, match=r"decoder\.onnx is no decoder with a cache: it takes target, memory, mask, and"
    ):
        open_translator(spelling / "encoder-cache.onnx", decoder)
    with pytest.raises(ModelError, match=r"is no decoder: it takes target, mask, memory\.0\.key, memory\.0\.value, …"):
        open_translator(encoder, spelling / "decoder-cache.onnx")
    with pytest.raises(ModelError, match="is a directory; write the model as ONNX first"):
        open_translator(spelling / "checkpoint", decoder)
    assert not is_model_of_pairs(spelling / "checkpoint")


def test_ids_outside_the_vocabulary(trained: TrainedModel, spelling: Path) -> None:
    from edgekit.data.split import Split

    ids = np.array([[2, 99]])
    split = Split("test", {"source": ids, "mask": np.ones_like(ids), "target": ids * 0 + 1}, np.array([[3, 0]]))
    with pytest.raises(DataError, match=r"input 'source': ids must lie in 0\.\.11 for a vocabulary of 12, got 2\.\.99"):
        evaluate(trained, split, find_metric("token-accuracy"))


def test_generate_on_the_command_line(spelling: Path, cli: Cli) -> None:
    encoder, decoder, whole = (str(spelling / f"{n}.onnx") for n in ("encoder", "decoder", "whole"))
    answers = []
    for files in ((encoder, "abc", "--decoder", decoder), (whole, "abc")):
        done = cli("generate", *files, "--beam", "3", "--json")
        assert done.code == 0, done.err
        answers.append(json.loads(done.out))
    first, second = answers
    assert first["text"] == second["text"]
    assert len(first["others"]) == 2
    assert first["log_probability"] == pytest.approx(second["log_probability"], abs=1e-4)
    done = cli("generate", whole, "abc", "--temperature", "0.5")
    assert done.code == 2
    assert "--temperature does not go with a model of pairs" in done.err


def test_flags_of_pairs_do_not_go_with_a_language_model(written: Path, cli: Cli) -> None:
    done = cli("generate", str(written / "gpt.onnx"), "the", "--beam", "3")
    assert done.code == 2
    assert "--beam does not go with a language model" in done.err


def test_eval_of_a_file_on_the_command_line(spelling: Path, cli: Cli) -> None:
    done = cli("eval", str(spelling / "whole.onnx"), "--data", pairs_in(spelling), "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["metric"]["name"] == "token-accuracy"


def test_encoder_and_decoder_are_quantised_without_data(spelling: Path, tmp_path: Path, cli: Cli) -> None:
    """Inputs are generated of ids that their small tables have; what comes out still writes."""
    for part in ("encoder", "decoder"):
        written = tmp_path / f"{part}.onnx"
        done = cli("quantize", spelling / f"{part}.onnx", "--method", "weights", "--out", written, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["metric"]["after"] > 0.99
    for name in ("tokenizer.json", "target-tokenizer.json"):
        shutil.copy(spelling / name, tmp_path)
    small = open_translator(tmp_path / "encoder.onnx", tmp_path / "decoder.onnx")
    full = open_translator(spelling / "encoder.onnx", spelling / "decoder.onnx")
    answers = [[t.write(text)[0].text for t in (small, full)] for text in ("ab", "hgf", "cdefa", "bbbb")]
    assert sum(ours == theirs for ours, theirs in answers) >= 3
