"""Every error that edgekit raises for a reason the user can act on.

    EdgekitError              exit code 1
    ├── RecipeError           a recipe that cannot be read, or says what cannot be done
    ├── DataError             a data set that is missing, empty, of the wrong shape, or not finite
    ├── ModelError            a model file that cannot be used
    ├── TrainingError         training that cannot start, or failed
    │   └── DivergenceError   training whose loss or outputs are no longer finite
    ├── ExportError           a model that does not export, or whose export differs from torch
    ├── CompressError         a compression step that cannot be applied
    ├── OutputError           an output path that cannot be written
    ├── BusyError             a directory that another edgekit is using
    ├── MissingPackageError   an optional package that this command needs
    ├── BundleError           a bundle that cannot be packed, is damaged, or does not run here
    ├── InputError            an input that a model does not take
    ├── OverloadError         a queue of inputs that is full
    └── ProviderError         exit code 3: an execution provider that was asked for and is not there

A message is one line: what, what was got, what is allowed or nearest, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class EdgekitError(Exception):
    """Base of all errors that the command line prints as one line."""

    exit_code: ClassVar[int] = 1


class RecipeError(EdgekitError):
    """A recipe that cannot be read, or that says what cannot be done; one line for each mistake."""


class DataError(EdgekitError):
    """A data set that is missing, empty, of the wrong shape, or not finite."""


class ModelError(EdgekitError):
    """A model file that cannot be used."""


class TrainingError(EdgekitError):
    """Training that cannot start, or failed."""


class DivergenceError(TrainingError):
    """Training whose loss or outputs are no longer finite."""


class ExportError(EdgekitError):
    """A model that does not export, or whose export differs from torch."""


class CompressError(EdgekitError):
    """A compression step that cannot be applied."""


class OutputError(EdgekitError):
    """An output path that cannot be written."""


class BusyError(EdgekitError):
    """A directory that another edgekit process is using."""


class MissingPackageError(EdgekitError):
    """An optional package that this command needs; the message holds the line that installs it."""


class BundleError(EdgekitError):
    """A bundle that cannot be packed, is damaged, or that this machine cannot run."""


class InputError(EdgekitError):
    """An input that a model does not take."""


class OverloadError(EdgekitError):
    """A queue of inputs that is full; try again later."""


class ProviderError(EdgekitError):
    """An execution provider that was asked for and is not there."""

    exit_code: ClassVar[int] = 3


def unknown(kind: str, got: object, allowed: Iterable[str], *, of: str = "") -> str:
    """Say that a name is unknown, which name is nearest, and which are allowed.

    >>> unknown("family", "cn", ["mlp", "cnn"])
    "unknown family 'cn'; did you mean 'cnn'? allowed: cnn, mlp"
    >>> unknown("size", "big", ["small"], of="family 'cnn'")
    "unknown size 'big' of family 'cnn'; allowed: small"
    """
    import difflib  # not needed where nothing is wrong

    names = sorted(allowed)
    near = difflib.get_close_matches(str(got), names, n=1, cutoff=0.5)
    hint = f" did you mean {near[0]!r}?" if near else ""
    whose = f" of {of}" if of else ""
    return f"unknown {kind} {str(got)!r}{whose};{hint} allowed: {', '.join(names)}"


def brief(error: BaseException, most: int = 300) -> str:
    """What an error of another package says, on one line of so many characters; its kind where it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__
