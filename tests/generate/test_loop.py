from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgekit.data.text.learn import train_tokenizer
from edgekit.data.text.tokenizer import TextTokenizer
from edgekit.errors import InputError, ModelError
from edgekit.generate import Request, Sampling, generate
from edgekit.specs import Array

GREEDY = Sampling(temperature=0)


class Parrot:
    """Says a text, whatever it is asked, and ends."""

    def __init__(self, tokenizer: TextTokenizer, text: str, longest: int | None = None) -> None:
        self.answer = [*tokenizer.encode([text])[0].tolist(), tokenizer.end]
        self.vocabulary: int | None = tokenizer.vocabulary
        self.longest = longest
        self.cache_bytes = 12
        self.reads: list[list[int]] = []

    def read(self, ids: Sequence[int]) -> Array:
        self.reads.append(list(ids))
        logits = np.zeros(self.vocabulary or 0, np.float32)
        logits[self.answer[len(self.reads) - 1]] = 1
        return logits


@pytest.fixture(scope="module")
def known() -> TextTokenizer:
    return train_tokenizer("bytes", ["x"], 300)


def test_it_reads_the_prompt_and_then_each_token_once(known: TextTokenizer) -> None:
    parrot = Parrot(known, "yes")
    done = generate(parrot, known, Request("no", sampling=GREEDY))
    assert (done.text, done.stopped, done.prompt_tokens, done.tokens) == ("yes", "end", 2, 4)
    assert [len(r) for r in parrot.reads] == [2, 1, 1, 1]
    assert done.cache_bytes == 12
    assert done.first_token_ms > 0
    assert done.tokens_per_second is not None


def test_pieces_are_shown_as_soon_as_they_are_sure(known: TextTokenizer) -> None:
    """Half a character waits for its other half, and what may be a stop text for what follows."""
    shown: list[str] = []
    done = generate(Parrot(known, "aö€ EN.END"), known, Request("", stops=("END",), sampling=GREEDY), shown.append)
    assert shown == ["a", "ö", "€", " ", "EN."]
    assert (done.text, done.stopped) == ("aö€ EN.", "stop")


def test_a_turn_of_a_conversation_ends_too(known: TextTokenizer) -> None:
    """As in Llama-type models for conversations, which have a token for the end of a turn beside that of a text."""
    from tokenizers import Tokenizer, processors

    made = Tokenizer.from_str(known.content)
    made.add_special_tokens(["<|im_end|>", "<s>"])
    begin = made.token_to_id("<s>")
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    other = TextTokenizer(made.to_str())
    parrot = Parrot(other, "ab")
    parrot.answer = [*other.encode(["ab"])[0].tolist(), made.token_to_id("<|im_end|>")]
    done = generate(parrot, other, Request("x", sampling=GREEDY))
    assert (done.text, done.stopped) == ("ab", "end")
    assert parrot.reads[0] == [begin, *known.encode(["x"])[0].tolist()]


def test_half_a_character_at_the_end_is_shown_as_it_is(known: TextTokenizer) -> None:
    shown: list[str] = []
    done = generate(Parrot(known, "aö"), known, Request("", max_tokens=2, sampling=GREEDY), shown.append)
    assert "".join(shown) == done.text == "a\ufffd"
    assert done.stopped == "max-tokens"


def test_the_earliest_of_several_stop_texts_counts(known: TextTokenizer) -> None:
    done = generate(Parrot(known, "abcdef"), known, Request("", stops=("cd", "bcd", ""), sampling=GREEDY))
    assert done.text == "a"


def test_a_text_that_reaches_the_models_longest_ends_there(known: TextTokenizer) -> None:
    done = generate(Parrot(known, "abcdefgh", longest=6), known, Request("xy", sampling=GREEDY))
    assert (done.text, done.stopped) == ("abcd", "longest")


def test_one_token_has_no_rate(known: TextTokenizer) -> None:
    assert generate(Parrot(known, "ab"), known, Request("x", max_tokens=1)).tokens_per_second is None


def test_an_empty_prompt_begins_behind_the_end_of_another_text(known: TextTokenizer) -> None:
    parrot = Parrot(known, "ab")
    assert generate(parrot, known, Request("", sampling=GREEDY)).text == "ab"
    assert parrot.reads[0] == [known.end]


def test_a_prompt_that_is_too_long(known: TextTokenizer) -> None:
    with pytest.raises(InputError) as error:
        generate(Parrot(known, "ab", longest=4), known, Request("abcd"))
    assert str(error.value) == (
        "the prompt has 4 tokens, and the model takes a text of 4 at most with what it writes; shorten the prompt"
    )


def test_a_tokeniser_of_another_model(known: TextTokenizer) -> None:
    parrot = Parrot(known, "ab")
    parrot.vocabulary = 100
    with pytest.raises(ModelError, match=r"it has 257 tokens, and the model knows 100; take the tokenizer\.json"):
        generate(parrot, known, Request("abcd"))
