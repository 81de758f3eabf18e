"""Steps that are done once: a step is reused while its inputs, its config and the versions that matter are the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import progress
from edgekit.files import digest, sha256_of, write_json


@dataclass(frozen=True)
class StepRecord:
    """A finished step.

    Attributes:
        name: Of the step, unique in its directory.
        result: What it found, as JSON.
        seconds: What it took when it ran.
        reused: Whether it did not have to run this time.
    """

    name: str
    result: dict[str, Any]
    seconds: float
    reused: bool


Files = Sequence[Path] | Callable[[], Sequence[Path]]


def _listed(files: Files) -> Sequence[Path]:
    return files() if callable(files) else files


class StepStore:
    """The steps of one output directory; each leaves a record, written after its files.

    Args:
        out: The output directory; the files of steps lie in it, the records in `out/steps`.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.finished: list[StepRecord] = []

    def run(
        self, name: str, inputs: Any, files: Files, make: Callable[[], dict[str, Any]], doing: str = ""
    ) -> StepRecord:
        """Run a step, or give what it gave last time.

        Args:
            name: Of the step.
            inputs: Everything that its result depends on: config, hashes of input files, versions. JSON.
            files: The files that it writes; a function where only the directory knows them.
            make: Does it, and gives its result as JSON.
            doing: What a person is told while it runs; nothing by default.
        """
        key = digest(inputs)
        record = self._reusable(name, key, _listed(files))
        if record is None:
            if doing:
                progress.note(doing, style="bold")
            started = time.perf_counter()
            result = make()
            record = StepRecord(name, result, time.perf_counter() - started, reused=False)
            hashes = {str(f.relative_to(self.out)): sha256_of(f) for f in _listed(files)}
            content = {"name": name, "key": key, "files": hashes, "seconds": record.seconds, "result": result}
            write_json(self._path(name), content)
        self.finished.append(record)
        return record

    def _reusable(self, name: str, key: str, files: Sequence[Path]) -> StepRecord | None:
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            same = stored["key"] == key and set(stored["files"]) == {str(f.relative_to(self.out)) for f in files}
            intact = same and all(
                f.is_file() and sha256_of(f) == stored["files"][str(f.relative_to(self.out))] for f in files
            )
            return StepRecord(name, stored["result"], stored["seconds"], reused=True) if intact else None
        except (ValueError, KeyError, TypeError):  # a record from another version or damaged by hand: do the step again
            return None

    def _path(self, name: str) -> Path:
        return self.out / "steps" / f"{name}.json"
