"""A session and a run on a tiny model: the smallest thing that a provider has to manage."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.ort.child import answer_parent
from edgekit.ort.execution import Execution
from edgekit.ort.session import Session


def _tiny_model() -> bytes:
    """A model that adds its input, float32 (1,), to itself."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "tiny", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return bytes(model.SerializeToString())


def run_tiny(provider: str, execution: Execution | None = None, *, log_severity: int = 4) -> Session:
    """The session that has run it once.

    Raises:
        ProviderError: as `Session` does.
        ModelError: if the run fails.
    """
    session = Session(_tiny_model(), provider, threads=1, execution=execution, log_severity=log_severity)
    session.run({"x": np.ones(1, np.float32)})
    return session


def _work(question: dict[str, Any]) -> dict[str, Any]:
    """The loader's complaints go to stderr."""
    try:
        # allowed to fall back, so that it does not ask for reasons in a child of its own
        execution = Execution(allow_fallback=True, options=question["options"])
        fell_back = run_tiny(question["provider"], execution, log_severity=3).fell_back
    except EdgekitError as error:
        return {"works": False, "reason": str(error)}
    return {"works": not fell_back, "reason": "it did not load" if fell_back else ""}


if __name__ == "__main__":
    answer_parent(_work)
