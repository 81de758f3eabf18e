"""The first session of a file, in a child process with limits: a crash, a hang or a hoarder harms nobody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.ort.archive import archived, unarchived
from edgekit.ort.child import answer_parent, ask_child, limit_memory
from edgekit.specs import Feeds

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Probe:
    """What the child saw.

    Attributes:
        ran: Whether a run succeeded; False where no feeds were given and no guess of its inputs was accepted.
        finite: Whether every float output was finite.
        reason: Why it did not run, or "".
    """

    ran: bool
    finite: bool
    reason: str = ""


def probe_model(path: Path, feeds: Feeds | None = None, *, timeout_s: float = TIMEOUT_S) -> Probe:
    """Load a model and run it once, on one CPU thread, in a process of its own.

    Args:
        path: The model.
        feeds: Inputs to run; guessed from the model's specs where they are not given, or hold strings.
        timeout_s: After this the child is killed.

    Raises:
        ModelError: if it does not load, crashes, hangs, or fails on the feeds given.
    """
    given = feeds is not None and not any(v.dtype.hasobject for v in feeds.values())
    with archived(feeds if given else None) as archive:
        request = {"model": str(path.resolve()), "feeds": archive}
        answer = ask_child("edgekit.graph.probe", request, str(path), timeout_s=timeout_s)
    return Probe(answer["ran"], answer["finite"], answer["reason"])


def _work(request: dict[str, Any]) -> dict[str, Any]:
    """The child's side."""
    from edgekit.ort.session import Session

    limit_memory()
    session = Session(Path(request["model"]), threads=1)
    feeds = unarchived(request["feeds"])
    return _guess(session) if feeds is None else _answer(session.run(feeds))


def _guess(session: Any) -> dict[str, Any]:
    from edgekit.graph.feeds import generate_feeds, guessed_shapes

    reason = ""
    for shapes in guessed_shapes(session.inputs):
        try:
            return _answer(session.run(generate_feeds(session.inputs, shapes=shapes)))
        except (EdgekitError, TypeError) as error:
            reason = str(error)
    return {"ran": False, "finite": False, "reason": reason}


def _answer(outputs: list[Any]) -> dict[str, Any]:
    floats = [o for o in outputs if isinstance(o, np.ndarray) and o.dtype.kind == "f"]
    return {"ran": True, "finite": all(bool(np.isfinite(o).all()) for o in floats), "reason": ""}


if __name__ == "__main__":
    answer_parent(_work)
