"""How far edgekit's measuring loop is from a bare loop and from one in C, and how often its verdicts are right.

    python benchmarks/bench_overhead.py [--repeats 100] [--rounds 24]

Models of about 20 µs, 200 µs and 2 ms are built for this machine, on one thread; one of them is limited by memory.

- overhead: medians of the loop in C (c_loop.c, in a process of its own), of the bare `session.run` loop that anybody
  writes, and of edgekit's loop on the same session as the bare one; in turns, with new sessions every third round.
- verdicts: of the same file twice, those other than NO DIFFERENCE; of a model with 10 % more work, those that say so.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import c_loop
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit import machine
from edgekit.bench import Plan, Verdict, compare_latency, interleave
from edgekit.bench.compare import runner
from edgekit.bench.noise import disturbances, look
from edgekit.ort import Session

# Milliseconds, and rows of the input: with one, the weights come from memory, which all cores share; with 32 they are
# used often enough to stay in the caches.
TARGETS = {"20 µs": (0.02, 1), "200 µs": (0.2, 1), "2 ms": (2.0, 32), "2 ms from memory": (2.0, 1)}
LAYERS = 20
_TURN_S = 0.1
_ROUNDS_A_SESSION = 3


@dataclass(frozen=True)
class Overhead:
    """Medians over rounds, in ms; None where the loop in C cannot be built.

    Attributes:
        ratio: Median over rounds of edgekit / bare.
        python_us: Median over sessions of bare - C, in µs.
    """

    c: float | None
    bare: float
    edgekit: float
    ratio: float
    python_us: float | None


def build(path: Path, width: int, layers: int = LAYERS, rows: int = 1) -> Path:
    """A chain of square MatMul and Relu, (rows, width) in and out."""
    rng = np.random.default_rng(0)
    nodes, weights, name = [], [], "x"
    for i in range(layers):
        weight = rng.standard_normal((width, width)).astype(np.float32) / np.sqrt(width)
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w{i}"))
        nodes += [
            helper.make_node("MatMul", [name, f"w{i}"], [f"m{i}"]),
            helper.make_node("Relu", [f"m{i}"], [f"r{i}"]),
        ]
        name = f"r{i}"
    shape = [rows, width]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "chain", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def width_for(target_ms: float, rows: int, directory: Path) -> int:
    """The width at which the chain takes about so long here: within a tenth, or the best of some tries."""
    width, tried = 100, {}
    for _ in range(8):
        session = Session(build(directory / "try.onnx", width, rows=rows), threads=1)
        tried[width] = bare_median_ms(session, ones(session), _TURN_S)
        if abs(tried[width] / target_ms - 1) < 0.1:
            break
        width = max(4, round(width * (target_ms / tried[width]) ** 0.5))
    return min(tried, key=lambda w: abs(tried[w] / target_ms - 1))


def ones(session: Session) -> dict[str, np.ndarray]:
    """The input."""
    return {"x": np.ones(session.inputs[0].shape, np.float32)}


def bare_median_ms(session: Session, feeds: Mapping[str, np.ndarray], seconds: float) -> float:
    """The median of the loop that anybody writes."""
    taken, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        session.raw.run(None, feeds)
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def edgekit_median_ms(session: Session, feeds: Mapping[str, np.ndarray], seconds: float) -> float:
    """The median that edgekit's loop gives."""
    plan = Plan(min_seconds=seconds, min_runs=10, warmup_seconds=seconds)
    return float(np.median(interleave({"m": runner(session, feeds)}, plan)["m"].ms))


