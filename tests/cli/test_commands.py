from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.families import FAMILIES

Cli = Callable[..., Any]
Tree = Callable[[Path], dict[str, str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Labelled data that the linear model gets right in three of four cases."""
    path = tmp_path / "data" / "d.npz"
    path.parent.mkdir()
    rng = np.random.default_rng(5)
    images = rng.standard_normal((40, 1, 8, 8)).astype(np.float32)
    weight = np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
    labels = (images.reshape(40, 64) @ weight).argmax(1)
    labels[::4] = (labels[::4] + 1) % 10
    np.savez(path, image=images, labels=labels)
    return path


@pytest.mark.parametrize("args", [["--help"], ["quantize", "--help"], ["--version"]])
def test_help_and_version(cli: Cli, args: list[str]) -> None:
    answer = cli(*args)
    assert answer.code == 0
    assert answer.err == ""
    assert "edgekit" in answer.out


@pytest.mark.parametrize(
    "args",
    [
        ["nothing"],
        ["eval"],
        ["eval", "m.onnx"],
        ["quantize", "m.onnx"],
        ["bench", "m.onnx", "--batch", "one"],
        ["train", "cnn", "--data", "digits", "--out", "o", "--epochs", "0"],
        ["quantize", "m.onnx", "--out", "q.onnx", "--max-drop", "-1"],
        ["run", "digits-cnn", "--no-such-flag"],
    ],
)
def test_wrong_usage_is_exit_2(cli: Cli, args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = cli(*args)
    assert answer.code == 2
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert list(tmp_path.iterdir()) == []


def test_every_command_refuses_a_model_that_is_not_there_in_one_line(cli: Cli, tmp_path: Path, data: Path) -> None:
    model, out = tmp_path / "no.onnx", tmp_path / "o.onnx"
    for args in (
        ["eval", model, "--data", data],
        ["bench", model],
        ["inspect", model],
        ["quantize", model, "--out", out],
        ["export", model, "--out", out],
    ):
        answer = cli(*args)
        assert (answer.code, answer.out) == (1, ""), args
        assert answer.err.splitlines()[-1] == f"error: model {model} is not there; give the path of an .onnx file", args
    assert not out.exists()


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"\xff" * 64], ids=["empty", "HTML", "garbage"])
def test_every_command_refuses_what_is_no_model(cli: Cli, tmp_path: Path, data: Path, content: bytes) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(content)
    out = tmp_path / "o.onnx"
    for args in (
        ["eval", model, "--data", data],
        ["bench", model],
        ["inspect", model],
        ["quantize", model, "--out", out],
        ["export", model, "--out", out],
    ):
        answer = cli(*args)
        assert (answer.code, answer.out) == (1, ""), args
        assert answer.err.startswith(f"error: model {model} "), args
        assert len(answer.err.splitlines()) == 1
    assert not out.exists()
    assert model.read_bytes() == content


def test_the_output_is_never_the_input(cli: Cli, dense_onnx: Path, tmp_path: Path, tree: Tree) -> None:
    (tmp_path / "link.onnx").symlink_to(dense_onnx)
    before = tree(tmp_path)
    for command in ("quantize", "export"):
        for out in (dense_onnx, tmp_path / "link.onnx"):
            answer = cli(command, dense_onnx, "--out", out)
            assert answer.code == 1
            assert answer.err.startswith(f"error: output {out} is the input {dense_onnx}; edgekit never overwrites ")
    assert tree(tmp_path) == before


def test_outputs_that_cannot_be_written(cli: Cli, dense_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for command in ("quantize", "export"):
        answer = cli(command, dense_onnx, "--out", tmp_path / "file" / "q.onnx")
        assert answer.code == 1
        assert answer.err.startswith("error: cannot write ")
        assert cli(command, dense_onnx, "--out", tmp_path).err == (
            f"error: cannot write {tmp_path}: it is a directory; name a file\n"
        )
    assert (tmp_path / "file").read_text() == "kept"


def test_eval_of_a_foreign_file(cli: Cli, dense_onnx: Path, data: Path) -> None:
    answer = cli("eval", dense_onnx, "--data", data, "--json")
    assert (answer.code, answer.err) == (0, "")
    metric = answer.json()["metric"]
    assert (metric["name"], metric["value"], metric["n"], metric["proxy"]) == ("top1", 0.75, 40, False)
    people = cli("eval", dense_onnx, "--data", data)
    assert people.out.replace("\n", " ").startswith(f"{dense_onnx}: top1 0.7500 [")


def test_eval_of_a_checkpoint_and_its_export_agree(cli: Cli, pico_cnn: Path, pico_onnx: Path) -> None:
    torch_value, onnx_value = (
        cli("eval", model, "--data", "digits", "--json").json()["metric"] for model in (pico_cnn, pico_onnx)
    )
    assert torch_value == onnx_value
    assert torch_value["n"] == 360


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--data", "digit"], "error: unknown data 'digit'; did you mean 'digits'?"),
        (["--data", "no.npz"], "error: data no.npz is not there; give an .npz or the name of a data set"),
        (["--metric", "top2"], "error: unknown metric 'top2'; did you mean 'top1'?"),
        (["--metric", "perplexity"], "error: metric 'perplexity' needs outputs of shape (n, length, vocabulary)"),
    ],
)
def test_eval_refuses(cli: Cli, dense_onnx: Path, data: Path, change: list[str], message: str) -> None:
    answer = cli("eval", dense_onnx, "--data", data, *change)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(message)


def test_eval_without_labels(cli: Cli, dense_onnx: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "u.npz", image=np.ones((3, 1, 8, 8), np.float32))
    answer = cli("eval", dense_onnx, "--data", tmp_path / "u.npz")
    assert answer.code == 1
    assert answer.err.endswith("has no labels, and metric 'top1' needs them; add an array `labels`\n")


def test_a_provider_that_is_not_there_is_exit_3(cli: Cli, dense_onnx: Path, data: Path) -> None:
    answer = cli("eval", dense_onnx, "--data", data, "--provider", "qnn")
    assert (answer.code, answer.out) == (3, "")
    assert answer.err == ("error: provider 'qnn' is not in the installed ONNX Runtime; it comes with onnxruntime-qnn\n")
    assert cli("bench", dense_onnx, "--provider", "qnn").code == 3
    assert cli("bench", dense_onnx, "--provider", "cpuu").code == 3


def test_bench_of_foreign_files(cli: Cli, dense_onnx: Path) -> None:
    args = ["bench", dense_onnx, "--batch", 1, "--batch", 4, "--threads", 1, "--min-seconds", 0.05]
    answer = cli(*args, "--json")
    assert (answer.code, answer.err) == (0, "")
    rows = answer.json()["rows"]
    assert [(r["batch"], r["provider"], r["providers_used"]) for r in rows] == [
        (1, "cpu", ["CPUExecutionProvider"]),
        (4, "cpu", ["CPUExecutionProvider"]),
    ]
    assert all(r["latency_ms"]["p50"] > 0 and r["size_bytes"] == dense_onnx.stat().st_size for r in rows)
    assert "steady latency on " in cli(*args).out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--shape", "image"], "error: --shape image: got no name=AxBxC of whole numbers above 0"),
        (["--shape", "image=1x0x8x8"], "error: --shape image=1x0x8x8: got no name=AxBxC"),
        (["--shape", "picture=1x1x8x8"], "error: --shape names unknown inputs picture; the model has image: float32"),
        (["--shape", "image=1x1x8x9"], "error: shape 1x1x8x9 does not fit input image: float32 batchx1x8x8"),
        (["--batch", "0"], "error: "),
        (["--threads", "0"], "error: "),
        (["--min-seconds", "-1"], "error: "),
    ],
)
def test_bench_refuses(cli: Cli, dense_onnx: Path, args: list[str], message: str) -> None:
    answer = cli("bench", dense_onnx, *args)
    assert answer.code in (1, 2)
    assert answer.out == ""
    if answer.code == 1:
        assert answer.err.startswith("error: ")
        assert message.removeprefix("error: ") in answer.err


def test_quantize_of_a_foreign_file(cli: Cli, pico_onnx: Path, tmp_path: Path) -> None:
    from edgekit.data import load_split

    split = load_split("digits", "calibration")
    np.savez(tmp_path / "c.npz", **split.arrays)
    before = pico_onnx.read_bytes()
    answer = cli("quantize", pico_onnx, "--out", tmp_path / "q.onnx", "--method", "static", "--threads", 1,
                 "--calibration", tmp_path / "c.npz", "--json")  # fmt: skip
    assert (answer.code, answer.err) == (0, "")
    result = answer.json()
    assert result["status"] == "ok"
    assert result["method"] == "static"
    assert result["size_bytes"]["before"] == pico_onnx.stat().st_size
    assert result["size_bytes"]["after"] == (tmp_path / "q.onnx").stat().st_size
    assert result["metric"]["proxy"] is True
    assert result["metric"]["after"] > 0.9
    assert result["latency_ms"]["speedup"] > 0
    assert {"reason", "excluded_nodes", "seconds", "peak_rss_bytes"} <= set(result)
    assert pico_onnx.read_bytes() == before
    made, given = onnx.load(tmp_path / "q.onnx"), onnx.load(pico_onnx)
    assert [i.name for i in made.graph.input] == [i.name for i in given.graph.input]
    assert [o.name for o in made.graph.output] == [o.name for o in given.graph.output]
    assert {p.key: p.value for p in given.metadata_props}.items() <= {
        p.key: p.value for p in made.metadata_props
    }.items()


def test_a_floor_that_is_missed_is_exit_3_and_the_answer_is_given_all_the_same(
    cli: Cli, pico_onnx: Path, tmp_path: Path
) -> None:
    """Ranges from data that is far too dark: everything above them is cut off."""
    from edgekit.data import load_split

    judged = load_split("digits", "validation")
    np.savez(tmp_path / "e.npz", labels=judged.labels, **judged.arrays)
    np.savez(tmp_path / "c.npz", image=judged.arrays["image"][:16] * np.float32(0.01))
    args = ["--method", "static", "--threads", 1, "--calibration", tmp_path / "c.npz", "--eval", tmp_path / "e.npz"]
    answer = cli("quantize", pico_onnx, "--out", tmp_path / "q.onnx", *args, "--max-drop", 0.01, "--json")
    assert answer.code == 3
    result = answer.json()
    assert result["floor_met"] is False
    assert result["metric"]["drop"] > 0.01
    assert "more than --max-drop 0.01" in answer.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--method", "statik"], "error: unknown method 'statik'; did you mean 'static'? allowed: auto, "),
        (["--target", "gpu"], "error: unknown target 'gpu';"),
        (["--method", "static"], "error: static quantisation observes activations on calibration data; give"),
        (["--calibration", "no.npz"], "error: data no.npz is not there"),
    ],
)
def test_quantize_refuses(cli: Cli, dense_onnx: Path, tmp_path: Path, args: list[str], message: str) -> None:
    out = tmp_path / "out" / "q.onnx"
    answer = cli("quantize", dense_onnx, "--out", out, "--quiet", *args)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(message)
    assert not out.exists()


def test_quantize_refuses_weights_that_are_not_finite(cli: Cli, dense_proto: onnx.ModelProto, tmp_path: Path) -> None:
    from onnx import numpy_helper

    dense_proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((64, 10), np.nan, np.float32), "weight"))
    onnx.save(dense_proto, tmp_path / "m.onnx")
    answer = cli("quantize", tmp_path / "m.onnx", "--out", tmp_path / "q.onnx")
    assert answer.code == 1
    assert "weight 'weight' holds 640 values that are NaN or Inf (of 640)" in answer.err
    assert not (tmp_path / "q.onnx").exists()


def test_inspect_of_a_foreign_file(cli: Cli, dense_onnx: Path) -> None:
    answer = cli("inspect", dense_onnx, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.json()
    assert "dense" in cli("inspect", dense_onnx).out.lower()


@pytest.mark.parametrize("what", ["families", "techniques", "providers", "data", "recipes", "metrics"])
def test_lists(cli: Cli, what: str) -> None:
    answer = cli("list", what, "--json")
    assert (answer.code, answer.err) == (0, "")
    rows = answer.json()
    assert rows
    assert rows[0]["name"] in cli("list", what).out


def test_a_list_that_is_not_there(cli: Cli) -> None:
    answer = cli("list", "familys")
    assert answer.code == 1
    assert answer.err.startswith("error: unknown list 'familys'; did you mean 'families'? allowed: ")


def test_schema_is_json(cli: Cli) -> None:
    for args in (["schema"], ["schema", "--json"]):
        answer = cli(*args)
        assert (answer.code, answer.err) == (0, "")
        assert answer.json()["title"] == "Recipe"


def test_train_says_what_it_reached(cli: Cli, tmp_path: Path) -> None:
    args = [
        "train",
        "mlp",
        "--size",
        "pico",
        "--data",
        "digits",
        "--epochs",
        2,
        "--batch-size",
        64,
        "--out",
        tmp_path / "o",
    ]
    answer = cli(*args, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.json()["validation"]["value"] > 0.3
    assert answer.json()["card"]["family"] == "mlp"
    assert cli(*args).code == 0


def test_train_refuses(cli: Cli, tmp_path: Path) -> None:
    answer = cli("train", "cn", "--data", "digits", "--out", tmp_path / "o")
    assert (answer.code, answer.out) == (1, "")
    allowed = ", ".join(sorted(FAMILIES))
    assert answer.err == f"error: unknown family 'cn'; did you mean 'cnn'? allowed: {allowed}\n"
    assert not (tmp_path / "o").exists()


def test_export_says_how_it_went(cli: Cli, pico_cnn: Path, tmp_path: Path) -> None:
    answer = cli("export", pico_cnn, "--out", tmp_path / "m.onnx", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.json()["parity"]["max_abs"] < 1e-4


def test_run_reports_every_mistake_of_a_recipe_on_a_line_of_its_own(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: a\nfamily: cn\ndata: digit\n")
    answer = cli("run", path, "--out", tmp_path / "out")
    assert (answer.code, answer.out) == (1, "")
    lines = answer.err.splitlines()
    assert [line.partition(": ")[2].partition(": ")[0] for line in lines] == [f"{path}:2", f"{path}:3"]
    assert not (tmp_path / "out").exists()


def test_debug_shows_the_traceback(process: Callable[..., Any], tmp_path: Path) -> None:
    answer = process("eval", tmp_path / "no.onnx", "--data", "digits", "--debug")
    assert answer.code == 1
    assert "Traceback (most recent call last)" in answer.err
    assert "ModelError: model" in answer.err
    plain = process("eval", tmp_path / "no.onnx", "--data", "digits")
    assert "Traceback" not in plain.err
    assert json.dumps(plain.err).count("\\n") == 1


def test_a_method_asked_for_by_name_that_gains_nothing_is_no(cli: Cli, tmp_path: Path) -> None:
    from tests.search.models import elementwise

    model, out = elementwise(tmp_path / "m.onnx"), tmp_path / "q.onnx"
    answer = cli("quantize", model, "--out", out, "--method", "weights", "--json")
    assert answer.code == 3
    assert "method 'weights' could not be had" in answer.err
    assert json.loads(answer.out)["status"] == "unchanged"
    assert out.read_bytes() == model.read_bytes()
    assert cli("quantize", model, "--out", out, "--json").code == 0


@pytest.mark.parametrize(
    ("shape", "label", "message"),
    [
        ((1, 8, 9), 0, "shape (5, 1, 8, 9) does not fit image: float32 batchx1x8x8; dimension 3 must be 8\n"),
        ((3, 8, 8), 0, "shape (5, 3, 8, 8) does not fit image: float32 batchx1x8x8; dimension 1 must be 1\n"),
        ((1, 8, 8), 10, "labels must lie in 0..9 for 10 classes, got 10 (5 of 5 are no class); mend them or take "),
        ((1, 8, 8), 0.5, "labels must lie in 0..9 for 10 classes, got 0.5 (5 of 5 are no class); mend them or take "),
    ],
)
def test_eval_of_a_checkpoint_on_data_of_another_model(
    cli: Cli, pico_cnn: Path, tmp_path: Path, shape: tuple[int, ...], label: float, message: str
) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, image=np.zeros((5, *shape), np.float32), labels=np.full(5, label))
    answer = cli("eval", pico_cnn, "--data", path)
    assert (answer.code, answer.out) == (1, "")
    assert message in answer.err
    assert answer.err.count("\n") == 1
