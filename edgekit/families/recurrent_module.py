"""Recurrent layers that are exact for series of different lengths. Imports torch; only builders import it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

State = tuple[Tensor, ...]  # of one layer, (1, n, width) each


class Cell(NamedTuple):
    """A kind of recurrent layer.

    Attributes:
        module: torch's class.
        onnx: ONNX's operator.
        gates: Which of torch's blocks of weights stands where in ONNX.
        states: Names of what is carried from step to step.
    """

    module: Callable[..., nn.RNNBase]
    onnx: str
    gates: tuple[int, ...]
    states: tuple[str, ...]


CELLS = {
    "rnn": Cell(nn.RNN, "RNN", (0,), ("hidden",)),
    "gru": Cell(nn.GRU, "GRU", (1, 0, 2), ("hidden",)),
    "lstm": Cell(nn.LSTM, "LSTM", (0, 3, 1, 2), ("hidden", "cell")),
}


class RecurrentLayer(nn.Module):
    """One layer: (n, time, features) -> (n, time, directions * width), its state at the end of each series.

    The backward direction starts at each series' own last step, so that padding never reaches a result. In an export it
    is one ONNX operator, which takes lengths, both directions, and any number of steps.

    Args:
        kind: "rnn", "gru" or "lstm".
        features: Numbers a step.
        width: Units of each direction.
        bidirectional: Whether there is a backward direction.
    """

    def __init__(self, kind: str, features: int, width: int, bidirectional: bool) -> None:
        super().__init__()
        self.kind = CELLS[kind]
        self.width = width
        self.ahead = self.kind.module(features, width, batch_first=True)
        self.back = self.kind.module(features, width, batch_first=True) if bidirectional else None

    def forward(self, x: Tensor, lengths: Tensor | None = None, state: State = ()) -> tuple[Tensor, State]:
        """Run the layer.

        Args:
            x: float (n, time, features).
            lengths: int64 (n,): steps of each series that are no padding; None where there is no padding.
            state: To start from; zeros by default. Not for two directions.

        Returns:
            Outputs (n, time, directions * width), anything behind a series' end; and the state at that end,
            (directions, n, width) each.
        """
        if torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export():
            return self._as_onnx(x, lengths, state)
        ahead, end = self._run(self.ahead, x, state)
        if lengths is not None:  # the cell's memory is known at the last step only, and nobody asks for it
            end = (_last(ahead, lengths)[None],)
        if self.back is None:
            return ahead, end
        behind, start = self._run(self.back, turned(x, lengths), ())
        if lengths is not None:
            start = (_last(behind, lengths)[None],)
        both = tuple(torch.cat(pair) for pair in zip(end, start, strict=True))
        return torch.cat([ahead, turned(behind, lengths)], dim=2), both

    def _run(self, cell: nn.Module, x: Tensor, state: State) -> tuple[Tensor, State]:
        given = (state if len(self.kind.states) > 1 else state[0]) if state else None
        out, end = cell(x, given)
        return out, end if isinstance(end, tuple) else (end,)

    def _as_onnx(self, x: Tensor, lengths: Tensor | None, state: State) -> tuple[Tensor, State]:
        """The same as one operator; torch's exporters know neither lengths nor an RNN with an open number of steps."""
        cells = [cell for cell in (self.ahead, self.back) if cell is not None]
        weights = [torch.stack([self._ordered(getattr(c, f"weight_{k}_l0")) for c in cells]) for k in ("ih", "hh")]
        biases = [[self._ordered(getattr(c, f"bias_{k}_l0")) for k in ("ih", "hh")] for c in cells]
        bias = torch.stack([torch.cat(pair) for pair in biases])
        ends = None if lengths is None else lengths.to(torch.int32)
        steps, n, directions = x.shape[1], x.shape[0], len(cells)
        kind = {"hidden_size": self.width, "direction": "bidirectional" if directions == 2 else "forward"}
        once = {"linear_before_reset": 1} if self.kind.onnx == "GRU" else {}
        memory = (directions, n, self.width)
        out, *end = torch.onnx.ops.symbolic_multi_out(
            self.kind.onnx,
            [x.transpose(0, 1), *weights, bias, *_until_the_last([ends, *state])],
            {**kind, **once},
            dtypes=[torch.float32] * (1 + len(self.kind.states)),
            shapes=[(steps, directions, n, self.width), *[memory] * len(self.kind.states)],
        )
        return out.permute(2, 0, 1, 3).flatten(2), tuple(end)

    def _ordered(self, weight: Tensor) -> Tensor:
        """The blocks of a weight (gates * width, ...) as ONNX has them."""
        blocks = weight.reshape(len(self.kind.gates), self.width, *weight.shape[1:])
        return blocks.index_select(0, torch.tensor(self.kind.gates)).flatten(0, 1)


