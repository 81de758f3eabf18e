"""Whether a provider works here: a session and a run on a tiny model in a child process, and what the loader said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.errors import EdgekitError, ModelError
from edgekit.ort.child import answer_parent, ask_child

_TIMEOUT_S = 60.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"(?: \[E:onnxruntime\S* [^]]*\]|^EP Error) (.*)", re.MULTILINE)
_ORIGIN = re.compile(r"^/\S+:\d+ .*?\)\s+")  # source file, line and C++ signature, which tell a user nothing


@dataclass(frozen=True)
class Trial:
    """How it went.

    Attributes:
        reason: Why it did not work, in a line; "" where it did.
        log: What the loader and the provider printed.
    """

    works: bool
    reason: str
    log: str

    @property
    def complaint(self) -> str:
        """The first error of ONNX Runtime's log without its trimmings; "" where there is none."""
        found = _ERROR.search(_COLOUR.sub("", self.log))
        return _ORIGIN.sub("", found[1]).rsplit("] ", 1)[-1].strip()[:200] if found else ""


def try_provider(name: str, options: Mapping[str, str] | None = None) -> Trial:
    """Create a session on a provider, and run it.

    Args:
        name: Short name.
        options: Provider options, such as those of a device.
    """
    question = {"provider": name, "options": dict(options or {})}
    try:
        answer = ask_child("edgekit.ort.trial", question, f"provider {name}", timeout_s=_TIMEOUT_S)
    except ModelError as error:  # it crashed or hung
        return Trial(False, str(error), "")
    return Trial(answer["works"], answer["reason"], answer["stderr"])


def _work(question: dict[str, Any]) -> dict[str, Any]:
    """The child's part; the loader's complaints go to stderr."""
    import numpy as np

    from edgekit.ort.execution import Execution
    from edgekit.ort.session import Session

    try:
        # allowed to fall back, so that it does not ask for reasons in a child of its own
        execution = Execution(allow_fallback=True, options=question["options"])
        session = Session(tiny_model(), question["provider"], threads=1, execution=execution, log_severity=3)
        session.run({"x": np.ones(1, np.float32)})
    except EdgekitError as error:
        return {"works": False, "reason": str(error)}
    return {"works": not session.fell_back, "reason": "it did not load" if session.fell_back else ""}


def tiny_model() -> bytes:
    """A model that adds its input, float32 (1,), to itself."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "tiny", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    answer_parent(_work)
