"""What the recurrent families share: how they are built, what they take, how they stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit.errors import ExportError, RecipeError
from edgekit.families.family import NO_BLOCKS, NO_HEADS, Family, Part
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn

Inputs = tuple[TensorSpec, ...]

TASKS = ("classification", "step-classification", "regression", "language-modelling")
_EACH_STEP = ("step-classification", "language-modelling")
SIZES: Mapping[str, Mapping[str, Any]] = {
    "pico": {"width": 16, "depth": 1},
    "small": {"width": 64, "depth": 2, "dropout": 0.2},
    "base": {"width": 256, "depth": 2, "dropout": 0.3},
    "pico-bidirectional": {"width": 12, "depth": 2, "bidirectional": True},
    "small-bidirectional": {"width": 64, "depth": 2, "bidirectional": True, "dropout": 0.2},
    "base-bidirectional": {"width": 192, "depth": 2, "bidirectional": True, "dropout": 0.3},
    "pico-tied": {"width": 16, "depth": 1, "tied": True},
    "base-tied": {"width": 512, "depth": 1, "tied": True, "dropout": 0.2},
}
STATIC_KNOWS_NONE = (
    "ONNX Runtime has no static int8 kernel for recurrent layers, so that only the last matrix would change; "
    "use `quantize: weights` or `quantize: auto`"
)
BACKWARDS = (
    "a bidirectional model cannot stream: it needs the end of a series before its beginning; train a size without "
    "-bidirectional"
)
AWARE_KNOWS_NONE = (
    "ONNX Runtime has no static int8 kernel for recurrent layers, so there is nothing to train for; "
    "use `quantize: weights` or `quantize: auto`"
)


def recurrent_family(kind: str, summary: str, paper: str, refuses: Mapping[str, str]) -> Family:
    """A family of one kind of cell: "rnn", "gru" or "lstm"."""

    def build(inputs: Inputs, outputs: int, **size: Any) -> nn.Module:
        return build_recurrent(kind, inputs, outputs, **size)

    states = ("hidden", "cell") if kind == "lstm" else ("hidden",)
    return Family(
        name=kind,
        summary=summary,
        paper=paper,
        tasks=TASKS,
        sizes=SIZES,
        build=build,
        by_task=True,
        parts={
            "streaming": Part(
                pick=to_streaming,
                inputs=lambda inputs, size: streaming_inputs(inputs, size, states),
                outputs=tuple(f"next_{name}" for name in states),
                behind_task=True,
                refuses=lambda size: BACKWARDS if size.get("bidirectional") else "",
            )
        },
        refuses={
            "quantize: static": STATIC_KNOWS_NONE,
            "quantize: aware": AWARE_KNOWS_NONE,
            **NO_HEADS,
            **NO_BLOCKS,
            **refuses,
        },
    )


def build_recurrent(
    kind: str,
    inputs: Inputs,
    outputs: int,
    *,
    task: str,
    width: int,
    depth: int,
    bidirectional: bool = False,
    tied: bool = False,
    dropout: float = 0.0,
) -> nn.Module:
    """Build a recurrent network.

    Args:
        kind: "rnn", "gru" or "lstm".
        inputs: Series (n, time, channels), or ids (n, length) with a vocabulary; then lengths (n,) or a mask
            (n, length) where samples end before the last step.
        outputs: Number of outputs; those of a language model are the ids.
        task: What it is for: one answer a series, or one a step.
        width: Units of each layer and direction; of an embedding too.
        depth: Number of layers.
        bidirectional: Whether each layer reads backwards too.
        tied: Whether a language model's last layer is its embedding.
        dropout: Behind each layer.

    Returns:
        A module: (n, time, channels), or (n, length), and lengths -> (n, outputs), or (n, time, outputs).

    Raises:
        RecipeError: if the input is neither, or a language model would read backwards.
    """
    from torch import nn

    from edgekit.families.recurrent_module import RecurrentLayer, RecurrentNetwork, TiedHead

    features = _features(kind, inputs, width)
    language = task == "language-modelling"
    if language and bidirectional:
        raise RecipeError(
            f"family {kind!r} at this size reads backwards, so that a language model would see the text that it has to "
            "foretell; choose a size without -bidirectional"
        )
    vocabulary = inputs[0].vocabulary
    entry: nn.Module = nn.Embedding(vocabulary, width) if vocabulary else nn.Identity()
    sides = 2 if bidirectional else 1
    layers = [RecurrentLayer(kind, sides * width if i else features, width, bidirectional) for i in range(depth)]
    answers = int(vocabulary or 0) if language else outputs
    if language and tied and isinstance(entry, nn.Embedding):
        head: nn.Module = TiedHead(entry)
    else:
        head = nn.Linear(sides * width, answers)
    return RecurrentNetwork(entry, layers, head, task in _EACH_STEP, dropout)


def _features(kind: str, inputs: Inputs, width: int) -> int:
    """Numbers a step that the first layer gets."""
    first = inputs[0]
    series = first.rank == 3 and first.dtype == "float32" and isinstance(first.shape[2], int)
    ids = first.rank == 2 and first.dtype == "int64" and first.vocabulary
    ends = len(inputs) == 1 or (len(inputs) == 2 and inputs[1].name in ("lengths", "mask"))
    if not ends or not (series or ids):
        got = "; ".join(map(str, inputs))
        raise RecipeError(
            f"family {kind!r} takes series (batch, time, channels) or ids (batch, length) of a known vocabulary, and "
            f"lengths or a mask beside them; got {got}; choose other data or another family"
        )
    return width if ids else int(first.shape[2])


def to_streaming(module: nn.Module) -> nn.Module:
    """The module that takes chunks and a state.

    Raises:
        ExportError: if it reads backwards.
    """
    from edgekit.families.recurrent_module import RecurrentNetwork, Streaming

    network = next(m for m in module.modules() if isinstance(m, RecurrentNetwork))
    if network is not module:
        raise ExportError("numbers in the data's unit are no stream; export the model without --streaming")
    if any(layer.back is not None for layer in network.layers):
        raise ExportError(BACKWARDS)
    widths = [layer.width for layer in network.layers]
    if len(set(widths)) > 1:
        raise ExportError(
            f"its layers were pruned to {', '.join(map(str, widths))} units, and a stream's state has one width; prune "
            "with `allocation: layer`, or export the model without --streaming"
        )
    return Streaming(network)


def streaming_inputs(inputs: Inputs, size: Mapping[str, Any], states: tuple[str, ...]) -> Inputs:
    """A chunk of any length, and a state (batch, layers, width) each; lengths are no input, chunks are never padded."""
    state = (TensorSpec(name, "float32", ("batch", size["depth"], size["width"])) for name in states)
    return (inputs[0], *state)
