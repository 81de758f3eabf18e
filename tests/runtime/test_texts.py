"""A text becomes the same ids here as in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.data.text.learn import train_tokenizer
from edgekit.data.text.preprocessing import TextPreprocessing
from edgekit.data.text.tokenizer import TextTokenizer
from edgekit.errors import BundleError, InputError
from edgekit.runtime import Model, load
from tests.runtime.bundles import manifest, onnx_bytes, variant, write_bundle

TEXTS = [
    "buy cheap pills now",
    "the meeting is at ten o'clock on monday in the large room",
    "hello",
    "is <end> a [SEP] special word? é ü 漢字",
    "hello hello hello world world",
]


@pytest.fixture(scope="module", params=["wordpiece", "bpe"])
def tokenizer(request: Any) -> TextTokenizer:
    return train_tokenizer(request.param, TEXTS * 3, 300)


def counting_model(length: int | str, *, mask: bool) -> bytes:
    """ids (batch, length), mask -> logits (batch, 2): [sum of ids x mask, 0]."""
    shape = ["batch", length]
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.INT64, shape) for n in (["ids", "mask"] if mask else ["ids"])
    ]
    nodes = [helper.make_node("Mul", ["ids", "mask"], ["kept"])] if mask else []
    nodes += [
        helper.make_node("ReduceSum", ["kept" if mask else "ids", "axis"], ["sum"], keepdims=1),
        helper.make_node("Cast", ["sum"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["float", "weight"], ["logits"]),
    ]
    constants = [numpy_helper.from_array(np.array([1]), "axis")]
    constants.append(numpy_helper.from_array(np.array([[1.0, 0.0]], np.float32), "weight"))
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "count", inputs, [output], constants)
    return onnx_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))


def text_bundle(
    place: Path,
    tokenizer: TextTokenizer,
    *,
    length: int = 6,
    truncate: bool = False,
    fixed: int | str = "length",
    mask: bool = True,
) -> Path:
    names = ("ids", "mask") if mask else ("ids",)
    entry = {"kind": "text", "tokenizer": "preprocessing/tokenizer.json", "length": length, "truncate": truncate}
    told = manifest(
        [variant()],
        inputs=[{"name": n, "dtype": "int64", "shape": ["batch", fixed]} for n in names],
        outputs=[{"name": "logits", "dtype": "float32", "shape": ["batch", 2]}],
        classes=["a", "b"],
        preprocessing={**entry, "ids": "ids", "mask": "mask" if mask else None},
    )
    tokenizer_json = tokenizer.content.encode()
    files = {"models/base/model.onnx": counting_model(fixed, mask=mask), entry["tokenizer"]: tokenizer_json}
    return write_bundle(place, told, files)


@pytest.mark.parametrize("truncate", [True, False])
def test_ids_are_those_of_training(tmp_path: Path, tokenizer: TextTokenizer, truncate: bool) -> None:
    length = 6 if truncate else 99
    model = load(text_bundle(tmp_path / "b", tokenizer, length=length, truncate=truncate))
    wanted = TextPreprocessing(tokenizer, length, truncate)
    for text in TEXTS:
        arrays = wanted.padded([text], "t")
        row = model.prepare(text)
        for name in ("ids", "mask"):
            np.testing.assert_array_equal(row[name], arrays[name][0])
            assert row[name].dtype == np.int64


def test_a_batch_is_filled_up_as_in_training(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    model = load(text_bundle(tmp_path / "b", tokenizer, length=99))
    arrays = TextPreprocessing(tokenizer, 99, False).padded(TEXTS, "t")
    seen = []
    model._session = Spy(model._session, seen)
    answers = model.predict(list(TEXTS))
    assert len(seen) == 1
    for name, array in arrays.items():
        np.testing.assert_array_equal(seen[0][name], array)
    np.testing.assert_array_equal(
        [a.outputs["logits"][0] for a in answers], (arrays["ids"] * arrays["mask"]).sum(axis=1)
    )


class Spy:
    def __init__(self, session: Any, seen: list[Any]) -> None:
        self.session, self.seen = session, seen

    def run(self, outputs: Any, feeds: Any, options: Any) -> Any:
        self.seen.append(feeds)
        return self.session.run(outputs, feeds, options)


def test_without_a_mask_only_equal_lengths_go_together(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    model = load(text_bundle(tmp_path / "b", tokenizer, length=99, mask=False))
    seen: list[Any] = []
    model._session = Spy(model._session, seen)
    answers = model.predict([*TEXTS, TEXTS[0]])
    lengths = [len(i) for i in tokenizer.encode(TEXTS, special=True)]
    assert sorted(f["ids"].shape for f in seen) == sorted(
        ((2 if n == lengths[0] else 1), n) for n in dict.fromkeys(lengths)
    )
    assert answers[0].outputs["logits"][0] == answers[5].outputs["logits"][0]


def test_a_model_of_one_length_is_filled_up_to_it(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    model = load(text_bundle(tmp_path / "b", tokenizer, length=32, truncate=True, fixed=32))
    assert model.predict(TEXTS[0]).outputs["logits"][0] == tokenizer.encode([TEXTS[0]], special=True)[0].sum()


def test_what_is_no_text_for_the_model_is_said(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    model = load(text_bundle(tmp_path / "b", tokenizer))
    for given, said in (
        ("", "the text is empty; give some words"),
        ("  \n", "the text is empty"),
        (TEXTS[1], "tokens, the model takes 6; shorten it, or let it be cut: truncate=True"),
        ("a\ud800b", "the text has half a character at 1 ('\\ud800'); it was no UTF-8: decode it again"),
        (b"abc", "the model takes a text, got bytes; decode bytes"),
        ("a" * 10_000_001, "the text has 10,000,001 characters, and 10,000,000 are the most"),
    ):
        with pytest.raises(InputError) as caught:
            model.predict(given)
        assert said in str(caught.value)
    assert len(load(tmp_path / "b", truncate=True).prepare(TEXTS[1])["ids"]) == 6


def test_a_damaged_tokeniser_is_said(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    bundle = text_bundle(tmp_path / "b", tokenizer)
    (bundle / "preprocessing/tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"preprocessing/tokenizer.json has 2 bytes, its manifest says"):
        load(bundle)


def test_ids_go_in_by_name(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    model: Model = load(text_bundle(tmp_path / "b", tokenizer))
    ids, mask = np.array([[3, 4, 5]]), np.array([[1, 1, 0]])
    assert model.predict({"ids": ids, "mask": mask}).outputs["logits"][0] == 7
    with pytest.raises(InputError, match="input 'mask' has 2 as length, and input 'ids' has 3"):
        model.predict({"ids": ids, "mask": mask[:, :2]})


def test_the_model_is_valid() -> None:
    onnx.checker.check_model(onnx.load_from_string(counting_model("length", mask=True)))
