"""What an app has -> rows of a model's inputs, as the manifest says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from edgekit.runtime.archive import Archive, read_checked
from edgekit.runtime.batches import row_of
from edgekit.runtime.manifest import Manifest
from edgekit.specs import Array, Feeds, TensorSpec


class Preparation(Protocol):
    """What pictures, texts, series and plain arrays have in common."""

    @property
    def fill(self) -> Mapping[str, float]:
        """Input -> value that fills samples of a batch up to one length; {} where that may not be."""
        ...

    def row(self, given: Any) -> dict[str, Array]:
        """One sample, without a batch axis."""
        ...

    def complete(self, feeds: Feeds) -> dict[str, Array]:
        """A batch with what follows from it."""
        ...


class ArrayPreparation:
    """Arrays go in as they are.

    Args:
        inputs: Of the model.
        prepare: What prepares other things than arrays by name; None where nothing does.
    """

    def __init__(self, inputs: Sequence[TensorSpec], prepare: Any = None) -> None:
        self._inputs, self._prepare = inputs, prepare

    @property
    def fill(self) -> Mapping[str, float]:
        """Nothing."""
        return {}

    def row(self, given: Any) -> dict[str, Array]:
        """One sample: its arrays by name, the only input's array, or for a model of sound a .wav file."""
        if self._prepare is not None:
            return dict(self._prepare.row(given))
        only = self._inputs[0]
        if (
            isinstance(given, (str, bytes))
            and len(self._inputs) == 1
            and only.rank in (2, 3)
            and only.dtype == "float32"
        ):
            from edgekit.runtime.waves import read_wave

            samples = read_wave(given)
            return row_of(
                {only.name: samples[:, 0] if only.rank == 2 and samples.shape[1] == 1 else samples}, self._inputs
            )
        return row_of(given, self._inputs)

    def complete(self, feeds: Feeds) -> dict[str, Array]:
        """The batch as it is."""
        return dict(feeds)


def open_preparation(archive: Archive, manifest: Manifest, truncate: bool | None) -> Preparation:
    """What a bundle does with pictures, texts or series; what it does not do is not imported.

    Args:
        archive: Its files.
        manifest: What it says of them.
        truncate: Whether texts that are too long are cut; None for what the manifest says.

    Raises:
        BundleError: if its tokeniser is damaged.
    """
    entry = manifest.preprocessing or {"kind": ""}
    if entry["kind"] == "image":
        from edgekit.runtime.pictures import PicturePreparation

        return ArrayPreparation(manifest.inputs, PicturePreparation.of(entry))
    if entry["kind"] == "series":
        from edgekit.runtime.series import SeriesPreparation

        return SeriesPreparation(entry, manifest.inputs)
    if entry["kind"] == "text":
        from edgekit.runtime.texts import TextPreparation

        content = read_checked(archive, entry["tokenizer"], manifest.files[entry["tokenizer"]])
        return TextPreparation(entry, manifest.inputs, content, truncate)
    return ArrayPreparation(manifest.inputs)
