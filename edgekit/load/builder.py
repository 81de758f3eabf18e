"""A model that the user's own code builds."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgekit.errors import ModelError, brief

if TYPE_CHECKING:
    from torch import nn

_HOW = "write it as package.module:function or file.py:function"


@dataclass(frozen=True)
class Builder:
    """A function or class of the user that gives a torch module. Its code runs, because the user named it.

    Attributes:
        reference: "package.module:function", "package.module:Class.method" or "file.py:function".
        arguments: Keyword arguments.
        directory: Where modules and files are looked for first.
    """

    reference: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    directory: Path = Path()

    @property
    def name(self) -> str:
        """The reference without the machine's directories, as files that leave it hold it."""
        place, _, function = self.reference.rpartition(":")
        return f"{Path(place).name}:{function}" if place.endswith(".py") else self.reference

    def build(self) -> nn.Module:
        """Call it.

        Raises:
            ModelError: if it is not there, fails, or gives no torch module.
        """
        from torch import nn

        with users_code(self.directory):
            made = _calling(f"builder {self.reference}", lambda: self._function()(**self.arguments))
        if not isinstance(made, nn.Module):
            raise ModelError(f"builder {self.reference} gave a {type(made).__name__}; it must return a torch.nn.Module")
        return made

    def _function(self) -> Callable[..., Any]:
        place, colon, name = self.reference.rpartition(":")
        if not colon or not place or not name:
            raise ModelError(f"builder {self.reference!r} names no function; {_HOW}")
        found: Any = self._file(place) if place.endswith(".py") else self._module(place)
        for part in name.split("."):
            if not hasattr(found, part):
                near = difflib.get_close_matches(part, [n for n in dir(found) if not n.startswith("_")], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ModelError(f"builder {self.reference}: {place} has no {part!r}{hint}")
            found = getattr(found, part)
        if not callable(found):
            raise ModelError(f"builder {self.reference} is a {type(found).__name__}, not a function or class; {_HOW}")
        return found  # type: ignore[no-any-return]

    def _module(self, name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(f"{error.name}.")):
                raise ModelError(
                    f"builder {self.reference}: there is no module {error.name!r} in {self.directory.resolve()} or "
                    "among the installed packages; install it, or go to the directory that holds it"
                ) from error
            raise

    def _file(self, place: str) -> ModuleType:
        path = self.directory / place
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise ModelError(f"builder {self.reference}: {path} is not there; {_HOW}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@contextmanager
def users_code(directory: Path) -> Iterator[None]:
    """While code of the user runs: its imports are found, and what it prints is not mistaken for our answer."""
    before = list(sys.path)
    sys.path.insert(0, str(directory.resolve()))
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path[:] = before


def _calling(what: str, call: Callable[[], Any]) -> Any:
    """Call what is not ours; whatever it raises becomes one line that says where."""
    try:
        return call()
    except ModelError:
        raise
    except Exception as error:  # anybody's code, hence any error
        frame = traceback.extract_tb(error.__traceback__)[-1]
        said = brief(error, 200)
        raise ModelError(
            f"{what} failed: {type(error).__name__}: {said} ({Path(frame.filename).name}:{frame.lineno})"
        ) from error
