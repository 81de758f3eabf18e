from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import RecipeError
from edgekit.recipe.source import MAX_BYTES, MAX_DEPTH, read_recipe


def refusal(path: Path) -> str:
    with pytest.raises(RecipeError) as error:
        read_recipe(path)
    return str(error.value)


def written(directory: Path, content: str | bytes) -> Path:
    path = directory / "r.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "no.yaml"
    assert refusal(path) == f"recipe {path} is not there; `edgekit list recipes` names those that come with edgekit"


def test_directory_is_no_recipe(tmp_path: Path) -> None:
    assert "is not there" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n", "---\n"])
def test_empty(tmp_path: Path, text: str) -> None:
    assert "is empty; it needs at least `name`, `family` and `data`" in refusal(written(tmp_path, text))


def test_ten_megabytes_are_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    with path.open("wb") as file:
        file.truncate(10_000_000)
    assert f"has 10,000,000 bytes; at most {MAX_BYTES:,} are read" in refusal(path)


def test_alias_bomb_names_its_line(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    path = written(tmp_path, "\n".join(lines))
    assert refusal(path) == f"{path}:2: aliases (*a) are not allowed; write the value out"


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['touch owned']", "!!python/name:os.system", "!x 1"])
def test_python_tag_is_refused_and_not_run(tmp_path: Path, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, f"name: a\nfamily: {tag}\n")
    message = refusal(path)
    assert message.startswith(f"{path}:2: ")
    assert "tag" in message
    assert [p.name for p in tmp_path.iterdir()] == ["r.yaml"]


@pytest.mark.parametrize("opening", ["[", "{a: "])
def test_depth_bomb(tmp_path: Path, opening: str) -> None:
    path = written(tmp_path, "name: a\nvariants: " + opening * 5000)
    assert refusal(path) == f"{path}:2: nested deeper than {MAX_DEPTH} levels"


def test_depth_bomb_in_block_style(tmp_path: Path) -> None:
    path = written(tmp_path, "\n".join(f"{' ' * i}k:" for i in range(600)))
    assert refusal(path) == f"{path}:{MAX_DEPTH + 1}: nested deeper than {MAX_DEPTH} levels"


def test_not_utf8(tmp_path: Path) -> None:
    path = written(tmp_path, b"name: caf\xe9\n")
    assert refusal(path) == f"recipe {path} is not UTF-8 text (byte 9); save it as UTF-8"


def test_control_characters(tmp_path: Path) -> None:
    assert str(tmp_path / "r.yaml") in refusal(written(tmp_path, "name: \x00\n"))


def test_duplicate_key(tmp_path: Path) -> None:
    path = written(tmp_path, "name: a\nfamily: cnn\nfamily: mlp\n")
    assert refusal(path) == f'{path}:3: found duplicate key "family"'


def test_broken_yaml_names_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "name: a\ntrain: {epochs: 3\ndata: digits\n")
    assert refusal(path).startswith(f"{path}:3: ")


@pytest.mark.parametrize(("text", "what"), [("- a\n- b\n", "list"), ("hello\n", "str"), ("3\n", "int")])
def test_not_a_mapping(tmp_path: Path, text: str, what: str) -> None:
    assert f"is a {what}; it must be a mapping of keys" in refusal(written(tmp_path, text))


def test_two_documents(tmp_path: Path) -> None:
    path = written(tmp_path, "name: a\n---\nname: b\n")
    assert refusal(path).startswith(f"{path}:")


def test_yaml_1_2_scalars_keep_their_types(tmp_path: Path) -> None:
    data = read_recipe(written(tmp_path, "a: no\nb: 1e-3\nc: 010\nd: true\n")).data
    assert data == {"a": "no", "b": 1e-3, "c": 10, "d": True}


def test_places_are_those_of_the_file(tmp_path: Path) -> None:
    source = read_recipe(written(tmp_path, "name: a\n\ntrain:\n  epochs: 3\nbench: {providers:\n  [cpu,\n   cuda]}\n"))
    path = source.name
    assert source.place(("train", "epochs")) == f"{path}:4"
    assert source.place(("bench", "providers", 1)) == f"{path}:7"
    assert source.place(("train", "nothing", "such")) == f"{path}:3"


def test_set_changes_adds_and_reaches_into_lists(tmp_path: Path) -> None:
    source = read_recipe(written(tmp_path, "name: a\nvariants:\n  v: [{quantize: static}]\n"))
    for assignment in ("name=b", "train.epochs=3", "variants.v.0.quantize=weights", "bench.batch=[1, 8]", "size=no"):
        source.set(assignment)
    assert source.data == {
        "name": "b",
        "train": {"epochs": 3},
        "variants": {"v": [{"quantize": "weights"}]},
        "bench": {"batch": [1, 8]},
        "size": "no",
    }
    assert source.place(("train", "epochs")) == "--set train.epochs"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.epochs", "--set train.epochs: got no `path=value`; write it as --set train.epochs=3"),
        ("=3", "--set =3: got no `path=value`; write it as --set train.epochs=3"),
        ("train..epochs=3", "--set train..epochs=3: got no `path=value`; write it as --set train.epochs=3"),
        ("name.x=3", "--set name.x: name has no entry 'x'"),
        ("name.x.y=3", "--set name.x.y: name has no entry 'x'"),
        ("variants.v.7.quantize=static", "--set variants.v.7.quantize: variants.v has no entry '7'"),
        ("variants.v.7=1", "--set variants.v.7: variants.v has no entry '7'"),
        ("bench=[1", "--set bench:1: "),
        ("bench=&a [*a]", "--set bench:1: aliases (*a) are not allowed; write the value out"),
    ],
)
def test_bad_set(tmp_path: Path, assignment: str, message: str) -> None:
    source = read_recipe(written(tmp_path, "name: a\nvariants:\n  v: [{quantize: static}]\n"))
    with pytest.raises(RecipeError) as error:
        source.set(assignment)
    assert str(error.value).startswith(message)
