"""The recipe of a speaker encoder: its clips are read, and its quality is that of the packaged weights."""

from __future__ import annotations

import importlib.util
import shutil
import wave
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekit.pipeline import run_recipe
from edgekit.recipe import load_recipe
from edgekit.recipe.load import recipe_directory
from tests.zoo.test_pretrained import packaged

FOLDER = recipe_directory() / "speakers-resemblyzer"


def clips() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clips", FOLDER / "clips.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hum(path: Path, hertz: float, seconds: float, rate: int = 8000) -> None:
    samples = np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 9000).astype(np.int16).tobytes())


def test_a_tone_lies_in_one_mel_band(tmp_path: Path) -> None:
    made = clips()
    hum(tmp_path / "a.wav", 1000.0, 1.0)
    mel = made.mel_frames(made.read_sound(tmp_path / "a.wav"))
    assert (mel.shape[1], mel.dtype) == (40, np.float32)
    middles = made.mel_to_hz(np.linspace(0, 15 + np.log(8) / (np.log(6.4) / 27), 42))[1:-1]
    assert abs(middles[mel[40].argmax()] - 1000) < 100


def test_voices_are_enrolled_and_told_apart_from_the_data(tmp_path: Path) -> None:
    for voice, hertz in (("aa_X", 300.0), ("bb_Y", 900.0)):
        for number in range(14):
            hum(tmp_path / "sounds" / voice / f"{number:02}.wav", hertz + 5 * number, 0.9)
    hum(tmp_path / "sounds" / "aa_X" / "beep.wav", 440.0, 0.9)
    hum(tmp_path / "sounds" / "aa_X" / "short.wav", 440.0, 0.5)
    clips().write_clips(tmp_path / "sounds", tmp_path)
    with np.load(tmp_path / "enrolled.npz") as enrolled, np.load(tmp_path / "speakers.npz") as rest:
        assert enrolled["series"].shape == (20, 80, 40)
        assert np.bincount(enrolled["labels"]).tolist() == [10, 10]
        assert np.bincount(rest["labels"]).tolist() == [4, 4]
    with pytest.raises(SystemExit, match="holds 0 voices"):
        clips().write_clips(tmp_path / "nothing", tmp_path)


@pytest.mark.slow
def test_the_recipe_keeps_the_speakers_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged("resemblyzer", "pretrained.pt")
    if not clips().SOUNDS.is_dir() or len(list(clips().SOUNDS.glob("*_*"))) < 5:
        pytest.skip("Debian's packages asterisk-core-sounds-*-wav are not installed")
    shutil.copytree(FOLDER, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    clips().write_clips(clips().SOUNDS, tmp_path / "here")
    recipe = load_recipe(Path("speakers-resemblyzer.yaml"), ["bench.min_seconds=0.1"])
    report = run_recipe(recipe, tmp_path / "out")
    base, int8 = report.models[:2]
    assert base.metric["test"]["value"] > 0.88
    assert int8.drop["test"]["value"] <= 0.01
    assert int8.size_ratio >= 3.8
