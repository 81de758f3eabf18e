from __future__ import annotations

import pytest

from edgekit import progress


def test_track_yields_everything_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress.set_quiet(False)
    assert list(progress.track(range(5), "counting")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_track_is_lazy() -> None:
    items = progress.track(iter(range(10**9)), "counting", total=10**9)
    assert next(items) == 0


def test_notes_go_to_stderr_and_can_be_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    progress.set_quiet(False)
    progress.note("working")
    assert capsys.readouterr() == ("", "working\n")
    progress.set_quiet(True)
    progress.note("working")
    assert capsys.readouterr() == ("", "")
    assert progress.is_quiet()


def test_warnings_are_heard_also_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    progress.set_quiet(True)
    progress.warn("mind the gap")
    assert capsys.readouterr() == ("", "warning: mind the gap\n")


def test_text_with_brackets_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    progress.warn("data[0] and [1, 2] of /tmp/[x]/a.onnx")
    assert capsys.readouterr().err == "warning: data[0] and [1, 2] of /tmp/[x]/a.onnx\n"
