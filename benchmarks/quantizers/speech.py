"""T3: a recurrent speaker encoder whose weights come in a Python package, on telephone prompts of five voices.

Source: Wan 2018, arXiv:1710.10467 (generalized end-to-end loss).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from exported import OPSET
from tasks import Array
from torch import nn

# The recipe has to stand alone, so that its folder can be copied; what it shares lies there.
sys.path.append(str(Path(__file__).parents[2] / "recipes" / "speakers-resemblyzer"))
from clips import ENROLLED, MELS, read_clips

_CALIBRATION = 64


class Encoder(nn.Module):
    """Mel frames (n, time, 40) -> embeddings of unit length (n, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Apply."""
        _, (hidden, _) = self.lstm(mel)
        embedding = torch.relu(self.linear(hidden[-1]))
        return embedding / embedding.norm(dim=1, keepdim=True)


def build_speakers(data: Path, folder: Path) -> None:
    """The encoder as it is; ten clips of each voice enrol it, 64 others calibrate, the rest is the test."""
    sounds = sorted((data / "deb").glob("asterisk-*/usr/share/asterisk/sounds/*_*"), key=lambda p: p.name)
    clips = [read_clips(folder) for folder in sounds]
    mels, voices = np.concatenate([np.stack(c) for c in clips]), np.repeat(range(len(clips)), [len(c) for c in clips])
    order = np.random.default_rng(0).permutation(len(voices))
    mels, voices = mels[order], voices[order]
    enrolled = np.concatenate([np.flatnonzero(voices == k)[:ENROLLED] for k in range(len(clips))])
    rest = np.setdiff1d(np.arange(len(voices)), enrolled)
    tested = np.concatenate([enrolled, rest[_CALIBRATION:]])
    export_encoder(data, mels[:1], folder)
    np.savez(folder / "calib.npz", mel=mels[rest[:_CALIBRATION]])
    np.savez(folder / "eval.npz", mel=mels[tested], y=voices[tested], enrol=len(enrolled))


def export_encoder(data: Path, sample: Array, folder: Path) -> None:
    """Write the model with torch's older exporter, as most LSTM files in use were written."""
    file = data / "wheel" / "Resemblyzer" / "resemblyzer" / "pretrained.pt"
    state = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
    net = Encoder().eval()
    net.load_state_dict({name: w for name, w in state.items() if name.startswith(("lstm", "linear"))})
    torch.onnx.export(
        net,
        (torch.from_numpy(sample),),
        str(folder / "model.onnx"),
        input_names=["mel"],
        output_names=["out"],
        opset_version=OPSET,
        dynamo=False,
        dynamic_axes={"mel": {0: "batch", 1: "time"}, "out": {0: "batch"}},
    )
