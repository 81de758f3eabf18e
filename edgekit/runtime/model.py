"""A model out of a bundle, ready to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from edgekit.errors import BundleError, InputError
from edgekit.runtime.answers import Prediction, answer_each
from edgekit.runtime.archive import MANIFEST, open_archive, read_file
from edgekit.runtime.batches import cut_batches, row_of
from edgekit.runtime.check import check_arrays
from edgekit.runtime.choose import short_provider
from edgekit.runtime.manifest import MOST_MANIFEST_BYTES, Manifest, Variant, read_manifest
from edgekit.runtime.session import open_first
from edgekit.specs import Array, Feeds, TensorSpec

Guarding = Literal["warn", "error"] | None


def load(
    bundle: str | Path,
    *,
    provider: str | None = None,
    variant: str | None = None,
    threads: int | None = None,
) -> Model:
    """Open a bundle's best model that runs here.

    Args:
        bundle: A directory or a .zip.
        provider: Only this one, such as "cuda"; an error says why it cannot be had. None takes the first that works.
        variant: Only this one; None takes the first of the manifest that works.
        threads: Intra-op threads; None for what the manifest says, or all cores.

    Raises:
        BundleError: if the bundle is damaged, or ONNX Runtime refuses its model.
        ProviderError: if the provider, or every one of the bundle, cannot be had.
    """
    with open_archive(Path(bundle)) as archive:
        content = read_file(archive, MANIFEST, MOST_MANIFEST_BYTES)
        manifest = read_manifest(content, f"{bundle}: {MANIFEST}")
        session, candidate = open_first(archive, manifest, provider, variant, threads)
    return Model(session, manifest, candidate.variant, short_provider(candidate.provider))


class Model:
    """A model that answers, from any number of threads at once; `load` makes it.

    Attributes:
        manifest: Of its bundle.
        variant: The one that runs.
        provider: Short name of the one that it runs on.
    """

    def __init__(self, session: Any, manifest: Manifest, variant: Variant, provider: str) -> None:
        self.manifest, self.variant, self.provider = manifest, variant, provider
        self._session: Any = session
        self._outputs = [spec.name for spec in manifest.outputs]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` takes."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `run` gives."""
        return self.manifest.outputs

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; () where there are none."""
        return self.manifest.classes

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Arrays in, arrays out, and nothing in between: no guard, no postprocessing.

        Args:
            feeds: Name of the input -> array.

        Returns:
            Name of the output -> array.

        Raises:
            InputError: if the arrays are not what the model takes.
            BundleError: if the model fails, or is closed.
        """
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, feeds), strict=True))
        except Exception as error:  # looked at only now, so that a good input pays nothing for it
            raise self._reason(feeds, error) from error

    def predict(self, given: Any, *, top: int = 5) -> Any:
        """Answer one input, or a list of them.

        Args:
            given: Arrays by the name of the input, with or without the batch axis, or the array of the only input; a
                list of such. A list is run in batches.
            top: Classes to name, at most.

        Returns:
            A Prediction; for a list, a list in the same order.

        Raises:
            InputError: if it is not what the model takes; for a list, with the number of the item.
        """
        return self.predict_list(given, top=top) if isinstance(given, list) else self.predict_list([given], top=top)[0]

    def predict_list(self, given: Sequence[Any], *, top: int = 5) -> list[Prediction]:
        """Answer several inputs, in batches."""
        if not given:
            raise InputError("the list is empty; give at least one input")
        samples = [self._prepare(item, index, len(given)) for index, item in enumerate(given)]
        answers: list[Prediction | None] = [None] * len(samples)
        for batch in cut_batches(samples, self.inputs):
            outputs = self.run(batch.feeds)
            found = answer_each(outputs, self.manifest, len(batch.places), top, [()] * len(batch.places))
            for place, answer in zip(batch.places, found, strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def close(self) -> None:
        """Let go of the session; what runs meanwhile ends well, and what comes later is refused."""
        self._session = None

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _prepare(self, item: Any, index: int, count: int) -> dict[str, Array]:
        try:
            return row_of(item, self.inputs)
        except InputError as error:
            raise InputError(f"item {index} of {count}: {error}" if count > 1 else str(error)) from error

    def _reason(self, feeds: Mapping[str, Any], error: Exception) -> Exception:
        if self._session is None:
            return BundleError(f"the model of bundle {self.manifest.name} is closed; load it again")
        try:
            check_arrays(feeds, self.inputs)
        except InputError as wrong:
            return wrong
        return BundleError(f"the model of bundle {self.manifest.name} failed: {' '.join(str(error).split())[:300]}")
