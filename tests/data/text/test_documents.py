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
        ("a.csv", b"label,text\nham\n", "a.csv:2: the row has 1 fields, and the first line names 2; put a text with"),
        ("a.csv", b"text,label\na,ham\nb,c,ham\n", "a.csv:3: the row has 3 fields, and the first line names 2"),
        ("a.csv", b'text\na\n"never closed\nb\nc\n', "a.csv:5: unexpected end of data"),
        ("a.csv", b"text,text\na,b\n", "a.csv:1: column 'text' is there 2 times; give each a name of its own"),
        ("a.csv", b"body;kind\na;b\n", "name the right one as `text`; a .csv parts columns by commas, a .tsv by tabs"),
        ("a.csv", b"text\na\0b\n", "is no UTF-8 text: byte 6 is 0x00, as in UTF-16 and in files of programs; save it"),
        ("a.txt", "some text".encode("utf-16"), "for example with: iconv -f UTF-16 -t UTF-8"),
        ("a.txt", "some text".encode("utf-16-le"), "byte 1 is 0x00, as in UTF-16"),
        ("a.jsonl", b'{"text": NaN}\n', "a.jsonl:1: is no JSON (NaN is no value of it); a .jsonl holds one object"),
        ("a.jsonl", b'{"text": "a \\ud83d"}\n', "a.jsonl:1: column 'text' holds half a character ('\\ud83d')"),
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


def test_an_empty_class(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,ham\n ,\nb, \n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a.csv:4: column 'label' is empty; fill the class in or remove the row"):
        read_documents(path, config(path, label="label"))


def test_as_many_classes_as_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "\n".join(f"text {i},mail-{i:02}" for i in range(20)), encoding="utf-8")
    with pytest.raises(DataError, match=r"has 20 texts and as many classes, such as 'mail-00'; name a column whose"):
        read_documents(path, config(path, label="label"))


def test_quotes_of_a_tsv_are_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\nsay "hi" now\tham\nbye\tspam\n', encoding="utf-8")
    assert read_documents(path, config(path, label="label")).texts == ('say "hi" now', "bye")


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
