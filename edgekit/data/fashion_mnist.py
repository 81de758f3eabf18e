"""Fashion-MNIST: 70,000 grey pictures 28x28 of clothes in 10 classes.

Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747. The test split is the published one of 10,000.
"""

from __future__ import annotations

import gzip
import hashlib
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgekit.data.dataset import DataSet, DataSource, split_samples
from edgekit.data.split import Split
from edgekit.errors import DataError
from edgekit.files import replacing
from edgekit.progress import note
from edgekit.runtime.image import ImagePreprocessing
from edgekit.specs import Array, TensorSpec

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
PREPROCESSING = ImagePreprocessing(
    height=28, width=28, channels=1, scale=1 / 255, mean=(0.286,), std=(0.353,), background=0
)
SIZES = {"train": 52_000, "calibration": 2_048, "validation": 5_952}
_TIMEOUT_S = 30


class _Part(NamedTuple):
    """One gzip file: size and SHA-256 of what is inside (packers differ in the gzip bytes, not in those)."""

    name: str
    size_bytes: int
    sha256: str


PARTS = {
    "train images": _Part(
        "train-images-idx3-ubyte.gz", 47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train labels": _Part(
        "train-labels-idx1-ubyte.gz", 60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "test images": _Part(
        "t10k-images-idx3-ubyte.gz", 7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "test labels": _Part(
        "t10k-labels-idx1-ubyte.gz", 10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}


def load(directory: Path | None = None, task: str = "classification") -> DataSet:
    """Load and split Fashion-MNIST.

    Args:
        directory: Where the four gzip files lie; by default Debian's place, then the cache, then a download.
        task: Sets the range of the pixels.

    Raises:
        DataError: if the files are nowhere and cannot be had, or hold something else.
    """
    place, preprocessing = locate(directory), PREPROCESSING.for_task(task)
    arrays = {part: _read(place / PARTS[part].name, PARTS[part]) for part in PARTS}
    splits = split_samples(preprocessing(arrays["train images"]), arrays["train labels"], SIZES)
    test = preprocessing(arrays["test images"])
    splits["test"] = Split("test", {"image": test}, arrays["test labels"].astype(np.int64))
    return DataSet(
        name="fashion-mnist",
        task=task,
        inputs=(TensorSpec("image", "float32", ("batch", 1, 28, 28)),),
        classes=CLASSES,
        preprocessing=preprocessing,
        splits=splits,
    )


def locate(directory: Path | None = None) -> Path:
    """The directory that holds all four files, downloading them into the cache as a last resort."""
    if directory is not None:
        missing = [p.name for p in PARTS.values() if not (directory / p.name).is_file()]
        if missing:
            raise DataError(f"data 'fashion-mnist': {directory} lacks {', '.join(missing)}")
        return directory
    for place in (DEBIAN, _cache()):
        if all((place / p.name).is_file() for p in PARTS.values()):
            return place
    return _download(_cache())


def fingerprint(directory: Path | None = None) -> str:
    """The hashes that `load` insists on; where the files lie does not matter."""
    return "fashion-mnist " + " ".join(p.sha256 for p in PARTS.values())


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("edgekit") / "fashion-mnist"


def _download(place: Path) -> Path:
    note(f"downloading Fashion-MNIST (30 MB) into {place}")
    for part in PARTS.values():
        try:
            with urllib.request.urlopen(URL + part.name, timeout=_TIMEOUT_S) as answer:
                packed = answer.read(2 * part.size_bytes + 1)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise DataError(
                f"data 'fashion-mnist' is not in {DEBIAN} nor in {place}, and the download failed ({error}); "
                "on Debian: apt-get install dataset-fashion-mnist; elsewhere put the four .gz files there"
            ) from error
        with replacing(place / part.name) as temporary:
            temporary.write_bytes(packed)
            _read(temporary, part)
    return place


def _read(path: Path, part: _Part) -> Array:
    """Unpack one IDX file, at most as many bytes as it must have, and check what it holds."""
    try:
        with gzip.open(path) as file:
            raw = file.read(part.size_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"data 'fashion-mnist': {path} is not a readable gzip file ({error}); get it again") from error
    if hashlib.sha256(raw).hexdigest() != part.sha256:
        raise DataError(f"data 'fashion-mnist': {path} holds other data than {part.name} should; get it again")
    ranks = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(ranks)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * ranks).reshape(shape)


FASHION_MNIST = DataSource(
    name="fashion-mnist",
    tasks=("classification", "reconstruction", "generation"),
    summary="70,000 pictures 28x28 of clothes, 10 classes; Debian's dataset-fashion-mnist, or a download of 30 MB",
    licence="MIT",
    load=load,
    fingerprint=fingerprint,
)
