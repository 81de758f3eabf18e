"""Whether a provider works here: what a child process that runs a tiny model says of it, and what the loader said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.errors import ModelError
from edgekit.ort.child import ask_child

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
        answer = ask_child("edgekit.ort.tiny_run", question, f"provider {name}", timeout_s=_TIMEOUT_S)
    except ModelError as error:  # it crashed or hung
        return Trial(False, str(error), "")
    return Trial(answer["works"], answer["reason"], answer["stderr"])
