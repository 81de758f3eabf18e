"""T3: a recurrent speaker encoder whose weights come in a Python package, on telephone prompts of five voices.

Source: Wan 2018, arXiv:1710.10467 (generalized end-to-end loss).
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import torch
from build import OPSET
from tasks import Array
from torch import nn

_RATE, _WINDOW, _HOP, _MELS = 16000, 400, 160, 40
_FRAMES, _CLIPS_A_VOICE, _ENROLLED, _CALIBRATION = 80, 200, 10, 64
_LOUDNESS_DB = -30


class Encoder(nn.Module):
    """Mel frames (n, time, 40) -> embeddings of unit length (n, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_MELS, 256, 3, batch_first=True)
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
    enrolled = np.concatenate([np.flatnonzero(voices == k)[:_ENROLLED] for k in range(len(clips))])
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


def read_clips(folder: Path) -> list[Array]:
    """The first 0.8 s of up to 200 prompts of one voice, as mel frames (80, 40) each."""
    clips: list[Array] = []
    for path in sorted(folder.glob("*.wav")):
        sound = None if "beep" in path.name or "tone" in path.name else read_sound(path)
        mel = None if sound is None else mel_frames(sound)
        if mel is not None and len(mel) >= _FRAMES:
            clips.append(mel[:_FRAMES])
        if len(clips) == _CLIPS_A_VOICE:
            break
    return clips


def read_sound(path: Path) -> Array | None:
    """Samples at 16 kHz, band-limited from 8 kHz; None where the file is too short or of another rate."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768.0
        if len(samples) < 0.85 * 8000 or file.getframerate() != 8000:
            return None
    spectrum = np.fft.rfft(samples)
    padded = np.pad(spectrum, (0, len(samples) + 1 - len(spectrum)))
    return np.asarray(np.fft.irfft(padded, 2 * len(samples)) * 2)


def mel_frames(sound: Array) -> Array:
    """Mel power spectrum, float32 (frames, 40), of a sound (samples,) brought to one loudness."""
    gain = min(10, 10 ** (_LOUDNESS_DB / 20) / max(1e-6, np.sqrt((sound**2).mean())))
    padded = np.pad(sound * gain, _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP] * np.hanning(_WINDOW + 1)[:_WINDOW]
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    return np.asarray(power @ mel_filters().T, np.float32)


def mel_filters() -> Array:
    """Triangles of unit area on Slaney's mel scale, (40, 201)."""
    edges = _mel_to_hz(np.linspace(_hz_to_mel(0.0), _hz_to_mel(_RATE / 2), _MELS + 2))
    bins = np.fft.rfftfreq(_WINDOW, 1 / _RATE)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.asarray(np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low))


def _hz_to_mel(hz: float) -> float:
    return hz / (200 / 3) if hz < 1000 else 15 + float(np.log(hz / 1000)) / (np.log(6.4) / 27)


def _mel_to_hz(mel: Array) -> Array:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.log(6.4) / 27) * (mel - 15)))
