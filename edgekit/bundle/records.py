"""What is asked of a bundle: which models go in, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgekit.data import TextConfig


@dataclass(frozen=True)
class Candidate:
    """A model to pack.

    Attributes:
        name: Of the variant: lower-case letters, digits, '.', '_' and '-'.
        path: The .onnx file.
        target: Where it will run, as recipes say it.
        providers: Short names of those that it may run on, the best first; () for those of the target.
        session: How ONNX Runtime opens it, where that is not the usual way: keys of the manifest's `session`.
        metric: Its metric on test data, as `evaluate` tells it; None where it was not judged.
        drop: How much worse than the base it is on the same samples, in the metric's unit; None where unknown.
        bench: Rows of `edgekit bench --json`.
        lineage: How it was made, one entry a step.
    """

    name: str
    path: Path
    target: str = "cpu"
    providers: tuple[str, ...] = ()
    session: Mapping[str, Any] = field(default_factory=dict)
    metric: Mapping[str, Any] | None = None
    drop: float | None = None
    bench: tuple[Mapping[str, Any], ...] = ()
    lineage: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class PackOptions:
    """How to pack.

    Attributes:
        name: Of the bundle; by default that of the output.
        version: Of the bundle.
        license: Of the model; "" where it is not said.
        description: One sentence; "" for none.
        data: What golden samples and the guard's statistics come from; None: samples are made from the inputs' shapes.
        samples: Golden samples.
        tokenizer: Where the tokenizer.json lies, if not beside the first model.
        family: Of the model; "" takes what the file says.
        training: What the model card says of the training; {} for nothing.
        judge: Whether models that are named are judged on the data's test split.
        ort: Whether every variant goes in once more, in ORT format.
        loader: Whether the runtime goes in as one file, loader.py.
        layout: Where the files lie: edgekit's own, or where transformers.js looks for them.
        key: 32 bytes that the models are sealed with; None leaves them readable. It is never written.
        signer: PEM file of the private key that the bundle is signed with; None leaves it unsigned.
    """

    name: str = ""
    version: str = "1"
    license: str = ""
    description: str = ""
    data: str | TextConfig | None = None
    samples: int = 3
    tokenizer: Path | None = None
    family: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    judge: bool = True
    ort: bool = False
    loader: bool = False
    layout: Literal["edgekit", "transformers.js"] = "edgekit"
    key: bytes | None = field(default=None, repr=False)
    signer: Path | None = None
