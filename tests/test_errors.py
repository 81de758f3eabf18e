from __future__ import annotations

import re

from edgekit import errors
from edgekit.errors import EdgekitError, ProviderError, brief, unknown


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__
    drawn = set(re.findall(r"\w+Error", errors.__doc__))
    there = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, EdgekitError)
    }
    assert drawn == there


def test_exit_codes() -> None:
    assert EdgekitError.exit_code == 1
    assert ProviderError.exit_code == 3
    assert {e.exit_code for e in EdgekitError.__subclasses__()} == {1, 3}


def test_unknown_without_a_near_name() -> None:
    assert unknown("family", "xyzzy", ["mlp", "cnn"]) == "unknown family 'xyzzy'; allowed: cnn, mlp"


def test_unknown_of_something_that_is_no_text() -> None:
    assert unknown("family", 3, ["mlp"]) == "unknown family '3'; allowed: mlp"


def test_errors_of_other_packages_are_told_in_one_short_line() -> None:
    assert brief(ValueError("one\n  two")) == "one two"
    assert brief(ValueError("a" * 500)) == "a" * 300
    assert brief(KeyError(), 5) == "KeyError"
