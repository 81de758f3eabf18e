"""Two networks of speech that others trained, as a user would write them down to load their weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SpeakerEncoder(nn.Module):
    """Mel frames (n, time, 40) -> embeddings of unit length (n, 256).

    Source: Wan et al. 2017, arXiv:1710.10467, as the package Resemblyzer has it.
    """

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, width, 3, batch_first=True)
        self.linear = nn.Linear(width, width)

    def forward(self, mel: Tensor) -> Tensor:
        frames, _ = self.lstm(mel)
        embedding = torch.relu(self.linear(frames[:, -1]))
        return embedding / embedding.norm(dim=1, keepdim=True)


class LettersToPhonemes(nn.Module):
    """Letters int64 (n, length), phonemes so far int64 (n, steps) -> logits of the next ones (n, steps, 74).

    Source: the package g2p-en.
    """

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.letters, self.phonemes = nn.Embedding(29, width), nn.Embedding(74, width)
        self.encoder = nn.GRU(width, width, batch_first=True)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.last = nn.Linear(width, 74)

    def forward(self, letters: Tensor, phonemes: Tensor) -> Tensor:
        _, state = self.encoder(self.letters(letters))
        steps, _ = self.decoder(self.phonemes(phonemes), state)
        return self.last(steps)  # type: ignore[no-any-return]
