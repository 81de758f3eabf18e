"""Language models that are asked token by token, with a cache and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from edgekit.errors import ModelError
from edgekit.ort import Session
from edgekit.runtime.memory import Memory, language_tensors
from edgekit.runtime.writing import Reader
from edgekit.specs import Array, Feeds, TensorSpec

_SHOWN = 4
_EACH_TOKEN = 3  # dimensions of the logits: batch, tokens, vocabulary


class LanguageModel(Reader, Protocol):
    """What generation asks: it knows nothing else of a model."""

    @property
    def vocabulary(self) -> int | None:
        """How many tokens it knows; None where only a run would tell."""
        ...

    @property
    def longest(self) -> int | None:
        """The longest text in tokens; None for no limit."""
        ...

    @property
    def cache_bytes(self) -> int:
        """Memory of what it remembers by now."""
        ...


def first_names(specs: Sequence[TensorSpec]) -> str:
    """The first of the tensors, for a message; a large model has dozens.

    >>> first_names([TensorSpec(name, "float32", ()) for name in "abcdefg"])
    'a, b, c, d, …'
    """
    names = [spec.name for spec in specs]
    return ", ".join([*names[:_SHOWN], *(["…"] if len(names) > _SHOWN else [])])


class SessionModel(Memory):
    """An ONNX file: `ids` in, `logits` out, and a cache of keys and values or a state where it has one.

    Args:
        session: Its inputs are called as ours are, or as Hugging Face's are.
        longest: The longest text in tokens, where the file has a limit.

    Raises:
        ModelError: if it is no language model.
    """

    def __init__(self, session: Session, longest: int | None = None) -> None:
        tensors = language_tensors(session.inputs, session.outputs)
        if tensors is None or next(s.rank for s in session.outputs if s.name == "logits") != _EACH_TOKEN:
            raise ModelError(
                f"this is no language model that can generate: it takes {first_names(session.inputs)} and gives "
                f"{first_names(session.outputs)}; it needs `ids`, `logits` for each token, and for each "
                "past key or value its present one"
            )
        wanted = ["logits", *tensors.present]

        def run(feeds: Feeds) -> Mapping[str, Array]:
            return dict(zip(wanted, session.run(feeds, wanted), strict=True))

        super().__init__(run, session.inputs, session.outputs)
        self.session, self.longest = session, longest

    @property
    def vocabulary(self) -> int | None:
        """How many tokens it knows, where the file says it."""
        last = next(s for s in self.session.outputs if s.name == "logits").shape[-1]
        return last if isinstance(last, int) else None

    @property
    def has_cache(self) -> bool:
        """Whether it remembers what it read; otherwise all of it is read again for each token."""
        return bool(self.tensors.past)

    @property
    def cache_bytes_per_token(self) -> int:
        """By how much what it remembers grows with each token; 0 for a state."""
        return self.bytes_at(1) - self.bytes_at(0)

    def bytes_at(self, tokens: int) -> int:
        """Memory of what it remembers of so many tokens."""
        return sum(array.nbytes for array in self.tensors.remembered(tokens))
