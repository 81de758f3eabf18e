"""Other people's names of weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from edgekit.errors import ModelError, RecipeError
from edgekit.load import WeightMapping
from edgekit.load.match import load_into
from edgekit.recipe import read_mapping


def net() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Module()
    module.trunk = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    module.head = nn.Linear(4, 3)
    return module


def mismatch(weights: dict[str, torch.Tensor], **mapping: Any) -> list[str]:
    with pytest.raises(ModelError) as error:
        load_into(net(), weights, WeightMapping(**mapping), "w.pth", "net")
    return str(error.value).splitlines()


@pytest.fixture
def theirs() -> dict[str, torch.Tensor]:
    return {f"module.{k.replace('trunk', 'body.block')}": v + 1 for k, v in net().state_dict().items()}


RULES: dict[str, dict[str, Any]] = {
    "glob": {"strip": "module.", "rename": {"trunk.*": "body.block.*"}},
    "regex": {"rename": {r"trunk.\1": r"re:module\.body\.block\.(.+)", r"\1": r"re:module\.(head.*)"}},
    "single": {"strip": "module.", "rename": {"trunk.0.*": "body.block.0.*", "trunk.1.*": "body.block.1.*"}},
    "class": {"strip": "module.", "rename": {"trunk.*": "body.bloc[k-l].*"}},
}


@pytest.mark.parametrize("rule", RULES)
def test_renames(theirs: dict[str, torch.Tensor], rule: str) -> None:
    module, wanted = net(), net().state_dict()
    taken = load_into(module, theirs, WeightMapping(**RULES[rule]), "w.pth", "net")
    assert (taken.tensors, taken.left, taken.initial) == (9, (), ())
    for name, value in module.state_dict().items():
        assert torch.equal(value, wanted[name] + 1), name


def test_everything_that_does_not_fit_is_told_at_once(theirs: dict[str, torch.Tensor]) -> None:
    theirs["module.head.weight"] = torch.zeros(4, 3)
    del theirs["module.head.bias"]
    theirs["module.aux.weight"] = torch.zeros(7)
    said = mismatch(theirs, strip="module.", rename={"trunk.1.*": "body.block.1.*"})
    assert said == [
        "w.pth does not fit net: 3 missing, 3 extra, 1 of another shape, 9 wanted",
        "missing trunk.0.weight (4x1x3x3); nearest in the file: body.block.0.weight",
        "missing trunk.0.bias (4); nearest in the file: body.block.0.bias",
        "missing head.bias (3)",
        "extra body.block.0.weight (4x1x3x3)",
        "extra body.block.0.bias (4)",
        "extra aux.weight (7)",
        "shape of head.weight: got 4x3, it must be 3x4; turn it: transpose: {head.weight: [1, 0]}",
    ]


def test_a_prefix_that_all_names_have_is_told() -> None:
    said = mismatch({f"module.{k}": v for k, v in net().state_dict().items()})
    assert said[0].endswith("; every extra name starts with 'module.': --strip module.")


def test_nothing_is_changed_when_something_does_not_fit() -> None:
    module, before = net(), net().state_dict()
    weights = {k: v + 1 for k, v in before.items() if k != "head.bias"}
    with pytest.raises(ModelError, match=r"1 missing, 0 extra"):
        load_into(module, weights, WeightMapping(), "w.pth", "net")
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_what_is_deliberately_not_taken() -> None:
    weights = {k: v + 1 for k, v in net().state_dict().items() if not k.startswith("head")}
    weights["aux.weight"] = torch.zeros(7)
    module, before = net(), net().state_dict()
    mapping = WeightMapping(allow_missing=["head.*"], allow_extra=["aux.*"])
    taken = load_into(module, weights, mapping, "w.pth", "net")
    assert (taken.tensors, taken.left, taken.initial) == (7, ("aux.weight",), ("head.weight", "head.bias"))
    assert torch.equal(module.state_dict()["head.weight"], before["head.weight"])


def test_old_files_have_no_counts_of_batches() -> None:
    weights = {k: v for k, v in net().state_dict().items() if "num_batches" not in k}
    assert load_into(net(), weights, WeightMapping(), "w.pth", "net").tensors == 8


def test_transposed_matrices() -> None:
    weights = net().state_dict()
    weights["head.weight"] = torch.arange(12.0).reshape(4, 3)
    module = net()
    load_into(module, weights, WeightMapping(transpose={"head.*eight": [1, 0]}), "w.pth", "net")
    assert module.state_dict()["head.weight"][2, 1] == 5
    assert mismatch(weights, transpose={"head.bias": [1, 0]}) == [
        "w.pth: transpose [1, 0] of 'head.bias', which has 1 axes"
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    weights = net().state_dict()
    weights["head.bias"][1] = value
    assert mismatch(weights) == ["w.pth holds NaN or infinite values in head.bias; train again or take another file"]


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"strip": "model."}, "no name starts with 'model.', which `strip` names; its names begin trunk.0.weight"),
        ({"rename": {"trunk.*": "trnk.*"}}, "no name in the file matches 'trnk.*'"),
        ({"rename": {"trunk.0.bias": "trunk.0.weight"}}, "both 'trunk.0.weight' and 'trunk.0.bias' become"),
    ],
)
def test_rules_that_do_nothing_or_clash(mapping: dict[str, Any], said: str) -> None:
    assert said in mismatch(net().state_dict(), **mapping)[0]


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"rename": {"a.*.*": "b.*"}}, "need the same number of `*`"),
        ({"rename": {r"a.\2": "re:b(.)"}}, "takes group 2, but 're:b(.)' has 1"),
        ({"rename": {"a": "re:b("}}, "is no regular expression"),
        ({"transpose": {"a": [0, 2]}}, "is no order of 2 axes"),
        ({"renames": {}}, "Extra inputs are not permitted"),
    ],
)
def test_mappings_that_make_no_sense(mapping: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        WeightMapping(**mapping)
    assert said in str(error.value)


def test_a_mapping_file_and_flags(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text('strip: module.\nrename:\n  "trunk.*": "body.*"\nallow_extra: [aux.*]\n')
    found = read_mapping(path, {"rename": ["head.*=fc.*"], "allow_extra": ["ema.*"], "allow_missing": ["x"]})
    assert found == WeightMapping(
        strip="module.",
        rename={"trunk.*": "body.*", "head.*": "fc.*"},
        allow_extra=["aux.*", "ema.*"],
        allow_missing=["x"],
    )
    assert read_mapping(None, {}) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("renam: {a: b}\n", "map.yaml:1: unknown key 'renam'; did you mean 'rename'?"),
        ("strip: module.\nrename: {a: [b]}\n", "map.yaml:2: rename.a: Input should be a valid string"),
        ("", "is empty; it needs at least one of `strip` and `rename`"),
        ("- a\n", "is a list; it must be a mapping of keys such as `strip: module.`"),
        ("strip: *x\n", "aliases"),
    ],
)
def test_mapping_files_with_mistakes(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as error:
        read_mapping(path, {})
    assert said in str(error.value)


def test_a_mapping_that_is_not_there(tmp_path: Path, cli: Callable[..., Any]) -> None:
    answer = cli("export", "w.pth", "--family", "cnn", "--mapping", tmp_path / "m.yaml", "--out", tmp_path / "m.onnx")
    assert answer.code == 1
    assert answer.err == f"error: mapping {tmp_path / 'm.yaml'} is not there; give a YAML file\n"
