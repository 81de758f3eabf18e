"""fp32, fp16 and int8 Q/DQ on CUDA and TensorRT: one table in Markdown, with the machine and the versions.

    python benchmarks/gpu/run.py [--batch N ...] [--min-seconds S] [--width W]

Placement is strict, and inputs and outputs stay on the device. On a machine without an NVIDIA GPU it says so and exits
3.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from models import PRECISIONS, build

from edgekit import nvidia
from edgekit.bench import BenchReport, BenchRequest, bench_models
from edgekit.errors import EdgekitError, ProviderError
from edgekit.ort import Execution
from edgekit.report.benchmark import Findings, every_note, sheets
from edgekit.report.sheets import markdown_table

PROVIDERS = ("cuda", "tensorrt")


def measure(directory: Path, request: BenchRequest, width: int) -> tuple[list[BenchReport], list[str]]:
    """A report for each provider and precision that runs, and a line for each that does not."""
    reports, refused = [], []
    for provider in PROVIDERS:
        for precision in PRECISIONS:
            model = build(directory / f"{precision}.onnx", precision, width)
            try:
                reports.append(bench_models([model], replace(request, providers=(provider,))))
            except ProviderError as error:
                refused.append(f"{precision} on {provider}: {error}")
    return reports, refused


def show(reports: list[BenchReport], refused: list[str]) -> None:
    """Print what was measured, where, and what was not."""
    if reports:
        whole = replace(reports[0], rows=tuple(row for report in reports for row in report.rows))
        findings = Findings(replace(whole, notes=tuple(dict.fromkeys(n for r in reports for n in r.notes))))
        for sheet in sheets(findings):
            print(f"### {sheet.title}\n\n{markdown_table(sheet)}\n")
        facts = whole.machine
        for gpu in nvidia.gpus():
            print(f"- GPU {gpu}, SM {gpu.compute_capability}, driver {gpu.driver or 'unknown'}, CUDA {gpu.cuda}")
        print(f"- {facts['cpu']}, {facts['system']}; {facts['versions']}")
        for note in every_note(findings):
            print(f"- note: {note}")
    for line in refused:
        print(f"- not measured: {line}")


def main() -> int:
    """Measure and print; 0 where something was measured, else 3."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--min-seconds", type=float, default=2.0)
    parser.add_argument("--width", type=int, default=2048)
    asked = parser.parse_args()
    if not nvidia.gpus():
        print("no NVIDIA GPU on this machine: nothing was measured", file=sys.stderr)
        return 3
    request = BenchRequest(
        batches=tuple(asked.batch), min_seconds=asked.min_seconds, execution=Execution(strict_placement=True)
    )
    try:
        with tempfile.TemporaryDirectory() as directory:
            reports, refused = measure(Path(directory), request, asked.width)
    except EdgekitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    show(reports, refused)
    return 0 if reports else 3


if __name__ == "__main__":
    sys.exit(main())
