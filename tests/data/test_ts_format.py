from __future__ import annotations

import numpy as np
import pytest

from edgekit.data.ts_format import read_ts
from edgekit.errors import DataError

HEAD = "#a comment\n@problemName Small\n@classLabel true up down\n@data\n"


def read(text: str) -> None:
    read_ts(text.encode(), "small.ts")


def test_series_of_different_lengths() -> None:
    found = read_ts((HEAD + "1,2,3:4,5,6.5:down\n\n7,8:9,-1e1:up\n").encode(), "small.ts")
    assert found.classes == ("up", "down")
    assert found.labels.tolist() == [1, 0]
    assert [s.shape for s in found.series] == [(3, 2), (2, 2)]
    np.testing.assert_array_equal(found.series[0], np.float32([[1, 4], [2, 5], [3, 6.5]]))
    assert found.series[1][1].tolist() == [8, -10]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html>", "small.ts is no .ts file: it has no line @data; give a file of labelled series"),
        ("", "small.ts is no .ts file: it has no line @data; give a file of labelled series"),
        (HEAD, "small.ts has no series behind @data; give a file with at least one"),
        ("@classLabel false\n@data\n1:up", "small.ts has no classes: its line @classLabel must be `true` and their"),
        ("@data\n1:up", "small.ts has no classes: "),
        (HEAD + "1,2:3,4:left", "small.ts, line 5: 'left' is no class; the file declares up, down"),
        (HEAD + "1,2", "small.ts, line 5: '1,2' is no class"),
        (HEAD + "1,2:3:up", "small.ts, line 5: channels of one series must have one length, got 2, 1"),
        (HEAD + "up", "small.ts, line 5: channels of one series must have one length, got none"),
        (HEAD + "1,?:up", "small.ts, line 5: a value is missing or is no number; fill or remove the series"),
        (HEAD + "1,:up", "small.ts, line 5: a value is missing or is no number; fill or remove the series"),
        (HEAD + "1,nan:up", "small.ts, line 5: the series holds NaN or Inf; fill or remove it"),
        (HEAD + "1,1e99:up", "small.ts, line 5: the series holds NaN or Inf; fill or remove it"),
        (HEAD + "1:up\n1:2:up", "small.ts: series differ in their number of channels"),
    ],
)
def test_what_is_no_such_file(text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        read(text)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(DataError, match=r"^small.ts is no text: byte 1 is no UTF-8; give a \.ts file$"):
        read_ts(b"@\xff\x00", "small.ts")
