"""Measure one file on a task, in a process of its own: `measure.py WHAT TASK FOLDER MODEL.onnx [SECONDS]`.

WHAT is `score` or `latency`. Prints one JSON line. ONNX Runtime on the CPU, one thread, batch 1.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from tasks import TASKS, Array, Feeds, Task, load_arrays

_WARM_UP = 3
_RESAMPLES = 400


def open_session(model: Path) -> Any:
    """A session of one thread on the CPU."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def outputs_of(task: Task, model: Path, data: Feeds) -> Array:
    """What is kept of the first output of every test sample."""
    session = open_session(model)
    return np.stack([task.keep(session.run(None, feeds)[0].astype(np.float32), feeds) for feeds in task.samples(data)])


def original_outputs(task: Task, folder: Path, data: Feeds) -> Array:
    """The fp32 model's outputs, kept beside it until either file changes."""
    model, kept = folder / "model.onnx", folder / "fp32_outputs.npy"
    newest = max(model.stat().st_mtime, (folder / "eval.npz").stat().st_mtime)
    if kept.exists() and kept.stat().st_mtime > newest:
        return np.asarray(np.load(kept))
    outputs = outputs_of(task, model, data)
    np.save(kept, outputs)
    return outputs


def score(task: Task, folder: Path, model: Path) -> dict[str, Any]:
    """Size, metric on the test data, and agreement with the fp32 model."""
    data = load_arrays(folder / "eval.npz")
    original = original_outputs(task, folder, data)
    outputs = original if model.samefile(folder / "model.onnx") else outputs_of(task, model, data)
    found = task.score(outputs, original, data)
    sizes = {"size_bytes": size_bytes(model), "fp32_bytes": size_bytes(folder / "model.onnx")}
    return {"score": asdict(found), **sizes}


def size_bytes(model: Path) -> int:
    """Of a file and of the external data that it refers to."""
    import onnx

    weights = onnx.load(model, load_external_data=False).graph.initializer
    beside = {entry.value for weight in weights for entry in weight.external_data if entry.key == "location"}
    return sum(path.stat().st_size for path in (model, *(model.parent / name for name in beside)))


def latency(task: Task, folder: Path, model: Path, seconds: float) -> dict[str, Any]:
    """The model and fp32 in turns, for each of the task's timed inputs."""
    sessions = open_session(folder / "model.onnx"), open_session(model)
    sample = {name: array[:1] for name, array in load_arrays(folder / "calib.npz").items()}
    return {"latency": {name: time_pair(*sessions, select(sample), seconds, task.pairs) for name, select in task.timed}}


def time_pair(fp32: Any, other: Any, feeds: Feeds, seconds: float, pairs: int) -> dict[str, Any]:
    """Interleaved runs: fp32, other, fp32, other, ..., for 2 * seconds, longer where that is too few pairs."""
    for session in (fp32, other):
        for _ in range(_WARM_UP):
            session.run(None, feeds)
    taken: list[tuple[float, float]] = []
    start = now = perf_counter()
    while now - start < 2 * seconds or (len(taken) < pairs and now - start < 4 * seconds):
        before = perf_counter()
        fp32.run(None, feeds)
        between = perf_counter()
        other.run(None, feeds)
        now = perf_counter()
        taken.append((between - before, now - between))
    return summarise(1e3 * np.array(taken))


def summarise(ms: Array) -> dict[str, Any]:
    """Medians and their ratio with its 95 % bootstrap interval; ms (pairs, 2)."""
    fp32_ms, other_ms = np.median(ms, axis=0)
    rng = np.random.default_rng(0)
    drawn = [np.median(ms[rng.integers(len(ms), size=len(ms))], axis=0) for _ in range(_RESAMPLES)]
    low, high = np.quantile([other / fp32 for fp32, other in drawn], [0.025, 0.975])
    return {
        "fp32_ms": float(fp32_ms),
        "ms": float(other_ms),
        "ratio": float(other_ms / fp32_ms),
        "ci95": [float(low), float(high)],
        "pairs": len(ms),
    }


def main() -> None:
    """Print one JSON line."""
    what, name, folder, model, *seconds = sys.argv[1:]
    task = TASKS[name]
    if what == "score":
        print(json.dumps(score(task, Path(folder), Path(model))))
    else:
        print(json.dumps(latency(task, Path(folder), Path(model), float(seconds[0]) if seconds else task.seconds)))


if __name__ == "__main__":
    main()
