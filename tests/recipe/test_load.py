from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.compress import TECHNIQUES
from edgekit.errors import RecipeError
from edgekit.families import FAMILIES
from edgekit.recipe import find_recipe, list_recipes, load_recipe

GOOD = "name: a\nfamily: cnn\ndata: digits\n"
SIZES = ", ".join(sorted(FAMILIES["cnn"].sizes))


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., list[str]]:
    """The lines of the error that a recipe's text causes, without the directory."""

    def lines(text: str, *settings: str) -> list[str]:
        path = tmp_path / "r.yaml"
        path.write_text(text)
        with pytest.raises(RecipeError) as error:
            load_recipe(path, settings)
        assert path.read_text() == text
        return str(error.value).replace(f"{tmp_path}/", "").splitlines()

    return lines


def test_a_good_recipe_has_every_default_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD + "variants:\n  v: [{quantize: static}]\n")
    recipe = load_recipe(path, ["train.epochs=3", "bench.batch=[1, 8]"])
    assert (recipe.size, recipe.train.epochs, recipe.train.batch_size) == ("small", 3, 128)
    assert recipe.bench.batch == [1, 8]
    assert recipe.variants["v"][0].calibration.samples == 512
    assert recipe.accept is None


def test_missing_keys(refused: Callable[..., list[str]]) -> None:
    assert refused("family: cnn\n") == ["r.yaml:1: name: is missing; add it", "r.yaml:1: data: is missing; add it"]


def test_every_mistake_is_reported_at_once_in_the_order_of_the_file(refused: Callable[..., list[str]]) -> None:
    lines = refused(
        "name: A b\nfamily: cnn\nsize: pic\ndata: digit\n"
        "train:\n  epoch: 3\n  batch_size: big\nvariants:\n  v: [{quantize: statik}]\nbench: {batch: [0]}\nnamme: b\n"
    )
    assert [line.partition(": ")[0] for line in lines] == [f"r.yaml:{n}" for n in (1, 3, 4, 6, 7, 9, 10, 11)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("family: cn", "family: unknown family 'cn'; did you mean 'cnn'? allowed: bert, cnn, "),
        (
            "size: pic",
            f"size: unknown size 'pic' of family 'cnn'; did you mean 'pico'? allowed: {SIZES}",
        ),
        (
            "data: digit",
            "data: unknown data 'digit'; did you mean 'digits'? allowed: basic-motions, cmudict, diabetes, digits",
        ),
        ("bench: {providers: [cpuu]}", "bench.providers: unknown provider 'cpuu'; did you mean 'cpu'? allowed: coreml"),
        ("trane: {}", "trane: unknown key; did you mean 'train'? allowed: name, model, family, size, data"),
        ("train: {epoch: 3}", "train.epoch: unknown key; did you mean 'epochs'? allowed: epochs, batch_size"),
        ("bench: {batches: [1]}", "bench.batches: unknown key; did you mean 'batch'? allowed: providers, batch"),
        (
            "target: cpus",
            "target: input should be 'cpu', 'cpu-no-vnni', 'arm', 'cuda', 'tensorrt' or 'web', got 'cpus'",
        ),
        ("train: {epochs: 1.5}", "train.epochs: input should be a valid integer, got 1.5"),
        ("train: {epochs: '3'}", "train.epochs: input should be a valid integer, got '3'"),
        ("train: {epochs: 0}", "train.epochs: input should be greater than 0, got 0"),
        ("train: {learning_rate: .inf}", "train.learning_rate: input should be a finite number, got inf"),
        ("train: {learning_rate: .nan}", "train.learning_rate: input should be a finite number, got nan"),
        ("train: 3", "train: must be a mapping of keys, got 3"),
        ("bench: {batch: []}", "bench.batch: list should have at least 1 item after validation, not 0, got []"),
        ("bench: {min_seconds: .inf}", "bench.min_seconds: input should be a finite number, got inf"),
        ("accept: {max_drop: -1}", "accept.max_drop: input should be greater than or equal to 0, got -1"),
        ("accept: {}", "accept: asks for nothing; give at least one of max_drop, max_relative_drop, min_snr"),
        ("variants: [1]", "variants: input should be a valid dictionary, got [1]"),
    ],
)
def test_one_mistake(refused: Callable[..., list[str]], line: str, message: str) -> None:
    key = line.partition(":")[0]
    kept = [known for known in GOOD.splitlines() if not known.startswith(f"{key}:")]
    lines = refused("\n".join([*kept, line]) + "\n")
    assert len(lines) == 1
    assert lines[0].startswith(f"r.yaml:{len(kept) + 1}: {message}")


