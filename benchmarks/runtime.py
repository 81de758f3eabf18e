"""What the runtime costs beside ONNX Runtime itself, on this machine.

    edgekit pack --run digits-cnn --data digits --out digits.zip
    python benchmarks/runtime.py digits.zip [--rounds 60] [--processes 20]

- overhead: `model.run` against `session.run` of the same session and the same arrays, in turns of some milliseconds;
  the median over rounds of the difference of their medians a call.
- import: `import edgekit.runtime` in a fresh process that has imported numpy and onnxruntime. Its bytecode is there, as
  it is for a package that was installed.
- cold start: a fresh process that loads the bundle, with every byte that it uses checked, and answers once; from its
  first line of Python on, and from the moment at which this process asks for it. Beside it the same without edgekit:
  the model in a file, a plain session.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import machine
from edgekit.runtime import Model, load
from edgekit.runtime.archive import read_checked
from edgekit.runtime.opening import open_archive

_CALLS = 200  # of a turn
_RUNTIME = """
import time; marks = [time.perf_counter()]
import numpy; marks.append(time.perf_counter())
import onnxruntime; marks.append(time.perf_counter())
from edgekit.runtime import load; marks.append(time.perf_counter())
model = load({bundle!r}, threads={threads}); marks.append(time.perf_counter())
model.predict({feeds}); marks.append(time.perf_counter())
print(*(1000 * (b - a) for a, b in zip(marks, marks[1:])))
"""
_PLAIN = """
import time; marks = [time.perf_counter()]
import numpy; marks.append(time.perf_counter())
import onnxruntime; marks.append(time.perf_counter()); marks.append(marks[-1])
options = onnxruntime.SessionOptions(); options.intra_op_num_threads = {threads}
session = onnxruntime.InferenceSession({model!r}, options, providers=["CPUExecutionProvider"])
marks.append(time.perf_counter())
session.run(None, {feeds}); marks.append(time.perf_counter())
print(*(1000 * (b - a) for a, b in zip(marks, marks[1:])))
"""
_PARTS = ("import numpy", "import onnxruntime", "import edgekit.runtime", "load, checked", "first answer")


def example(model: Model) -> dict[str, np.ndarray[Any, Any]]:
    """A batch of one of ones; every dimension that has only a name is 1."""
    shapes = {s.name: [d if isinstance(d, int) else 1 for d in s.shape] for s in model.inputs}
    return {spec.name: np.ones(shapes[spec.name], spec.dtype) for spec in model.inputs}


def call_us(call: Callable[[], object]) -> float:
    """The median of many calls, in µs."""
    taken = []
    for _ in range(_CALLS):
        start = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - start)
    return statistics.median(taken) / 1000


def measure_overhead(bundle: Path, rounds: int) -> tuple[float, float, list[float]]:
    """Medians of the plain call and of the runtime's in µs, and the difference in each round."""
    model = load(bundle, threads=1)
    session, feeds, names = model._session, example(model), [s.name for s in model.outputs]
    calls = {"plain": lambda: session.run(names, feeds), "runtime": lambda: model.run(feeds)}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 3):
        for name in calls if number % 2 == 0 else reversed(calls):
            taken[name].append(call_us(calls[name]))
    plain, ours = taken["plain"][3:], taken["runtime"][3:]  # the first rounds warm up
    return statistics.median(plain), statistics.median(ours), [b - a for a, b in zip(plain, ours, strict=True)]


def in_process(code: str, bytecode: Path) -> tuple[list[float], float]:
    """What a fresh process prints, and how long it took, in ms; bytecode is kept in a directory of its own."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(bytecode)}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return [float(value) for value in done.stdout.split()], 1000 * (time.perf_counter() - start)


def measure_cold_start(bundle: Path, processes: int) -> dict[str, Any]:
    """Medians over fresh processes, in ms, taken in turns."""
    with tempfile.TemporaryDirectory() as place, load(bundle, threads=1) as model:
        path = Path(place) / "model.onnx"
        with open_archive(bundle) as archive:
            path.write_bytes(read_checked(archive, model.variant.file, model.manifest.files[model.variant.file]))
        arrays = (f"{n!r}: numpy.ones({a.shape}, {a.dtype.name!r})" for n, a in example(model).items())
        told = {"bundle": str(bundle), "model": str(path), "threads": 1, "feeds": f"{{{', '.join(arrays)}}}"}
        codes = {"runtime": _RUNTIME.format(**told), "plain": _PLAIN.format(**told), "nothing": "pass"}
        taken: dict[str, list[tuple[list[float], float]]] = {name: [] for name in codes}
        for _ in range(processes + 1):
            for name, code in codes.items():
                taken[name].append(in_process(code, Path(place)))
    return {name: _summary(found[1:]) for name, found in taken.items()}


def _summary(taken: list[tuple[list[float], float]]) -> dict[str, Any]:
    parts = [statistics.median(values) for values in zip(*(p for p, _ in taken), strict=True)]
    totals = [sum(p) for p, _ in taken]
    wall = [w for _, w in taken]
    spread = {"median": statistics.median(totals), "least": min(totals), "most": max(totals)}
    return {"parts": dict(zip(_PARTS, parts, strict=False)), "python": spread, "process": statistics.median(wall)}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=60, help="of the overhead")
    parser.add_argument("--processes", type=int, default=20, help="of each cold start")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    plain, ours, differences = measure_overhead(options.bundle, options.rounds)
    low, high = np.quantile(differences, [0.05, 0.95]).tolist()
    overhead = {
        "plain_us": plain,
        "runtime_us": ours,
        "over_us": statistics.median(differences),
        "q05_q95": [low, high],
    }
    cold = measure_cold_start(options.bundle, options.processes)
    if options.json:
        print(json.dumps({"overhead": overhead, "cold_start_ms": cold, "machine": machine.facts()}))
        return
    over = f"{overhead['over_us']:+.2f} µs ({low:+.2f} to {high:+.2f})"
    print(f"session.run {plain:.2f} µs, model.run {ours:.2f} µs: {over}\n")
    print("| ms, median | edgekit.runtime | onnxruntime alone |\n|---|---|---|")
    for part in _PARTS:
        print(f"| {part} | {cold['runtime']['parts'][part]:.1f} | {cold['plain']['parts'][part]:.1f} |")
    for title, pick in (
        (
            "first line to first answer",
            lambda c: f"{c['python']['median']:.1f} ({c['python']['least']:.1f} to {c['python']['most']:.1f})",
        ),
        ("whole process", lambda c: f"{c['process']:.1f}"),
    ):
        print(f"| {title} | {pick(cold['runtime'])} | {pick(cold['plain'])} |")
    facts = machine.facts()
    print(f"\nA process that does nothing: {cold['nothing']['process']:.1f} ms.")
    print(f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}; {facts['versions']}")


if __name__ == "__main__":
    main()