def overhead(path: Path, program: Path | None, rounds: int) -> Overhead:
    """The loops in turns, with new sessions now and then: where a session's weights lie changes its speed a little."""
    taken: dict[str, list[float]] = {"c": [], "bare": [], "edgekit": []}
    over_c = []
    for _ in range(max(1, rounds // _ROUNDS_A_SESSION)):
        with ExitStack() as stack:
            found = _rounds(_loops(path, program, stack))
        for name, values in found.items():
            taken[name] += values
        if program:
            over_c.append(1000 * (statistics.median(found["bare"]) - statistics.median(found["c"])))
    ratio = statistics.median(a / b for a, b in zip(taken["edgekit"], taken["bare"], strict=True))
    c = statistics.median(taken["c"]) if program else None
    bare, ours = statistics.median(taken["bare"]), statistics.median(taken["edgekit"])
    return Overhead(c, bare, ours, ratio, statistics.median(over_c) if over_c else None)


def _loops(path: Path, program: Path | None, stack: ExitStack) -> dict[str, Callable[[float], float]]:
    """Each loop gives its median in ms when it is told how long to run."""
    session = Session(path, threads=1)
    feeds = ones(session)
    loops: dict[str, Callable[[float], float]] = {
        "bare": lambda seconds: bare_median_ms(session, feeds, seconds),
        "edgekit": lambda seconds: edgekit_median_ms(session, feeds, seconds),
    }
    if program is None:
        return loops
    running = stack.enter_context(c_loop.CLoop(program, path, feeds["x"].shape))
    return {"c": lambda seconds: running.median_ms(seconds)[0], **loops}


def _rounds(loops: Mapping[str, Callable[[float], float]]) -> dict[str, list[float]]:
    for measure in loops.values():
        measure(_TURN_S / 2)
    taken: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(_ROUNDS_A_SESSION):
        for name in loops if number % 2 == 0 else reversed(loops):
            taken[name].append(loops[name](_TURN_S))
    return taken


def verdicts(before: Path, after: Path, repeats: int) -> Counter[Verdict]:
    """Verdicts of many comparisons, each with new sessions."""
    return Counter(compare_latency(before, after, threads=1, seconds=0.5).verdict for _ in range(repeats))


def print_overhead(models: Mapping[str, Path], directory: Path, rounds: int) -> None:
    """The first table."""
    reason = c_loop.why_not()
    program = None if reason else c_loop.build(directory)
    print("| model | loop in C, ms | bare Python loop, ms | edgekit, ms | edgekit / bare | Python over C, µs |")
    print("|---|---|---|---|---|---|")
    for name, path in models.items():
        found = overhead(path, program, rounds)
        c, over = (f"{v:.{d}f}" if v is not None else "n/a" for v, d in ((found.c, 4), (found.python_us, 1)))
        print(f"| {name} | {c} | {found.bare:.4f} | {found.edgekit:.4f} | {found.ratio:.4f} | {over} |", flush=True)
    if reason:
        print(f"\nThe loop in C was not measured: {reason}.")


def print_verdicts(models: Mapping[str, Path], directory: Path, widths: Mapping[str, int], repeats: int) -> None:
    """The second table."""
    print("\n| model | same file: not NO DIFFERENCE | 10 % more work: SLOWER | its other verdicts |")
    print("|---|---|---|---|")
    for name, path in models.items():
        more = build(directory / "more.onnx", widths[name], LAYERS * 11 // 10, TARGETS[name][1])
        same, slower = verdicts(path, path, repeats), verdicts(path, more, repeats)
        wrong = repeats - same[Verdict.NO_DIFFERENCE]
        rest = ", ".join(f"{n} {v}" for v, n in slower.items() if v is not Verdict.SLOWER) or "none"
        print(f"| {name} | {wrong} of {repeats} | {slower[Verdict.SLOWER]} of {repeats} | {rest} |", flush=True)


def main() -> None:
    """Print the tables, and what disturbed them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20, help="comparisons for each verdict count; 0 for none")
    parser.add_argument("--rounds", type=int, default=24, help="rounds of the three loops")
    parser.add_argument("--model", action="append", choices=TARGETS, help="only this; repeat for several")
    options = parser.parse_args()
    before = look()
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        widths = {name: width_for(*TARGETS[name], directory) for name in options.model or TARGETS}
        models = {
            name: build(directory / f"{width}.onnx", width, rows=TARGETS[name][1]) for name, width in widths.items()
        }
        print_overhead(models, directory, options.rounds)
        if options.repeats:
            print_verdicts(models, directory, widths, options.repeats)
    facts = machine.facts()
    print(f"\n{facts['cpu']}, {facts['cores']} cores, {facts['system']}; {facts['versions']}")
    for text in disturbances(before, look()):
        print(f"note: {text}")


if __name__ == "__main__":
    main()