@pytest.mark.parametrize(
    ("steps", "where", "message"),
    [
        ("[{quantize: statik}]", "v[0]", "unknown technique 'quantize: statik'; did you mean 'quantize: static'?"),
        ("[{quantise: static}]", "v[0]", "got {'quantise': 'static'}; a step is a mapping with "),
        ("[{quantize: static}, 3]", "v[1]", "got 3; a step is a mapping with "),
        (
            "[{quantize: static, calibration: {sample: 3}}]",
            "v[0].calibration.sample",
            "unknown key; did you mean 'samples'? allowed: samples, method, percentile",
        ),
        ("[{quantize: static, per_chanel: true}]", "v[0].per_chanel", "unknown key; did you mean 'per_channel'?"),
        ("[{quantize: [static]}]", "v[0]", "unknown technique \"quantize: ['static']\""),
        ("{quantize: static}", "v", "input should be a valid list, got {'quantize': 'static'}"),
        ("[]", "v", "list should have at least 1 item after validation, not 0, got []"),
    ],
)
def test_wrong_steps(refused: Callable[..., list[str]], steps: str, where: str, message: str) -> None:
    lines = refused(GOOD + f"variants:\n  v: {steps}\n")
    assert len(lines) == 1
    assert lines[0].startswith(f"r.yaml:5: variants.{where}: {message}")


def test_two_variants_with_one_name(refused: Callable[..., list[str]]) -> None:
    lines = refused(GOOD + "variants:\n  v: [{quantize: static}]\n  v: [{quantize: weights}]\n")
    assert lines == ['r.yaml:6: found duplicate key "v"']


@pytest.mark.parametrize("name", ["base", "'X y'", "../up", "''"])
def test_names_that_a_variant_cannot_have(refused: Callable[..., list[str]], name: str) -> None:
    (line,) = refused(GOOD + f"variants:\n  {name}: [{{quantize: static}}]\n")
    plain = name.strip("'")
    assert line.startswith(f"r.yaml:4: variants: a variant cannot be called {plain!r}; use lower-case letters")


@pytest.mark.parametrize("name", ["../up", "A", "''", "a/b"])
def test_names_that_a_recipe_cannot_have(refused: Callable[..., list[str]], name: str) -> None:
    (line,) = refused(f"name: {name}\nfamily: cnn\ndata: digits\n")
    assert "must be lower-case letters, digits, '.', '_' and '-'" in line


