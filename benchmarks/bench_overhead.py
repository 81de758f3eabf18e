"""How far edgekit's measuring loop is from a bare loop, and how often its verdicts are right.

    python benchmarks/bench_overhead.py [--repeats 100]

Three models are built: one of about 20 µs, one of about 200 µs, one of about 2 ms, on one thread.

- overhead: edgekit's median / the median of a bare `session.run` loop on the same session, in turns; 1.00 is none.
- same file twice: verdicts other than NO DIFFERENCE. 10 % more work: verdicts that say so.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.bench import Plan, Verdict, compare_latency, interleave
from edgekit.bench.compare import runner
from edgekit.ort import Session

WIDTHS = {"20 µs": 16, "200 µs": 160, "2 ms": 500}
LAYERS = 20


def build(path: Path, width: int, layers: int) -> Path:
    """A chain of square MatMul and Relu, (1, width) in and out."""
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
    shape = [1, width]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "chain", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def bare_median_ms(session: Session, feeds: dict[str, np.ndarray], seconds: float) -> float:
    """The median of the loop that anybody writes."""
    taken, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        session.raw.run(None, feeds)
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def overhead(path: Path, rounds: int = 20) -> tuple[float, float]:
    """(median latency in ms, edgekit / bare), the two loops in turns."""
    session = Session(path, threads=1)
    feeds = {"x": np.ones(session.inputs[0].shape, np.float32)}
    plan = Plan(min_seconds=0.1, min_runs=10, warmup_seconds=0.1)
    ours, bare = [], []
    for _ in range(rounds):
        ours.append(float(np.median(interleave({"m": runner(session, feeds)}, plan)["m"].ms)))
        bare.append(bare_median_ms(session, feeds, 0.1))
    return statistics.median(ours), statistics.median(a / b for a, b in zip(ours, bare, strict=True))


def verdicts(before: Path, after: Path, repeats: int) -> Counter[Verdict]:
    """Verdicts of many comparisons, each with new sessions."""
    return Counter(compare_latency(before, after, threads=1, seconds=0.5).verdict for _ in range(repeats))


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20, help="comparisons for each verdict count")
    repeats = parser.parse_args().repeats
    print("| model | median ms | edgekit / bare loop | same file: not NO DIFFERENCE | 10 % more work: SLOWER |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        for name, width in WIDTHS.items():
            model = build(Path(directory) / f"{width}.onnx", width, LAYERS)
            more = build(Path(directory) / f"{width}-more.onnx", width, LAYERS * 11 // 10)
            ms, ratio = overhead(model)
            same = verdicts(model, model, repeats)
            slower = verdicts(model, more, repeats)
            wrong = repeats - same[Verdict.NO_DIFFERENCE]
            print(f"| {name} | {ms:.3f} | {ratio:.3f} | {wrong} of {repeats} | {slower[Verdict.SLOWER]} of {repeats} |")


if __name__ == "__main__":
    main()
