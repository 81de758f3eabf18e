"""Four data sets of the time series classification archive, as the Python package aeon carries them.

JapaneseVowels: Kudo, Toyama and Shimbo 1999, Pattern Recognition Letters 20. BasicMotions, ItalyPowerDemand, GunPoint:
Bagnall et al. 2018, arXiv:1811.00075, and Dau et al. 2018, arXiv:1810.07758. The test splits are the published ones;
calibration and validation are cut from the published training splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgekit.data.dataset import DataSet, DataSource, cut_by_class
from edgekit.data.series import SeriesPreprocessing
from edgekit.data.split import Split
from edgekit.data.ts_format import LabelledSeries, read_ts
from edgekit.data.wheel import keep_member, packaged, require_content, wheel_of
from edgekit.errors import DataError
from edgekit.progress import note
from edgekit.specs import Array, TensorSpec

PACKAGE, VERSION = "aeon", "1.6.0"
_INSIDE = "aeon/datasets/data"


@dataclass(frozen=True)
class Archived:
    """A data set of the archive.

    Attributes:
        folder: Its name there.
        classes: What the classes are; () for the names that the file has.
        sha256: "TRAIN" and "TEST" -> hash of that .ts file.
    """

    folder: str
    classes: tuple[str, ...]
    sha256: Mapping[str, str]

    @property
    def files(self) -> dict[str, str]:
        """File name -> hash."""
        return {f"{self.folder}_{part}.ts": sha256 for part, sha256 in self.sha256.items()}


JAPANESE_VOWELS = Archived(
    "JapaneseVowels",
    tuple(f"speaker {i}" for i in range(1, 10)),
    {
        "TRAIN": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
        "TEST": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
    },
)
BASIC_MOTIONS = Archived(
    "BasicMotions",
    (),
    {
        "TRAIN": "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
        "TEST": "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
    },
)
ITALY_POWER_DEMAND = Archived(
    "ItalyPowerDemand",
    (),
    {
        "TRAIN": "341269cb7e6cef96846b30e774580beec79addb93848ba360145219115a74b7c",
        "TEST": "26122451f87dd0387ef90b18bc8a86c041371b8a1c068004922b939971247144",
    },
)
GUN_POINT = Archived(
    "GunPoint",
    (),
    {
        "TRAIN": "f842401779fd9800d247d8b33121a1a4643710a19b24917dbdd9a060ca8630d5",
        "TEST": "79332750788a6227b325b96bd0d70130c8eb707b9731f8d7dec62b7a7d36017e",
    },
)
_ALL = (JAPANESE_VOWELS, BASIC_MOTIONS, ITALY_POWER_DEMAND, GUN_POINT)


def load(archived: Archived, name: str, directory: Path | None = None, task: str = "classification") -> DataSet:
    """Load and split one of them.

    Args:
        archived: Which.
        name: In recipes.
        directory: Where its two .ts files lie; by default aeon's place, then the cache, then a download by pip.
        task: Classification.

    Raises:
        DataError: if the files are nowhere and cannot be had, or hold something else.
    """
    place = locate(archived, name, directory)
    train, test = (_read(place / file, sha256, name) for file, sha256 in archived.files.items())
    cut = cut_by_class(train.labels)
    preprocessing = SeriesPreprocessing.of([train.series[i] for i in cut["train"]])
    ragged = len({len(s) for s in (*train.series, *test.series)}) > 1
    splits = {split: _split(split, train, index, preprocessing, ragged) for split, index in cut.items()}
    splits["test"] = _split("test", test, np.arange(len(test.labels)), preprocessing, ragged)
    series = TensorSpec("series", "float32", ("batch", "time", len(preprocessing.mean)))
    return DataSet(
        name=name,
        task=task,
        inputs=(series, TensorSpec("lengths", "int64", ("batch",))) if ragged else (series,),
        classes=archived.classes or train.classes,
        preprocessing=preprocessing,
        splits=splits,
    )


def locate(archived: Archived, name: str, directory: Path | None = None) -> Path:
    """The directory that holds both files, getting them into the cache as a last resort."""
    if directory is not None:
        missing = [f for f in archived.files if not (directory / f).is_file()]
        if missing:
            raise DataError(f"data {name!r}: {directory} lacks {', '.join(missing)}")
        return directory
    places = [*_packaged(archived), _cache() / archived.folder]
    for place in places:
        if all((place / f).is_file() for f in archived.files):
            return place
    return _download(archived, name, places[-1])


def _packaged(archived: Archived) -> list[Path]:
    """Where aeon has them, if it is installed."""
    return [root / "datasets" / "data" / archived.folder for root in packaged(PACKAGE)]


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("edgekit") / "time-series"


def _download(archived: Archived, name: str, place: Path) -> Path:
    """Let pip get the package, and take all four data sets out of it."""
    note(f"getting {PACKAGE}=={VERSION} (6 MB) for {name}")
    tried = f"data {name!r} is neither in an installed {PACKAGE} nor in {place}"
    with wheel_of(PACKAGE, VERSION, tried=tried, or_else=f"put {' and '.join(archived.files)} there") as packed:
        for each in _ALL:
            for file, sha256 in each.files.items():
                keep_member(packed, f"{_INSIDE}/{each.folder}/{file}", _cache() / each.folder / file, sha256, name)
    return place


def _read(path: Path, sha256: str, name: str) -> LabelledSeries:
    return read_ts(require_content(path.read_bytes(), sha256, path, name), str(path))


def _split(name: str, found: LabelledSeries, index: Array, prepare: SeriesPreprocessing, ragged: bool) -> Split:
    series, lengths = prepare([found.series[i] for i in index])
    arrays = {"series": series, "lengths": lengths} if ragged else {"series": series}
    return Split(name, arrays, found.labels[index])


def _fingerprint(archived: Archived, name: str, directory: Path | None = None) -> str:
    """The hashes that `load` insists on; where the files lie does not matter."""
    return f"{name} " + " ".join(archived.sha256.values())


def _source(name: str, archived: Archived, summary: str) -> DataSource:
    return DataSource(
        name=name,
        tasks=("classification",),
        summary=f"{summary}; in the package aeon, or a download of 6 MB by pip",
        licence="BSD",
        load=lambda directory, task: load(archived, name, directory, task),
        fingerprint=partial(_fingerprint, archived, name),
    )


TIME_SERIES = (
    _source("japanese-vowels", JAPANESE_VOWELS, "640 series of 12 channels and 7 to 29 steps, 9 speakers"),
    _source("basic-motions", BASIC_MOTIONS, "80 series of 6 channels and 100 steps, 4 motions"),
    _source("italy-power-demand", ITALY_POWER_DEMAND, "1,096 series of 24 steps, 2 seasons"),
    _source("gun-point", GUN_POINT, "200 series of 150 steps, 2 movements"),
)