def test_steps_that_a_family_refuses_are_all_named(
    refused: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    picky = dataclasses.replace(FAMILIES["cnn"], refuses={"quantize: weights": "it has none; use `quantize: static`"})
    monkeypatch.setitem(FAMILIES, "cnn", picky)
    lines = refused(GOOD + "variants:\n  v: [{quantize: static}, {quantize: weights}]\n  w:\n  - {quantize: weights}\n")
    why = "family 'cnn' refuses `quantize: weights`: it has none; use `quantize: static`"
    assert lines == [f"r.yaml:5: variants.v[1]: {why}", f"r.yaml:7: variants.w[0]: {why}"]


@pytest.mark.skipif("quantize: dynamic" not in TECHNIQUES, reason="this edgekit has no technique `quantize: dynamic`")
def test_cnn_refuses_dynamic_quantisation(refused: Callable[..., list[str]]) -> None:
    (line,) = refused(GOOD + "variants:\n  v: [{quantize: dynamic}]\n")
    assert line.startswith("r.yaml:5: variants.v[0]: family 'cnn' refuses `quantize: dynamic`: ")
    assert line.endswith("use `quantize: static`")


def test_set_names_itself_when_its_value_is_wrong(refused: Callable[..., list[str]]) -> None:
    lines = refused(GOOD, "train.epochs=0", "size=huge")
    assert sorted(lines) == [
        f"--set size: size: unknown size 'huge' of family 'cnn'; allowed: {SIZES}",
        "--set train.epochs: train.epochs: input should be greater than 0, got 0",
    ]


def test_unknown_recipe_name_gives_the_nearest() -> None:
    with pytest.raises(
        RecipeError, match=r"unknown recipe 'digits-cn'; did you mean 'digits-cnn'\? allowed: .*path of"
    ):
        find_recipe(Path("digits-cn"))


def test_recipes_are_found_by_name() -> None:
    assert find_recipe(Path("digits-cnn")) == list_recipes()["digits-cnn"]


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_that_comes_with_edgekit_loads(name: str) -> None:
    path = list_recipes()[name]
    recipe = load_recipe(path)
    assert recipe.name == name
    assert recipe.variants
    assert path.read_text().startswith("# yaml-language-server: $schema=")


PRUNE, QUANTIZE = "{prune: channels, ratio: 0.5}", "{quantize: static}"


def test_an_order_of_steps_that_makes_no_sense_is_refused_with_its_line(refused: Callable[..., list[str]]) -> None:
    assert refused(GOOD + f"variants:\n  a: [{PRUNE}, {QUANTIZE}]\n  b:\n    - {QUANTIZE}\n    - {PRUNE}\n") == [
        "r.yaml:8: variants.b[1]: `prune: channels` trains the torch model and cannot follow `quantize: static`, which "
        "works on the exported file; put it before"
    ]


def test_steps_on_the_torch_model_need_one(refused: Callable[..., list[str]]) -> None:
    assert refused(f"name: a\nmodel: {{onnx: m.onnx}}\ndata: digits\nvariants:\n  a: [{PRUNE}]\n") == [
        "r.yaml:5: variants.a[0]: `prune: channels` needs the torch model, and an ONNX file is loaded; leave it out"
    ]


def test_a_model_that_is_cut_in_its_export_is_not_trained_on(refused: Callable[..., list[str]]) -> None:
    text = "name: a\nfamily: gpt\ndata: fortunes\nexport: {max_length: 8}\n"
    (line,) = refused(text + f"variants:\n  a: [{PRUNE}]\n")
    assert line.startswith("r.yaml:6: variants.a[0]: `prune: channels` trains the whole model, and `export` cuts some")


def test_a_family_without_heads_refuses_to_lose_some(refused: Callable[..., list[str]]) -> None:
    steps = "[{prune: heads, ratio: 0.5}, {prune: layers, left: 1}]"
    heads, layers = refused(GOOD + f"variants:\n  a: {steps}\n")
    where = "r.yaml:5: variants.a[{}]: family 'cnn' refuses `prune: {}`: it has no "
    assert heads == where.format(0, "heads") + "attention heads; use `prune: channels`"
    assert layers == where.format(1, "layers") + "residual blocks that could be left out; use `prune: channels`"


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            "{prune: magnitude, ratio: 0.5, ramp: 9}",
            "a schedule of 9 epochs is longer than the training of 3; shorten it",
        ),
        ("{prune: nm, pattern: 4}", "pattern: input should be a valid string, got 4"),
        ("{prune: channels}", "needs exactly one of ratio, macs, parameters, latency as its goal, got none"),
        ("{prune: channels, ratio: 1.5}", "ratio: input should be less than 1, got 1.5"),
        ("{prune: channels, ratio: 0}", "ratio: input should be greater than 0, got 0"),
        ("{prune: chanels, ratio: 0.5}", "unknown technique 'prune: chanels'; did you mean 'prune: channels'?"),
        (
            "{prune: vocabulary}",
            "write `export: {trim_vocabulary: true}` in a recipe of a loaded model, or run edgekit",
        ),
        ("{prune: channels, ratoi: 0.5}", "ratoi: unknown key; did you mean 'ratio'?"),
        ("{prune: channels, ratio: 0.5, finetune: {epoch: 1}}", "unknown key; did you mean 'epochs'?"),
    ],
)
def test_mistakes_of_a_pruning_step(step: str, said: str, refused: Callable[..., list[str]]) -> None:
    (line,) = [line for line in refused(GOOD + f"variants:\n  a: [{step}]\n") if said in line]
    assert line.startswith("r.yaml:5: variants.a[0]")
