from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from edgekit.data.text.config import TextConfig
from edgekit.data.text.documents import read_documents
from edgekit.data.text.parse import parse_text
from edgekit.errors import DataError


def config(path: Path, **options: object) -> TextConfig:
    return TextConfig.model_validate({"file": str(path), **options})


def test_a_text_file_is_parted_by_empty_lines(novel: Path) -> None:
    found = read_documents(novel, config(novel))
    assert len(found) == 60
    assert found.labels is None
    assert found.texts[59].endswith(" 59.")


def test_another_separator_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n%\r\nthree\r\n%\r\n\r\n")
    assert read_documents(path, config(path, separator="\n%\n")).texts == ("one\ntwo", "three")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_tables_with_classes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mails{suffix}"
    rows = {
        ".csv": 'body,kind\n"one, ""two""\nthree",spam\nfour,ham\n   ,ham\n',
        ".tsv": 'body\tkind\n"one, ""two""\nthree"\tspam\nfour\tham\n',
        ".jsonl": '{"body": "one, \\"two\\"\\nthree", "kind": "spam"}\n\n{"kind": "ham", "body": "four", "n": 1}\n',
    }
    path.write_text(rows[suffix], encoding="utf-8")
    found = read_documents(path, config(path, text="body", label="kind"))
    assert found.texts == ('one, "two"\nthree', "four")
    assert found.classes == ("ham", "spam")
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]
    assert read_documents(path, config(path, text="body")).labels is None


def test_a_column_that_is_not_there(mails: Path) -> None:
    with pytest.raises(DataError) as error:
        read_documents(mails, config(mails, text="boby", label="kind"))
    assert str(error.value) == (
        f"{mails}:2: unknown column 'boby'; did you mean 'body'? allowed: body, kind; name the right one as `text`"
    )
    with pytest.raises(DataError, match=r"unknown column 'kid'; did you mean 'kind'\? .*name the right one as `label`"):
        read_documents(mails, config(mails, text="body", label="kid"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "holds no text; give a file with text in it"),
        ("a.txt", b" \n\n  \n", "holds no text"),
        ("a.csv", b"text,label\n", "holds no text"),
        ("a.txt", b"good\n\nK\xf6ln", "is no UTF-8 text: byte 7 is 0xf6 (invalid start byte); save it as UTF-8"),
        ("a.csv", b"text\nK\xf6ln\n", "is no UTF-8 text: byte 6 is 0xf6"),
        ("a.jsonl", b'{"text": 1}\n{"text": ', "a.jsonl:2: is no JSON ("),
        ("a.jsonl", b"[1]\n", "a.jsonl:1: got list; a .jsonl holds one object a line"),
        ("a.jsonl", b'{"text": null}\n', "a.jsonl:1: column 'text' holds None; it must hold text"),
        ("a.csv", b"label,text\nham\n", "a.csv:2: column 'text' holds None; it must hold text"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_documents(path, config(path))
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_field_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'text\n"' + b"x" * (1 << 24) + b'y"\n')
    with pytest.raises(DataError, match="field larger than field limit"):
        read_documents(path, config(path))


def test_one_class_only(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,ham\nb,ham\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"has one class only \(ham\); at least two are needed"):
        read_documents(path, config(path, label="label"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there; give a text file or the name of a data set"):
        read_documents(tmp_path / "no.txt", config(tmp_path / "no.txt"))


def test_exactly_one_place() -> None:
    for options in ({}, {"name": "fortunes", "file": "a.txt"}):
        with pytest.raises(ValidationError, match="give exactly one of `name`"):
            TextConfig.model_validate(options)
    with pytest.raises(ValidationError, match=r"file 'a.pdf' must end in one of \.txt, \.csv, \.tsv, \.jsonl"):
        TextConfig(file="a.pdf")


def test_a_recipes_mapping_as_an_argument() -> None:
    assert parse_text("{file: a.csv, text: body, length: 64}") == TextConfig(file="a.csv", text="body", length=64)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("{file: a.csv", "is no mapping in YAML"),
        ("{file: a.csv, lenght: 3}", "unknown key 'lenght'; did you mean 'length'?"),
        ("{file: a.csv, length: x}", "length: Input should be a valid integer"),
        ("{length: 3}", "data: give exactly one of `name`"),
    ],
)
def test_arguments_that_are_wrong(argument: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        parse_text(argument)
    assert message in str(error.value)
