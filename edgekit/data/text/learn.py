"""Learning a tokeniser from texts; the same texts give the same tokeniser, so that a training can go on with it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.data.text.tokenizer import END, TextTokenizer, tokenizers_library
from edgekit.errors import DataError

# Pairs are counted anew in the whole of a word, which takes hours for one of millions of letters; no language has it.
_LONG_WORD = re.compile(r"\S{10000}(?=\S)")


def train_tokenizer(kind: str, texts: Sequence[str], vocabulary: int, *, more: Sequence[str] = ()) -> TextTokenizer:
    """Learn a tokeniser from texts.

    Args:
        kind: A key of KINDS.
        texts: Of the training split only.
        vocabulary: Most tokens; "bytes" has 257 whatever is asked for.
        more: Special tokens to have behind these.

    Raises:
        DataError: if the vocabulary cannot hold what the kind starts from.
    """
    library = tokenizers_library()
    made = KINDS[kind](library, texts, vocabulary)
    made.add_special_tokens(list(more))
    return TextTokenizer(made.to_str())


def _characters(library: Any, texts: Sequence[str], vocabulary: int) -> Any:
    """Each character is a token; the rarest go to <unknown> where there are too many."""
    made = _commonest(library, Counter(character for text in texts for character in text), vocabulary)
    made.pre_tokenizer = library.pre_tokenizers.Split(library.Regex(r"[\s\S]"), "isolated")
    made.decoder = library.decoders.Fuse()
    return made


def _words(library: Any, texts: Sequence[str], vocabulary: int) -> Any:
    """What white space parts is a token, such as a phoneme; the rarest go to <unknown> where there are too many."""
    made = _commonest(library, Counter(word for text in texts for word in text.split()), vocabulary)
    made.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    return made


def _commonest(library: Any, counts: Mapping[str, int], vocabulary: int) -> Any:
    """A tokeniser that knows the commonest of what it will be given."""
    kept = sorted(sorted(counts), key=lambda c: -counts[c])[: vocabulary - 2]
    numbers = {END: 0, "<unknown>": 1, **{c: i for i, c in enumerate(sorted(kept), start=2)}}
    made = library.Tokenizer(library.models.WordLevel(numbers, unk_token="<unknown>"))
    made.add_special_tokens([END])
    return made


def _bytes(library: Any, texts: Sequence[str], vocabulary: int) -> Any:
    """Each byte is a token: nothing is unknown, and nothing is learnt."""
    alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
    words = {END: 0, **{c: i for i, c in enumerate(alphabet, start=1)}}
    made = _byte_level(library, library.models.BPE(vocab=words, merges=[]), words_apart=False)
    made.add_special_tokens([END])
    return made


def _bpe(library: Any, texts: Sequence[str], vocabulary: int) -> Any:
    """Bytes, then the pairs that are most frequent (Sennrich et al. 2015, arXiv:1508.07909; bytes: GPT-2)."""
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    _require_room("bpe", vocabulary, len(alphabet) + 1)
    made = _byte_level(library, library.models.BPE(), words_apart=True)
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator((_LONG_WORD.sub(r"\g<0> ", text) for text in texts), trainer)
    return made


def _wordpiece(library: Any, texts: Sequence[str], vocabulary: int) -> Any:
    """BERT's: lower case, words, then pieces (Wu et al. 2016, arXiv:1609.08144, as in arXiv:1810.04805)."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    _require_room("wordpiece", vocabulary, len(special) + 2)
    normalizer, splitter = library.normalizers.BertNormalizer(lowercase=True), library.pre_tokenizers.BertPreTokenizer()
    normal = [normalizer.normalize_str(text) for text in texts]
    known, inner = _letters(splitter, normal, min(1000, (vocabulary - len(special)) // 2))
    made = library.Tokenizer(library.models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer, made.decoder = normalizer, splitter, library.decoders.WordPiece()
    # the trainer numbers what it is given first; what it finds by itself comes in the random order of its hash map
    trainer = library.trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=[*special, *inner],
        initial_alphabet=known,
        limit_alphabet=len(known),
        show_progress=False,
    )
    letters = frozenset(known)
    made.train_from_iterator(("".join(c if c in letters else " " for c in text) for text in normal), trainer)
    made = _without_special(library, made, inner)
    ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return made


def _letters(splitter: Any, texts: Sequence[str], most: int) -> tuple[list[str], list[str]]:
    """The commonest characters of words, and as "##a" those of them that stand behind the first of a word; sorted."""
    counts, behind = Counter[str](), set[str]()
    for text in texts:
        for word, _ in splitter.pre_tokenize_str(text):
            counts.update(word)
            behind.update(word[1:])
    kept = sorted(sorted(counts), key=lambda c: -counts[c])[:most]
    return sorted(kept), [f"##{c}" for c in sorted(behind.intersection(kept))]


def _without_special(library: Any, tokenizer: Any, pieces: Sequence[str]) -> Any:
    """The tokeniser to which these are pieces of words like others, and no tokens to look for in a text."""
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in set(pieces)]
    return library.Tokenizer.from_str(json.dumps(content))


KINDS = {"characters": _characters, "words": _words, "bytes": _bytes, "bpe": _bpe, "wordpiece": _wordpiece}


def _byte_level(library: Any, model: Any, *, words_apart: bool) -> Any:
    made = library.Tokenizer(model)
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words_apart)
    made.decoder = library.decoders.ByteLevel()
    return made


def _require_room(kind: str, vocabulary: int, least: int) -> None:
    if vocabulary < least:
        raise DataError(f"a {kind} tokeniser needs a vocabulary of at least {least}, got {vocabulary}")
