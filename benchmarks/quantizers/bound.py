"""How fast int8 could be at best: what the convolutions alone take of fp32's time, on this CPU.

    python benchmarks/quantizers/bound.py [--tasks DIR] [--task T1 ...] [--cpu N]

Every addition is taken out of the network, and the branch beside it; that is another function, of no use, but no
placement of int8 nodes runs the network's convolutions faster. So the last column is a bound for every file whose
convolutions are ONNX Runtime's int8 kernels.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import onnx
from measure import open_session, time_pair
from run import default_root

from edgekit.compress import TECHNIQUES
from edgekit.compress.technique import OnnxStep
from edgekit.data import load_split
from edgekit.progress import set_quiet

_TASKS = ("T1", "T1b", "T1c")


def without_additions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each Add is its input that was computed last: the block, not what is added to it."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    made: dict[str, int] = {}
    instead: dict[str, str] = {}
    nodes = []
    for index, node in enumerate(model.graph.node):
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        kept.input[:] = [instead.get(name, name) for name in node.input]
        if node.op_type == "Add":
            instead[node.output[0]] = max(kept.input, key=lambda name: made.get(name, -1))
            continue
        nodes.append(kept)
        made.update(dict.fromkeys(node.output, index))
    del result.graph.node[:], result.graph.value_info[:]
    result.graph.node.extend(nodes)
    return result


def quantised(model: Path, calibration: Path, out: Path) -> Path:
    """Static int8 with the defaults."""
    technique = TECHNIQUES["quantize: static"]
    technique.apply(technique.config(), OnnxStep(model, out, load_split(str(calibration), "calibration")))
    return out


def measure(folder: Path, work: Path, seconds: float) -> tuple[float, float]:
    """Latency over fp32's: of the int8 network, and of the one without additions."""
    original, data = folder / "model.onnx", folder / "calib.npz"
    bare = work / "bare.onnx"
    onnx.save(without_additions(onnx.load(original)), bare)
    fp32 = open_session(original)
    feeds = {name: array[:1] for name, array in load_split(str(data), "calibration").arrays.items()}
    whole, bound = (
        time_pair(fp32, open_session(quantised(m, data, work / f"{m.stem}.int8.onnx")), feeds, seconds, 200)
        for m in (original, bare)
    )
    return whole["ratio"], bound["ratio"]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=Path, default=default_root() / "tasks")
    parser.add_argument("--task", action="append", choices=_TASKS)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=3.0)
    asked = parser.parse_args()
    os.sched_setaffinity(0, {asked.cpu})
    set_quiet(True)
    print("| task | int8 / fp32 | without additions |\n| --- | --- | --- |")
    for task in asked.task or _TASKS:
        with tempfile.TemporaryDirectory() as work:
            whole, bound = measure(asked.tasks / task, Path(work), asked.seconds)
        print(f"| {task} | {whole:.3f} | {bound:.3f} |", flush=True)


if __name__ == "__main__":
    main()
