"""Recurrent networks of speech that come in packages: a builder of the user, and weights under other names.

The same is done with weights that the tests make themselves, so that it is tested without the packages too.
"""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.data.text import cmudict
from edgekit.data.text.corpus import split_corpus
from edgekit.errors import DataError
from edgekit.ort import Session
from edgekit.tasks import find_metric
from edgekit.tasks.metric import summarise
from edgekit.tasks.sequence_to_sequence import write_greedily
from tests.load.speech_nets import LettersToPhonemes, SpeakerEncoder
from tests.zoo.test_pretrained import packaged

Cli = Callable[..., Any]
NETS = Path(__file__).parents[1] / "load" / "speech_nets.py"
LETTERS = {letter: i for i, letter in enumerate(["<pad>", "<unk>", "</s>", *string.ascii_lowercase])}
_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
_OTHERS = ("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "UW")
_OTHERS += ("V", "W", "Y", "Z", "ZH")
PHONEMES = ["<pad>", "<unk>", "<s>", "</s>", *sorted([*(v + str(i) for v in _VOWELS for i in range(3)), *_OTHERS])]
START, END = 2, 3
# Torch's names of the layers -> those of g2p-en's archive.
GRU_NAMES = {
    "letters.weight": "enc_emb",
    "phonemes.weight": "dec_emb",
    "last.weight": "fc_w",
    "last.bias": "fc_b",
    **{
        f"{ours}.{kind}_{part}_l0": f"{theirs}_{kind[0]}_{part}"
        for ours, theirs in (("encoder", "enc"), ("decoder", "dec"))
        for kind in ("weight", "bias")
        for part in ("ih", "hh")
    },
}


def export_speakers(cli: Cli, weights: Path, out: Path) -> None:
    answer = cli(
        *("export", weights, "--builder", f"{NETS}:SpeakerEncoder", "--input", "mel=1xtimex40"),
        *("--entry", "model_state", "--allow-extra", "similarity_*", "--out", out, "--json"),
    )
    assert answer.code == 0, answer.err
    assert answer.json()["parity"]["lengths"][:3] == [1, 3, 64]


def export_letters(cli: Cli, weights: Path, out: Path) -> None:
    renames = [word for ours, theirs in GRU_NAMES.items() for word in ("--rename", f"{ours}={theirs}")]
    answer = cli(
        *("export", weights, "--builder", f"{NETS}:LettersToPhonemes", *renames, "--out", out, "--json"),
        *("--input", "letters=1xlength:int64", "--input", "phonemes=1xsteps:int64"),
    )
    assert answer.code == 0, answer.err
    assert answer.json()["parity"]["batches"] == [1, 2, 7]


def pronounced(session: Session, word: str) -> list[str]:
    """Greedy decoding, as g2p-en does it."""
    letters = np.array([[LETTERS[letter] for letter in word] + [LETTERS["</s>"]]])
    said = [START]
    for _ in range(20):
        logits = session.run({"letters": letters, "phonemes": np.array([said])})[0]
        said.append(int(logits[0, -1].argmax()))
        if said[-1] == END:
            break
    return [PHONEMES[i] for i in said[1:] if i != END]


def said_by_numpy(held: dict[str, Any], word: str) -> list[str]:
    """The package's own arithmetic, without what it imports."""

    def step(x: Any, h: Any, net: str) -> Any:
        given = x @ held[f"{net}_w_ih"].T + held[f"{net}_b_ih"]
        kept = h @ held[f"{net}_w_hh"].T + held[f"{net}_b_hh"]
        (ri, zi, ni), (rh, zh, nh) = np.split(given, 3), np.split(kept, 3)
        reset, update = 1 / (1 + np.exp(-(ri + rh))), 1 / (1 + np.exp(-(zi + zh)))
        return (1 - update) * np.tanh(ni + reset * nh) + update * h

    state = np.zeros(256, np.float32)
    for letter in [*word, "</s>"]:
        state = step(held["enc_emb"][LETTERS[letter]], state, "enc")
    said = [START]
    for _ in range(20):
        state = step(held["dec_emb"][said[-1]], state, "dec")
        said.append(int((held["fc_w"] @ state + held["fc_b"]).argmax()))
        if said[-1] == END:
            break
    return [PHONEMES[i] for i in said[1:] if i != END]


def phoneme_error(session: Session, entries: list[tuple[str, list[str]]]) -> float:
    """Insertions, deletions and replacements over the phonemes of the words; words of one length go in together."""
    ids = {phoneme: i for i, phoneme in enumerate(PHONEMES)}
    by_length = defaultdict(list)
    for word, phonemes in entries:
        by_length[len(word)].append((word, phonemes))
    metric, scores = find_metric("edit-distance"), []
    for group in by_length.values():
        letters = np.array([[LETTERS[c] for c in word] + [LETTERS["</s>"]] for word, _ in group])
        labels = np.full((len(group), 21), -1)
        for row, (_, phonemes) in zip(labels, group, strict=True):
            row[: len(phonemes) + 1] = [*(ids[p] for p in phonemes), END]
        start = np.full_like(labels, 0)
        start[:, 0] = START

        def run(feeds: dict[str, Any]) -> Any:
            return session.run({"letters": feeds["letters"], "phonemes": feeds["target"]})

        written, wanted = write_greedily(run, {"letters": letters, "target": start}, labels)
        scores.append(metric.score([written], wanted, {}))
    return summarise(metric, np.concatenate(scores)).value


def test_a_speaker_encoder_by_builder_and_entry(tmp_path: Path, cli: Cli) -> None:
    torch.manual_seed(0)
    net = SpeakerEncoder().eval()
    state = {**net.state_dict(), "similarity_weight": torch.ones(1), "similarity_bias": torch.ones(1)}
    torch.save({"step": 3, "model_state": state, "optimizer_state": {}}, tmp_path / "w.pt")
    export_speakers(cli, tmp_path / "w.pt", tmp_path / "m.onnx")
    mel = np.random.default_rng(0).standard_normal((3, 50, 40)).astype(np.float32)
    with torch.inference_mode():
        wanted = net(torch.from_numpy(mel)).numpy()
    np.testing.assert_allclose(Session(tmp_path / "m.onnx").run({"mel": mel})[0], wanted, atol=1e-5)


def test_a_seq2seq_gru_from_an_npz_with_other_names(tmp_path: Path, cli: Cli) -> None:
    torch.manual_seed(0)
    net = LettersToPhonemes().eval()
    named = {GRU_NAMES[name]: value.numpy() for name, value in net.state_dict().items()}
    np.savez(tmp_path / "w.npz", **named)
    export_letters(cli, tmp_path / "w.npz", tmp_path / "m.onnx")
    feeds = {"letters": np.array([[5, 9, 2]]), "phonemes": np.array([[2, 7, 40, 8]])}
    with torch.inference_mode():
        wanted = net(*map(torch.from_numpy, feeds.values())).numpy()
    np.testing.assert_allclose(Session(tmp_path / "m.onnx").run(feeds)[0], wanted, atol=1e-5)


@pytest.mark.slow
def test_resemblyzer(tmp_path: Path, cli: Cli) -> None:
    export_speakers(cli, packaged("resemblyzer", "pretrained.pt"), tmp_path / "m.onnx")
    mel = np.random.default_rng(0).random((4, 160, 40)).astype(np.float32)
    found = Session(tmp_path / "m.onnx").run({"mel": mel})[0]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


@pytest.mark.slow
def test_g2p_says_words_that_no_dictionary_has(tmp_path: Path, cli: Cli) -> None:
    assert len(PHONEMES) == 74
    export_letters(cli, packaged("g2p_en", "checkpoint20.npz"), tmp_path / "m.onnx")
    session = Session(tmp_path / "m.onnx")
    assert " ".join(pronounced(session, "activationist")) == "AE2 K T IH0 V EY1 SH AH0 N IH0 S T"
    with np.load(packaged("g2p_en", "checkpoint20.npz")) as weights:
        held = dict(weights)
    for word in ("edgekit", "quantisation", "zzz", "a"):
        assert pronounced(session, word) == said_by_numpy(held, word)


@pytest.mark.slow
def test_g2p_in_int8_errs_as_often_as_in_float(tmp_path: Path, cli: Cli) -> None:
    export_letters(cli, packaged("g2p_en", "checkpoint20.npz"), tmp_path / "m.onnx")
    try:
        corpus = split_corpus(cmudict.read())["test"]
    except DataError as error:
        pytest.skip(str(error))
    spelt = [(word, said.split()) for word, said in zip(corpus.texts, corpus.targets, strict=True)]
    entries = [(w, p) for w, p in spelt if set(w) <= set(string.ascii_lowercase) and len(p) <= 20][:300]
    answer = cli("quantize", tmp_path / "m.onnx", "--method", "weights", "--out", tmp_path / "q.onnx", "--json")
    assert answer.code == 0, answer.err
    before, after = (phoneme_error(Session(tmp_path / f"{name}.onnx"), entries) for name in "mq")
    assert before == pytest.approx(0.0988, abs=0.02)  # 0.0988 on 4,900 words
    assert after == pytest.approx(before, abs=0.005)
    assert answer.json()["size_bytes"]["after"] < answer.json()["size_bytes"]["before"] / 3.8
