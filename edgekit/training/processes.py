"""Trainings of several processes, on one machine or many.

Lightning starts the others by running the same command again, each with its number in the environment. Such a helper
goes through the command up to the end of training and no further: only the first process locks and writes the output,
talks to people, and goes on after training.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from edgekit import progress
from edgekit.errors import DivergenceError, EdgekitError, TrainingError, brief
from edgekit.files import locked, make_directory
from edgekit.training.config import TrainConfig

if TYPE_CHECKING:
    import lightning.pytorch as pl

_SAID = "EDGEKIT_HELPERS_SAID"  # where helpers that Lightning started leave their last words
_GRACE_S = 5.0  # for a process to end by itself
_LOOK_S = 0.5  # between two looks at the helpers


def is_first() -> bool:
    """Whether this is the process that leads, by what launchers (torchrun, SLURM, Lightning) put in the environment."""
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return os.environ[name] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("NODE_RANK", "GROUP_RANK", "LOCAL_RANK"))


def helps(config: TrainConfig) -> bool:
    """Whether this process only helps another one to train."""
    return config.has_several_processes and not is_first()


@contextmanager
def held(out: Path, config: TrainConfig) -> Iterator[None]:
    """Hold an output directory for this process; a helper leaves it to the first one, and is silent."""
    if helps(config):
        progress.set_quiet(True)
        yield
        return
    with locked(out):
        yield


@contextmanager
def team(config: TrainConfig, work: Path) -> Iterator[None]:
    """Train in here; the error of any process ends all of them, and the first one tells it.

    Args:
        config: Of the training.
        work: Its directory.

    Raises:
        TrainingError: what a helper ended with.
        SystemExit: in a helper, when training is over: what follows is for the first process.
    """
    if not config.has_several_processes:
        yield
    elif is_first():
        _require_a_command(config)
        said = make_directory(work / "helpers")
        with _leading(said), _watching(said):
            yield
    else:
        with _helping():
            yield


def end_helpers(trainer: pl.Trainer) -> None:
    """After an error: see the helpers of this machine end, and end those that do not."""
    watched: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
    helpers = list(watched)
    watched.clear()  # what becomes of them concerns nobody any more
    for helper in helpers:
        try:
            helper.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            helper.kill()
            helper.wait()


def _require_a_command(config: TrainConfig) -> None:
    if any(word in config.strategy for word in ("spawn", "fork", "notebook")):
        raise TrainingError(
            f"strategy {config.strategy!r} trains in copies of this process, and what they find is lost; use ddp"
        )
    if not sys.argv or sys.argv[0] in ("", "-c"):
        raise TrainingError(
            "training in several processes runs the same command again, and `python -c` cannot be; use `edgekit` or a "
            "script"
        )


@contextmanager
def _leading(said: Path) -> Iterator[None]:
    before = dict(os.environ)
    os.environ[_SAID] = str(said.resolve())
    try:
        yield
    except (EdgekitError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise _told_by_helpers(said) or TrainingError(
            f"training in several processes failed: {brief(error)}"
        ) from error
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(said, ignore_errors=True)


@contextmanager
def _watching(said: Path) -> Iterator[None]:
    """Watch the helpers that Lightning starts in here, in the place of its own observer.

    That one looks every five seconds, and kills this process too when a helper has failed: who is told of the failure
    by a lost connection has until the next look to say why, and who waits in a collective operation never says it.
    """
    from lightning.pytorch.strategies.launchers import subprocess_script

    usual, over = subprocess_script._launch_process_observer, threading.Event()

    def observe(helpers: list[subprocess.Popen[bytes]]) -> None:
        threading.Thread(target=_observe, args=(helpers, said, over), name="helpers", daemon=True).start()

    subprocess_script._launch_process_observer = observe
    try:
        yield
    finally:
        over.set()
        subprocess_script._launch_process_observer = usual


def _observe(helpers: list[subprocess.Popen[bytes]], said: Path, over: threading.Event) -> None:
    """Wait for a helper to fail; if this process then does not end training itself, end it with the reason."""
    while not over.wait(_LOOK_S):
        failed = next((helper for helper in list(helpers) if helper.poll()), None)
        if failed is None and not list(said.glob("*.json")):
            continue
        if over.wait(_GRACE_S) or not helpers:
            return
        for helper in helpers:
            helper.kill()
        code = f" with exit code {failed.returncode}" if failed else ""
        error = _told_by_helpers(said) or f"training in several processes failed: a process of it ended{code}"
        shutil.rmtree(said, ignore_errors=True)
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(TrainingError.exit_code)


def _told_by_helpers(said: Path) -> TrainingError | None:
    """The first of the errors that helpers left, those that are no mere consequence before the others."""
    words = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(said.glob("*.json"))]
    words.sort(key=lambda w: not w["ours"])
    if not words:
        return None
    kind = DivergenceError if words[0]["diverged"] else TrainingError
    return kind(words[0]["message"] if words[0]["ours"] else f"a process of the training failed: {words[0]['message']}")


@contextmanager
def _helping() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _leave()
    except Exception as error:
        if _SAID not in os.environ:
            raise
        _leave_word(error)
        _leave()
    _leave()


def _leave_word(error: Exception) -> None:
    content = {
        "ours": isinstance(error, EdgekitError),
        "diverged": isinstance(error, DivergenceError),
        "message": brief(error, 1000),
    }
    path = Path(os.environ[_SAID]) / f"{os.getpid()}.json"
    if path.parent.is_dir():
        path.write_text(json.dumps(content), encoding="utf-8")


def _leave() -> NoReturn:
    """End without a word: what there is to say, the first process says."""
    raise SystemExit(0)
