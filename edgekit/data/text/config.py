"""Which text to take, and how it becomes ids. Every default of text data stands here."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl")


class TextConfig(BaseModel):
    """Text of a named corpus, or of a file of the user."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str | None, Field(description="a named corpus, such as fortunes")] = None
    file: Annotated[str | None, Field(description="a .txt, .csv, .tsv or .jsonl of your own")] = None
    text: Annotated[str, Field(description="column or key that holds the text")] = "text"
    label: Annotated[str | None, Field(description="column or key that holds the class; none by default")] = None
    source: Annotated[str, Field(description="column or key of the text to read, of pairs of texts")] = "source"
    target: Annotated[
        str | None, Field(description="column or key of the text to write, which makes pairs of texts; none by default")
    ] = None
    separator: Annotated[
        str, Field(min_length=1, description="what stands between two texts of a .txt; an empty line by default")
    ] = "\n\n"
    tokenizer: Annotated[
        str,
        Field(
            description="characters, words (parted by white space), bytes, bpe or wordpiece, learnt from the training "
            "texts; or a tokenizer.json"
        ),
    ] = "bpe"
    target_tokenizer: Annotated[
        str | None, Field(description="the same for texts to write; by default one tokenizer learns from both sides")
    ] = None
    vocabulary: Annotated[int, Field(ge=2, le=1_000_000, description="most tokens that are learnt")] = 1024
    length: Annotated[int, Field(ge=2, description="tokens of a sample, at most")] = 128
    truncate: Annotated[bool, Field(description="whether texts to classify may be cut to the length")] = False
    most_tokens: Annotated[
        int | None, Field(ge=2, description="of each split that models are judged or calibrated on; all by default")
    ] = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.name is None) == (self.file is None):
            raise ValueError("give exactly one of `name` (a corpus) and `file` (your own text)")
        if self.file is not None and not self.file.endswith(SUFFIXES):
            raise ValueError(f"file {self.file!r} must end in one of {', '.join(SUFFIXES)}")
        if self.target is not None and (self.label is not None or not (self.file or "").endswith(SUFFIXES[1:])):
            raise ValueError(
                f"`target` is the column of a {', '.join(SUFFIXES[1:])} of pairs, and does not go with `label`"
            )
        return self

    @property
    def title(self) -> str:
        """What the text is called: the corpus or the file."""
        return self.name or self.file or ""

    def as_key(self) -> dict[str, object]:
        """What changes the ids."""
        return self.model_dump(mode="json", exclude_defaults=True)
