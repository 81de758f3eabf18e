"""Telephone prompts of five voices -> mel frames as Resemblyzer takes them: speakers.npz, and enrolled.npz.

Run: python clips.py [DIRECTORY that holds the voices' directories, by default /usr/share/asterisk/sounds]
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
SOUNDS = Path("/usr/share/asterisk/sounds")
RATE, WINDOW, HOP, MELS = 16000, 400, 160, 40
FRAMES, CLIPS_A_VOICE, ENROLLED = 80, 200, 10
LOUDNESS_DB = -30


def write_clips(sounds: Path, place: Path) -> None:
    """Ten clips of each voice enrol it, the others are the data."""
    voices = [read_clips(folder) for folder in sorted(sounds.rglob("*_*"), key=lambda p: p.name) if folder.is_dir()]
    voices = [clips for clips in voices if len(clips) > ENROLLED]
    if len(voices) < 2:
        raise SystemExit(f"{sounds} holds {len(voices)} voices; install asterisk-core-sounds-{{en,es,fr,it,ru}}-wav")
    mel, labels = np.concatenate([np.stack(v) for v in voices]), np.repeat(range(len(voices)), [len(v) for v in voices])
    order = np.random.default_rng(0).permutation(len(labels))
    mel, labels = mel[order], labels[order]
    enrolled = np.concatenate([np.flatnonzero(labels == voice)[:ENROLLED] for voice in range(len(voices))])
    rest = np.setdiff1d(np.arange(len(labels)), enrolled)
    for name, chosen in (("enrolled", enrolled), ("speakers", rest)):
        np.savez(place / f"{name}.npz", series=mel[chosen], labels=labels[chosen])
    print(f"{len(rest)} clips of {len(voices)} voices in {place / 'speakers.npz'}, {len(enrolled)} enrol them")


def read_clips(folder: Path) -> list[Array]:
    """The first 0.8 s of up to 200 prompts of one voice, as mel frames (80, 40) each."""
    clips: list[Array] = []
    for path in sorted(folder.glob("*.wav")):
        sound = None if "beep" in path.name or "tone" in path.name else read_sound(path)
        mel = None if sound is None else mel_frames(sound)
        if mel is not None and len(mel) >= FRAMES:
            clips.append(mel[:FRAMES])
        if len(clips) == CLIPS_A_VOICE:
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
    gain = min(10, 10 ** (LOUDNESS_DB / 20) / max(1e-6, np.sqrt((sound**2).mean())))
    padded = np.pad(sound * gain, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW + 1)[:WINDOW]
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    return np.asarray(power @ mel_filters().T, np.float32)


def mel_filters() -> Array:
    """Triangles of unit area on Slaney's mel scale, (40, 201)."""
    edges = mel_to_hz(np.linspace(0, 15 + np.log(RATE / 2 / 1000) / (np.log(6.4) / 27), MELS + 2))
    bins = np.fft.rfftfreq(WINDOW, 1 / RATE)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.asarray(np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low))


def mel_to_hz(mel: Array) -> Array:
    """Slaney's scale: linear to 1 kHz, then logarithmic."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.log(6.4) / 27) * (mel - 15)))


if __name__ == "__main__":
    write_clips(Path(sys.argv[1]) if len(sys.argv) > 1 else SOUNDS, Path.cwd())