def _until_the_last(inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Optional inputs without those at the end that are not there."""
    there = [index for index, value in enumerate(inputs) if value is not None]
    return list(inputs[: there[-1] + 1]) if there else []


def turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each series from its own last step to its first; padding stays at the end: (n, time, features) as is."""
    if lengths is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device)
    order = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[2]))


def _last(x: Tensor, lengths: Tensor) -> Tensor:
    """The last step of each series: (n, time, features) -> (n, features)."""
    index = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, x.shape[2])
    return x.gather(1, index)[:, 0]


class TiedHead(nn.Module):
    """Logits by the embedding's own table: (..., width) -> (..., vocabulary).

    Source: Press and Wolf 2016, arXiv:1608.05859.
    """

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self._table = [table]  # in a list, so that the table is one parameter of the model and not two
        self.bias = nn.Parameter(torch.zeros(table.num_embeddings))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        flat = functional.linear(x.flatten(0, -2), self._table[0].weight, self.bias)
        return flat.reshape(*x.shape[:-1], flat.shape[-1])


class RecurrentNetwork(nn.Module):
    """Stacked recurrent layers between what reads the input and a linear head.

    Args:
        entry: Ids -> (n, time, features); the identity for series.
        layers: From the input up.
        head: (..., directions * width) -> (..., outputs).
        each_step: Whether the head answers at each step rather than once a series.
        dropout: Behind each layer.
    """

    def __init__(
        self, entry: nn.Module, layers: Sequence[RecurrentLayer], head: nn.Module, each_step: bool, dropout: float
    ) -> None:
        super().__init__()
        self.entry = entry
        self.layers = nn.ModuleList(layers)
        self.head = head
        self.each_step = each_step
        self.dropout = nn.Dropout(dropout)

    def forward(self, series: Tensor, ends: Tensor | None = None) -> Tensor:
        """Answer whole series.

        Args:
            series: float (n, time, channels), or ids int64 (n, length).
            ends: Lengths int64 (n,), or a mask (n, length) of ones that end in zeros; None where nothing is padded.

        Returns:
            (n, outputs), or (n, time, outputs) with the head's answer to zeros behind each series' end.
        """
        lengths = ends.sum(dim=1) if ends is not None and ends.ndim == 2 else ends
        x, states = self._run(series, lengths, ())
        if not self.each_step:
            return self._answer(states[-1][0].transpose(0, 1).flatten(1))
        if lengths is not None:
            steps = torch.arange(x.shape[1], device=x.device)
            x = x * (steps < lengths[:, None])[..., None].to(x.dtype)
        return self._answer(x)

    def stream(self, series: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Answer a chunk, going on from a state (n, layers, width) and giving the next one; see `forward`."""
        given = [tuple(s[:, i][None] for s in state) for i in range(len(self.layers))]
        x, ends = self._run(series, None, given)
        answer = self._answer(x if self.each_step else x[:, -1])
        return answer, *(torch.cat(each).transpose(0, 1) for each in zip(*ends, strict=True))

    def _run(self, series: Tensor, lengths: Tensor | None, given: Sequence[State]) -> tuple[Tensor, list[State]]:
        x, ends = self.dropout(self.entry(series)) if series.ndim == 2 else self.entry(series), []
        for index, layer in enumerate(self.layers):
            x, end = layer(x, lengths, given[index] if given else ())
            x = self.dropout(x)
            ends.append(end)
        return x, ends

    def _answer(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x)
        return out


class Streaming(nn.Module):
    """A network that takes a series in chunks: (chunk, state...) -> (answer, next state...)."""

    def __init__(self, network: RecurrentNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, series: Tensor, hidden: Tensor, cell: Tensor | None = None) -> tuple[Tensor, ...]:
        """See `RecurrentNetwork.stream`; each state is (n, layers, width)."""
        return self.network.stream(series, hidden, *([] if cell is None else [cell]))
