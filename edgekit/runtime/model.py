"""A model out of a bundle, ready to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from edgekit.errors import BundleError, InputError, brief
from edgekit.runtime.answers import Prediction, answer_row
from edgekit.runtime.archive import MANIFEST, read_file
from edgekit.runtime.batches import cut_batches, row_of
from edgekit.runtime.check import check_arrays, check_finite
from edgekit.runtime.choose import Candidate, short_provider
from edgekit.runtime.guard import Watch, look_at, read_watch
from edgekit.runtime.manifest import MOST_MANIFEST_BYTES, Manifest, read_manifest
from edgekit.runtime.opening import open_archive
from edgekit.runtime.prepare import Preparation, open_preparation
from edgekit.runtime.session import open_first
from edgekit.specs import Array, Feeds, TensorSpec

if TYPE_CHECKING:
    from edgekit.runtime.texts import TextPreparation
    from edgekit.runtime.writing import Written

Guarding = Literal["warn", "error"] | None


def load(
    bundle: str | Path,
    *,
    provider: str | None = None,
    variant: str | None = None,
    threads: int | None = None,
    public_key: str | Path | bytes | None = None,
    key: str | bytes | None = None,
    guard: Guarding = "warn",
    truncate: bool | None = None,
) -> Model:
    """Open a bundle's best model that runs here.

    Args:
        bundle: A directory or a .zip.
        provider: Only this one, such as "cuda"; an error says why it cannot be had. None takes the first that works.
        variant: Only this one; None takes the first of the manifest that works.
        threads: Intra-op threads; None for what the manifest says, or all cores.
        public_key: PEM file, or what one holds, of who must have signed the bundle, which is looked at before anything
            else in it; None leaves a signature unchecked.
        key: That an encrypted bundle opens with: 32 bytes, or 64 hexadecimal digits.
        guard: What `predict` does about inputs that are unlike calibration data: "warn" tells it with the answer,
            "error" refuses those that are far off, None does not look, at NaN neither.
        truncate: Whether texts that are too long are cut; None for what the manifest says.

    Raises:
        BundleError: if the bundle is damaged or not signed as it must be, or ONNX Runtime refuses its model.
        MissingPackageError: if a package is missing that the bundle or a key needs.
        ProviderError: if the provider, or every one of the bundle, cannot be had.
    """
    if threads is not None and threads < 1:
        raise BundleError(f"threads must be 1 or more, or None for what the machine has, got {threads}")
    if guard not in ("warn", "error", None):
        raise BundleError(f"guard must be 'warn', 'error' or None, got {guard!r}")
    with open_archive(Path(bundle)) as archive:
        content = read_file(archive, MANIFEST, MOST_MANIFEST_BYTES)
        if public_key is not None:
            from edgekit.runtime.signature import require_signature  # who gives no key does without it

            require_signature(archive, content, public_key)
        manifest = read_manifest(content, f"{bundle}: {MANIFEST}")
        watch = None if guard is None else read_watch(manifest.guard, f"{bundle}: {MANIFEST}", manifest.outputs)
        preparation = open_preparation(archive, manifest, truncate)
        session, candidate = open_first(archive, manifest, provider, variant, threads, key)
    return Model(session, manifest, candidate, preparation, watch, strict=guard == "error")


class Model:
    """A model that answers, from any number of threads at once; `load` makes it.

    Attributes:
        manifest: Of its bundle.
        variant: The one that runs.
        provider: Short name of the one that it runs on.
        run_options: `onnxruntime.RunOptions` of every run, or None; who sets their `terminate` stops the runs at hand.
    """

    def __init__(
        self,
        session: Any,
        manifest: Manifest,
        candidate: Candidate,
        preparation: Preparation,
        watch: Watch | None,
        *,
        strict: bool,
    ) -> None:
        self.manifest, self.variant = manifest, candidate.variant
        self.provider = short_provider(candidate.provider)
        self._session, self._preparation, self._watch, self._strict = session, preparation, watch, strict
        self._outputs = [spec.name for spec in manifest.outputs]
        self.run_options: Any = None

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
            found = self._session.run(self._outputs, feeds, self.run_options)
            return dict(zip(self._outputs, found))  # noqa: B905 - strict takes time
        except Exception as error:  # looked at only now, so that a good input pays nothing for it
            raise self._reason(feeds, error) from error

    def predict(self, given: Any, *, top: int = 5) -> Any:
        """Answer one input, or a list of them.

        Args:
            given: What the bundle's preprocessing starts from: a picture (path, bytes, Pillow image, pixels), a text, a
                series or a .wav file. Or prepared arrays by the name of the input, with a batch axis of 1 or without
                it (a picture's path among them is prepared); the array itself where there is one input and no
                preprocessing. A list of such is run in batches.
            top: Classes to name, at most.

        Returns:
            A Prediction; for a list, a list in the same order.

        Raises:
            InputError: if it is not what the model takes; for a list, with the number of the item.
        """
        if not isinstance(given, list):
            return self.answer([self.prepare(given)], top=top)[0]
        if not given:
            raise InputError("the list is empty; give at least one input")
        return self.answer([self._prepare_item(item, i, len(given)) for i, item in enumerate(given)], top=top)

    async def predict_async(self, given: Any, *, top: int = 5) -> Any:
        """`predict` in a thread, so that an event loop goes on meanwhile."""
        import asyncio

        return await asyncio.to_thread(self.predict, given, top=top)

    def prepare(self, given: Any) -> dict[str, Array]:
        """One input as `predict` takes it -> arrays by the name of the input, without a batch axis.

        Raises:
            InputError: if it is not what the model takes, or holds NaN.
        """
        row = row_of(self._with_raw(given), self.inputs) if isinstance(given, Mapping) else self._preparation.row(given)
        if self._watch is not None:
            for name, array in row.items():
                check_finite(array, name)
        return row

    def answer(self, rows: Sequence[Feeds], *, top: int = 5) -> list[Prediction]:
        """Run prepared inputs in batches.

        Args:
            rows: Of `prepare`.
            top: Classes to name, at most.

        Raises:
            InputError: if the guard is to refuse, and one is far from calibration data.
        """
        found = self.answer_or_refuse(rows, top=top)
        for index, answer in enumerate(found):
            if isinstance(answer, InputError):
                raise InputError(f"item {index} of {len(rows)}: {answer}") if len(rows) > 1 else answer
        return [answer for answer in found if isinstance(answer, Prediction)]

    def answer_or_refuse(self, rows: Sequence[Feeds], *, top: int = 5) -> list[Prediction | InputError]:
        """The same, with the error in the place of what the guard refuses, so that the others have their answers."""
        answers: dict[int, Prediction | InputError] = {}
        for batch in cut_batches(rows, self.inputs, self._preparation.fill):
            outputs = self.run(self._preparation.complete(batch.feeds))
            for index, place in enumerate(batch.places):
                own = {name: array[index] for name, array in outputs.items()}
                answers[place] = self._judged(rows[place], own, top)
        return [answers[place] for place in range(len(rows))]

    @property
    def writes(self) -> bool:
        """Whether it is a language model, which `generate` is for."""
        text = (self.manifest.preprocessing or {}).get("kind") == "text"
        return text and self.manifest.task == "language-modelling"

    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = 128,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stops: Sequence[str] = (),
        show: Callable[[str], object] = str,
    ) -> Written:
        """Write on from a prompt, with a bundle of a language model.

        Args:
            prompt: The text so far; "" begins anew.
            max_tokens: Most tokens to write.
            temperature: Logits are divided by it; 0 takes the likeliest token always.
            top_k: Of so many likeliest tokens only; 0 for all.
            top_p: Of the fewest likeliest tokens that hold this share of the probability; 1 for all.
            seed: The same seed writes the same text.
            stops: Texts at which to stop; they are no part of the answer.
            show: Gets each piece as soon as nothing can change it any more.

        Raises:
            BundleError: if the model writes no text.
            InputError: if the prompt is too long, or a number out of its range.
        """
        if not self.writes:
            raise BundleError(
                f"the model of bundle {self.manifest.name} is for {self.manifest.task}; it writes no text"
            )
        from edgekit.runtime.memory import Memory
        from edgekit.runtime.sampling import Sampling
        from edgekit.runtime.writing import Request, write_text

        return write_text(
            Memory(self.run, self.inputs, self.outputs),
            cast("TextPreparation", self._preparation).tokenizer,
            Request(prompt, max_tokens, stops, Sampling(temperature, top_k, top_p, seed)),
            longest=self._longest_text(),
            show=show,
        )

    def close(self) -> None:
        """Let go of the session; what runs meanwhile ends well, and what comes later is refused."""
        self._session = None

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _with_raw(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Named arrays; what preprocessing starts from may stand among them under the name of its input."""
        name = (self.manifest.preprocessing or {}).get("input", "")
        value = given.get(name)
        if value is None or isinstance(value, np.ndarray):
            return given
        return {**given, **self._preparation.row(value)}

    def _judged(self, row: Feeds, outputs: Feeds, top: int) -> Prediction | InputError:
        """An answer with what is unusual about its input, or why there is none."""
        if self._watch is None:
            return answer_row(outputs, self.manifest, top, ())
        found = look_at(row, outputs, self._watch)
        far = next((finding for finding in found if finding.refuse), None)
        if far is not None and self._strict:
            return InputError(f"{far.text}; load with guard='warn' to get an answer anyway")
        return answer_row(outputs, self.manifest, top, tuple(finding.text for finding in found))

    def _longest_text(self) -> int | None:
        """In tokens, as the model file says it, else the manifest."""
        told = {} if self._session is None else self._session.get_modelmeta().custom_metadata_map
        said = told.get("edgekit.longest", "")
        return int(said) if said.isdigit() else (self.manifest.preprocessing or {}).get("length")

    def _prepare_item(self, item: Any, index: int, count: int) -> dict[str, Array]:
        try:
            return self.prepare(item)
        except InputError as error:
            raise InputError(f"item {index} of {count}: {error}") from error

    def _reason(self, feeds: Mapping[str, Any], error: Exception) -> Exception:
        if self._session is None:
            return BundleError(f"the model of bundle {self.manifest.name} is closed; load it again")
        try:
            check_arrays(feeds, self.inputs)
        except InputError as wrong:
            return wrong
        return BundleError(f"the model of bundle {self.manifest.name} failed: {brief(error)}")
