"""What the collection is made of: a model, inputs that it was made for, and what may be asked of its compression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.data.split import Split
from edgekit.ort import Session
from edgekit.specs import Array

METADATA = {"author": "zoo", "labels": '["a", "b"]'}


@dataclass(frozen=True)
class Entry:
    """One model of the collection.

    Attributes:
        model: The model.
        arrays: What a user would calibrate on, one array an input; empty where no array can hold it.
        feeds: One whole feed; by default the first samples of `arrays`.
        external: Whether its weights lie in a file beside it.
    """

    model: onnx.ModelProto
    arrays: Mapping[str, Array] = field(default_factory=dict)
    feeds: Mapping[str, object] = field(default_factory=dict)
    external: bool = False

    def write(self, directory: Path) -> Path:
        """The file as a user would have it."""
        path = directory / "model.onnx"
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        if self.external:
            onnx.save_model(
                model,
                str(path),
                save_as_external_data=True,
                location="weights.bin",
                size_threshold=0,
                convert_attribute=True,
            )
        else:
            path.write_bytes(model.SerializeToString())
        return path

    @property
    def split(self) -> Split | None:
        """`arrays` as calibration data."""
        return Split("calibration", self.arrays) if self.arrays else None

    def sample(self, inputs: tuple) -> Mapping[str, object]:  # type: ignore[type-arg]
        """A feed that both the model and what is made of it accept."""
        if self.feeds or self.split is None:
            return self.feeds
        return next(iter(self.split.matched(inputs).batches(inputs, 4))).feeds


Builder = Callable[[np.random.Generator], Entry]


@dataclass(frozen=True)
class Case:
    """A builder and what its model is expected to become.

    Attributes:
        name: Of the builder.
        build: Makes the entry from a generator that is seeded with the name.
        unchanged: Where nothing can be gained: a pattern of the true reason.
        least_ratio: How many times smaller it has to become.
        tolerance: Largest 1 - cosine of what each method makes of it.
    """

    name: str
    build: Builder
    unchanged: str = ""
    least_ratio: float = 3.5
    tolerance: float = 0.01

    def entry(self) -> Entry:
        """Always the same."""
        return self.build(np.random.default_rng(list(self.name.encode())))


ZOO: dict[str, Case] = {}


def case(*, unchanged: str = "", least_ratio: float = 3.5, tolerance: float = 0.01) -> Callable[[Builder], Builder]:
    """Put a builder into the collection."""

    def register(build: Builder) -> Builder:
        ZOO[build.__name__] = Case(build.__name__, build, unchanged, least_ratio, tolerance)
        return build

    return register


def graph_model(
    text: str,
    weights: Mapping[str, Array],
    *,
    opset: int = 17,
    ir_version: int = 8,
    domains: Mapping[str, int] | None = None,
    functions: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """A model from ONNX's textual form of a graph; names that the text does not define are the weights'."""
    graph = onnx.parser.parse_graph(text)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(k, v) for k, v in (domains or {}).items())]
    model = helper.make_model(
        graph, producer_name="zoo", opset_imports=opsets, functions=[onnx.parser.parse_function(f) for f in functions]
    )
    model.ir_version = ir_version
    helper.set_model_props(model, METADATA)
    return model


def weight(rng: np.random.Generator, *shape: int, fan_in: int | None = None) -> Array:
    """float32 weights that keep the variance of what they are multiplied with, in trained networks' uneven channels."""
    reduced = fan_in or int(np.prod(shape[1:])) or 1
    values = rng.standard_normal(shape) / np.sqrt(reduced)
    return np.asarray(values * rng.uniform(0.5, 1.5, (shape[0], *[1] * (len(shape) - 1))), np.float32)


def inputs(rng: np.random.Generator, *shape: int) -> Array:
    """float32 inputs of a natural spread."""
    return rng.standard_normal(shape).astype(np.float32)


def decisive(entry: Entry, keep: int = 32) -> Entry:
    """Only the samples that the model is most sure of: random classifiers hesitate, trained ones do not."""
    (name, array), *rest = entry.arrays.items()
    if rest:
        raise ValueError("one input only")
    scores = Session(entry.model.SerializeToString(), threads=1).run({name: array})[0]
    first, second = np.sort(scores, axis=-1)[:, [-1, -2]].T
    best = np.argsort(second - first)[:keep]
    return replace(entry, arrays={name: array[np.sort(best)]})


def renamed(entry: Entry, names: dict[str, str]) -> Entry:
    """The entry with other names for its values."""
    graph = entry.model.graph
    for node in graph.node:
        node.input[:] = [names.get(i, i) for i in node.input]
        node.output[:] = [names.get(o, o) for o in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)
    return Entry(entry.model, {names.get(k, k): v for k, v in entry.arrays.items()})
