"""Resemblyzer's speaker encoder (Wan et al. 2017, arXiv:1710.10467), asked which of the enrolled voices it hears."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

ENROLLED = Path(__file__).with_name("enrolled.npz")


class Encoder(nn.Module):
    """Mel frames (n, time, 40) -> embeddings of unit length (n, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mel: Tensor) -> Tensor:
        """See the class."""
        frames, _ = self.lstm(mel)
        return nn.functional.normalize(torch.relu(self.linear(frames[:, -1])))


class Speakers(nn.Module):
    """Mel frames (n, time, 40) -> how near each enrolled voice is, cosine (n, voices)."""

    def __init__(self, encoder: Encoder, voices: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.voices = nn.Linear(voices.shape[1], voices.shape[0], bias=False)
        self.voices.weight.data = voices

    def forward(self, mel: Tensor) -> Tensor:
        """See the class."""
        return self.voices(self.encoder(mel))


def speakers() -> nn.Module:
    """The encoder with its weights, and the mean embedding of ten clips of each voice as its last layer."""
    encoder = Encoder().eval()
    state = torch.load(_weights(), map_location="cpu", weights_only=True)["model_state"]
    encoder.load_state_dict({name: w for name, w in state.items() if name.startswith(("lstm", "linear"))})
    with np.load(ENROLLED) as clips, torch.inference_mode():
        heard, labels = encoder(torch.from_numpy(clips["series"])), clips["labels"]
    means = [heard[torch.from_numpy(labels == voice)].mean(0) for voice in range(labels.max() + 1)]
    return Speakers(encoder, nn.functional.normalize(torch.stack(means)).clone())


def _weights() -> Path:
    """What the package brings; the package itself is not imported."""
    spec = importlib.util.find_spec("resemblyzer")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("resemblyzer is not there: pip install --no-deps resemblyzer")
    return Path(spec.origin).with_name("pretrained.pt")
