"""How far a calibration pass has come, kept on disk so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from edgekit.compress.quantize.observers import Observation
from edgekit.files import write_text

SAVE_EVERY_S = 2.0
_LEAST_PAUSE = 20  # saving takes at most this part of the time


@dataclass
class CalibrationPass:
    """Observations so far, and which runs they stand for.

    Attributes:
        file: Where it is kept; None keeps it nowhere.
        plan: How runs are cut; what was kept under another plan is of no use.
        seen: What every tensor held.
        group: Index of the group of tensors that is observed now.
        runs: Runs of that group that `seen` holds.
        samples: Samples of that group that `seen` holds.
    """

    file: Path | None
    plan: list[Any]
    seen: dict[str, Observation]
    group: int = 0
    runs: int = 0
    samples: int = 0
    _saved_at: float = field(default_factory=perf_counter)
    _saving_s: float = 0.0

    @classmethod
    def resumed(cls, file: Path | None, tensors: list[str], plan: list[Any]) -> CalibrationPass:
        """Where a pass stopped; its beginning where nothing usable is on disk."""
        fresh = cls(file, plan, {name: Observation() for name in tensors})
        if file is None or not file.is_file():
            return fresh
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            seen = {name: Observation.from_json(stored["tensors"][name]) for name in tensors}
            found = cls(file, plan, seen, int(stored["group"]), int(stored["runs"]), int(stored["samples"]))
        except (ValueError, KeyError, TypeError, IndexError):  # another version's, or damaged: begin again
            return fresh
        return found if stored.get("plan") == plan else fresh

    def add_run(self, samples: int) -> None:
        """Note that every tensor of the group took in one more run; now and then, put it all on disk.

        Only here is every tensor at the same run: an interruption anywhere else leaves what was saved last.
        """
        self.runs += 1
        self.samples += samples
        if self.file is not None and perf_counter() - self._saved_at >= max(
            SAVE_EVERY_S, _LEAST_PAUSE * self._saving_s
        ):
            self._save(self.file)

    def next_group(self) -> None:
        """Begin the next group of tensors, at the first sample."""
        self.group, self.runs, self.samples = self.group + 1, 0, 0

    def _save(self, file: Path) -> None:
        started = perf_counter()
        where = {"plan": self.plan, "group": self.group, "runs": self.runs, "samples": self.samples}
        tensors = {name: found.to_json() for name, found in self.seen.items()}
        write_text(file, json.dumps({**where, "tensors": tensors}))
        self._saved_at = perf_counter()
        self._saving_s = self._saved_at - started
