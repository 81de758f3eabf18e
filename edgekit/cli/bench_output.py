"""Where `edgekit bench` writes what it found, and how it ends."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cli.command import refuse

if TYPE_CHECKING:
    from edgekit.report.benchmark import Findings


class Require(StrEnum):
    """What a comparison must show, else the exit code is 3."""

    FASTER = "faster"
    NOT_SLOWER = "not-slower"


@dataclass(frozen=True)
class OutputFiles:
    """The files that were asked for; None for those that were not."""

    csv: Path | None = None
    markdown: Path | None = None
    samples: Path | None = None

    def check(self, inputs: Sequence[Path]) -> None:
        """Refuse, before anything is measured, what could not be written after it.

        Raises:
            OutputError: for an input, a directory, one file named twice, or samples in a format that is not known.
        """
        from edgekit.errors import OutputError
        from edgekit.files import check_output

        named = [path for path in vars(self).values() if path is not None]
        for number, path in enumerate(named):
            check_output(path, *inputs)
            if path.resolve() in [other.resolve() for other in named[:number]]:
                raise OutputError(f"{path} is named for two outputs; name another file for one of them")
        if self.samples is not None and self.samples.suffix not in (".json", ".npz"):
            raise OutputError(f"cannot write samples to {self.samples}: the name must end in .json or .npz")

    def write(self, findings: Findings) -> None:
        """Write each file, whole or not at all."""
        from edgekit.progress import note
        from edgekit.report.bench_files import write_csv, write_markdown, write_samples

        writers = ((self.csv, write_csv), (self.markdown, write_markdown), (self.samples, write_samples))
        for path, writer in writers:
            if path is not None:
                writer(path, findings)
                note(f"wrote {path}")


def typed_command() -> str:
    """The command as it was typed, ready to be pasted into a shell."""
    return shlex.join(["edgekit", *sys.argv[1:]])


def conclude(findings: Findings, require: Require | None) -> None:
    """End with exit code 3 where a comparison does not show what is required of it."""
    if require is None:
        return
    from edgekit.bench import Verdict

    allowed = {Verdict.FASTER} if require is Require.FASTER else {Verdict.FASTER, Verdict.NO_DIFFERENCE}
    failed = [c for c in findings.comparisons if c.verdict not in allowed]
    if failed:
        worst = min(failed, key=lambda c: c.speedup.ratio)
        refuse(
            f"--require {require} is not met by {len(failed)} of {len(findings.comparisons)} comparisons: "
            f"{worst.model} against {worst.baseline} on {worst.setting} is {worst.verdict} "
            f"({worst.speedup.ratio:.3f}x)" + _remedy([c.verdict for c in failed])
        )


def _remedy(verdicts: Sequence[str]) -> str:
    from edgekit.bench import Verdict

    noisy = all(v == Verdict.TOO_NOISY for v in verdicts)
    return "; measure longer (--min-seconds) on a quiet machine" if noisy else ""
