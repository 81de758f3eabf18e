"""Quantisers side by side on six tasks: accuracy, size, latency, time and memory, one table.

python benchmarks/quantizers/run.py prepare [TASK or ENVIRONMENT ...]
python benchmarks/quantizers/run.py run --task T1 --candidates fp32,edgekit,ort_static_u8 --out results.jsonl
python benchmarks/quantizers/run.py table results.jsonl
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
from baselines import CANDIDATES, FP32, names_for
from packages import ENVIRONMENTS, PACKAGES, Place, fetch, make_environment
from process import Limits, checked_cpu, default_cpu, run_step
from table import Row, read_rows, render, render_brief
from tasks import TASKS

from edgekit.errors import unknown
from edgekit.machine import facts

HERE = Path(__file__).resolve().parent
_DEFAULT_ENVIRONMENTS = ("prep", "ort")
_NEEDS = {"T1c": "T1b"}
_VERSIONS_OF = ("edgekit", "onnxruntime", "onnxruntime-gpu", "onnx", "nncf")
_ASK_VERSIONS = """
import json, sys
from importlib import metadata
there = {d.metadata["Name"]: d.version for d in metadata.distributions()}
print(json.dumps({name: there[name] for name in sys.argv[1:] if name in there}))
"""


@dataclass(frozen=True)
class Plan:
    """What every row of one command shares.

    Attributes:
        place: Where tasks and environments are.
        limits: Of each step.
        seconds: Least measuring time of one of a pair; None means the task's own.
        options: More words for edgekit's command line.
        keep: Whether produced files stay.
        command: What was typed.
    """

    place: Place
    limits: Limits
    seconds: float | None
    options: tuple[str, ...]
    keep: bool
    command: str


def prepare(place: Place, names: list[str]) -> None:
    """Make environments and build tasks that are not there yet."""
    names = names or [*_DEFAULT_ENVIRONMENTS, *TASKS]
    for name in names:
        if name in ENVIRONMENTS:
            make_environment(name, place)
        elif name in TASKS:
            build(name, place)
        else:
            raise SystemExit(f"error: {unknown('task or environment', name, [*TASKS, *ENVIRONMENTS])}")


def build(task: str, place: Place) -> None:
    """Fetch what a task is made from, then make it in one piece."""
    folder = place.tasks / task
    if folder.exists():
        print(f"{task} is in {folder}", file=sys.stderr)
        return
    if task in _NEEDS:
        build(_NEEDS[task], place)
    for package in PACKAGES[task]:
        fetch(package, place)
    make_environment("prep", place)
    staging = folder.with_name(f"{task}.part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    command = words(place.python("prep"), HERE / "build.py", task, place.data, staging)
    if code := subprocess.run(command).returncode:
        raise SystemExit(f"error: building {task} ended with {code}; what it said is above")
    staging.rename(folder)


def words(*parts: str | Path) -> list[str]:
    """A command line."""
    return [str(part) for part in parts]


def measure_candidate(plan: Plan, task: str, name: str) -> Row:
    """One row: quantise, then score and time what came out."""
    row: Row = {"task": task, "candidate": name, "date": time.strftime("%Y-%m-%d"), "command": plan.command}
    row |= {"machine": facts(), "cpu": plan.limits.cpu, "load_average": os.getloadavg()[0]}
    environment = CANDIDATES[name].environment if name != FP32 else "edgekit"
    row["environment"] = environment
    if not plan.place.has(environment):
        return row | {"versions": {}, "failed": f"not prepared: run.py prepare {environment}"}
    row["versions"] = versions(plan.place.python(environment))
    work = plan.place.root / "work" / task / name
    shutil.rmtree(work, ignore_errors=True)
    (work / "scratch").mkdir(parents=True)
    model = plan.place.tasks / task / "model.onnx"
    if name != FP32:
        row |= quantize(plan, task, name, work)
        model = work / "model.onnx"
    if "failed" not in row:
        row |= measure(plan, "score", task, model, work)
    if "failed" not in row:
        row |= measure(plan, "latency", task, model, work)
    if not plan.keep:
        shutil.rmtree(work / "scratch")
        (work / "model.onnx").unlink(missing_ok=True)
    return row


def quantize(plan: Plan, task: str, name: str, work: Path) -> Row:
    """Run a quantiser on a copy of the model."""
    folder, out = plan.place.tasks / task, work / "model.onnx"
    copy = Path(shutil.copy(folder / "model.onnx", work / "scratch"))
    python = plan.place.python(CANDIDATES[name].environment)
    options = plan.options if CANDIDATES[name].environment == "edgekit" else ()
    command = words(python, HERE / "baselines.py", name, task, copy, folder, out, *options)
    ended = run_step(command, work / "quantize", plan.limits, work / "scratch")
    row: Row = {"quantize": {"seconds": ended.seconds, "peak_rss_bytes": ended.peak_rss_bytes}}
    row["rewrote_input"] = not (copy.exists() and filecmp.cmp(copy, folder / "model.onnx", shallow=False))
    if ended.reason or not out.exists():
        return row | {"failed": ended.reason or "it ended with 0 but wrote nothing"}
    return row | _chosen_method(ended.said)


def _chosen_method(said: str) -> Row:
    """What edgekit decided on, from its JSON; nothing for the others."""
    if not said.lstrip().startswith("{"):
        return {}
    report = json.loads(said)
    return {"method": f"{report['status']}, {report['method']}"}


def measure(plan: Plan, what: str, task: str, model: Path, work: Path) -> Row:
    """Score or time a file in a process of its own."""
    seconds = [] if plan.seconds is None else [str(plan.seconds)]
    command = words(sys.executable, HERE / "measure.py", what, task, plan.place.tasks / task, model, *seconds)
    ended = run_step(command, work / what, plan.limits)
    if ended.reason:
        return {"failed": f"{what}: {ended.reason}"}
    found: Row = json.loads(ended.said.splitlines()[-1])
    return found


@cache
def versions(python: Path) -> dict[str, str]:
    """Of the packages that matter, in an environment."""
    command = [str(python), "-c", _ASK_VERSIONS, *_VERSIONS_OF]
    answer: dict[str, str] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return answer


def chosen_candidates(place: Place, task: str, wanted: str | None) -> list[str]:
    """The candidates that were named, or those made for the task whose environment is there."""
    allowed = names_for(TASKS[task])
    if wanted is None:
        found = [name for name in allowed if name == FP32 or _runs_by_default(name, place)]
    else:
        found = [name for name in wanted.split(",") if name]
    for name in found:
        if name not in allowed:
            raise SystemExit(f"error: {task}: {unknown('candidate', name, allowed)}")
    return found


def _runs_by_default(name: str, place: Place) -> bool:
    return CANDIDATES[name].default and place.has(CANDIDATES[name].environment)


def require_tasks(place: Place, tasks: list[str]) -> None:
    """Say at once what is missing, rather than after an hour."""
    for task in tasks:
        if not (place.tasks / task / "eval.npz").exists():
            hint = f"python benchmarks/quantizers/run.py prepare {task}"
            raise SystemExit(f"error: {task} is not in {place.tasks}; prepare it: {hint}")


def run(plan: Plan, tasks: list[str], wanted: str | None, out: Path) -> None:
    """Measure and append one JSON line a candidate."""
    names = {task: chosen_candidates(plan.place, task, wanted) for task in tasks}
    require_tasks(plan.place, tasks)
    for task, name in [(task, name) for task, found in names.items() for name in found]:
        print(f"{task} {name} …", file=sys.stderr, flush=True)
        row = measure_candidate(plan, task, name)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if "failed" in row:
            print(f"{task} {name}: {row['failed']}", file=sys.stderr, flush=True)


def default_root() -> Path:
    """$EDGEKIT_BENCH, or the user's cache directory."""
    return Path(os.environ.get("EDGEKIT_BENCH") or platformdirs.user_cache_path("edgekit") / "benchmarks").resolve()


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="verb", required=True)
    preparing = commands.add_parser("prepare", help="fetch packages, make environments, build tasks")
    preparing.add_argument("names", nargs="*", help="T1, T1b, T1c, T2, T3, T4, prep, ort, nncf; default: all but nncf")
    running = commands.add_parser("run", help="measure candidates")
    running.add_argument("--task", action="append", choices=TASKS, help="may be given several times; default: all")
    running.add_argument("--candidates", help="names with commas between; default: those that are prepared")
    running.add_argument("--out", type=Path, default=Path("results.jsonl"), help="rows are appended")
    running.add_argument("--cpu", type=int, default=default_cpu(), help="the core that every step is pinned to")
    running.add_argument("--timeout", type=float, default=600, help="seconds after which a step is killed")
    running.add_argument("--seconds", type=float, help="least measuring time of one of a pair")
    running.add_argument("--edgekit-options", default="", help="more words for `edgekit quantize`")
    running.add_argument("--keep", action="store_true", help="keep the produced files")
    for each in (preparing, running):
        each.add_argument("--tasks", type=Path, help="folder of the tasks; default: $EDGEKIT_BENCH/tasks")
        each.add_argument("--environments", type=Path, help="folder of virtual environments")
    showing = commands.add_parser("table", help="print Markdown")
    showing.add_argument("results", type=Path)
    showing.add_argument("--brief", action="store_true", help="one table for all tasks")
    return parser.parse_args(argv)


def place_of(asked: Any) -> Place:
    """Where things are, by the command line and the environment."""
    root = default_root()
    tasks, environments = asked.tasks or root / "tasks", asked.environments or root / "environments"
    return Place(root, tasks.resolve(), environments.resolve())


def main(argv: list[str] | None = None) -> None:
    """Run one command; Ctrl-C and SIGTERM end it with its children, and rows that were written stay."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        act(parse(argv), sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def act(asked: argparse.Namespace, typed: list[str]) -> None:
    """Do what was asked."""
    if asked.verb == "table":
        print((render_brief if asked.brief else render)(read_rows(asked.results)), end="")
    elif asked.verb == "prepare":
        prepare(place_of(asked), asked.names)
    else:
        command = shlex.join(["python", "benchmarks/quantizers/run.py", *typed])
        limits = Limits(checked_cpu(asked.cpu), asked.timeout)
        options = tuple(shlex.split(asked.edgekit_options))
        plan = Plan(place_of(asked), limits, asked.seconds, options, asked.keep, command)
        run(plan, asked.task or list(TASKS), asked.candidates, asked.out)


if __name__ == "__main__":
    main()
