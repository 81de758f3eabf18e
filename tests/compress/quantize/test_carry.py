from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit.compress.quantize.blockwise import Blocks, Grid
from edgekit.compress.quantize.carry import Layer, carry_over, read_layers, store_layers
from edgekit.errors import CompressError
from edgekit.graph.normalise import normalise
from edgekit.specs import Array
from tests.compress.quantize.nets import Net, normal, run, snr_db

VOCABULARY, WIDTH = 128, 64


def random_blocks(rng: np.random.Generator, rows: int, columns: int, grid: Grid) -> Blocks:
    count = -(-columns // grid.block)
    codes = rng.integers(0, grid.top + 1, (rows, count, grid.block)).astype(np.uint8)
    scale = rng.uniform(0.01, 0.02, (rows, count)).astype(np.float16).astype(np.float32)
    return Blocks(codes, scale, rng.integers(0, grid.top + 1, (rows, count)).astype(np.float32), columns)


def normed(gain: Array | None = None) -> tuple[onnx.ModelProto, list[Array]]:
    """A normalisation and two products that read it; with their weights as torch has them."""
    rng = np.random.default_rng(0)
    net, weights = Net(x=("batch", WIDTH)), [normal(rng, WIDTH, WIDTH), normal(rng, 32, WIDTH)]
    value = net.add("LayerNormalization", "x", np.ones(WIDTH, np.float32), normal(rng, WIDTH))
    first = net.add("MatMul", value, np.ascontiguousarray(weights[0].T))
    second = net.add("Gemm", value, weights[1], normal(rng, 32), transB=1)
    return normalise(net.model(first, second)), weights


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_scales_and_zero_points_arrive_as_they_are(bits: int) -> None:
    rng, grid = np.random.default_rng(1), Grid(bits, 32)
    model, weights = normed()
    layers = [Layer(f"layer{i}", w, random_blocks(rng, *w.shape, grid), grid) for i, w in enumerate(weights)]
    feeds = {"x": rng.standard_normal((5, WIDTH)).astype(np.float32)}
    hidden = run(exposing(model), feeds)[-1]
    bias = next(numpy_helper.to_array(i) for i in model.graph.initializer if list(i.dims) == [32])
    assert store_layers(model, layers) == []
    wanted = [hidden @ layers[0].blocks.values.T, hidden @ layers[1].blocks.values.T + bias]
    for expected, got in zip(wanted, run(model, feeds), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
    assert [n.op_type for n in model.graph.node].count("MatMulNBits") == 2
    assert not [i for i in model.graph.initializer if list(i.dims) in ([WIDTH, WIDTH], [32, WIDTH])]


def exposing(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    copied.graph.output.append(onnx.ValueInfoProto(name=model.graph.node[0].output[0]))
    return copied


@pytest.mark.parametrize("shared", [True, False])
def test_factors_of_inputs_go_into_the_normalisation_or_a_multiplication(shared: bool) -> None:
    rng, grid = np.random.default_rng(1), Grid(4, 32)
    model, weights = normed()
    factors = [rng.uniform(0.5, 2, WIDTH).astype(np.float32) for _ in weights]
    layers = [
        Layer(f"layer{i}", w, random_blocks(rng, *w.shape, grid), grid, factors[0 if shared else i])
        for i, w in enumerate(weights)
    ]
    feeds = {"x": rng.standard_normal((5, WIDTH)).astype(np.float32)}
    hidden = run(exposing(model), feeds)[-1]
    store_layers(model, layers)
    expected = (hidden * factors[0]) @ layers[0].blocks.values.T
    np.testing.assert_allclose(run(model, feeds)[0], expected, atol=1e-4 * np.abs(expected).max())
    assert [n.op_type for n in model.graph.node].count("Mul") - count_scales(model) == (0 if shared else 2)


def count_scales(model: onnx.ModelProto) -> int:
    """Mul nodes that make scales of blocks when a session loads."""
    casts = {n.output[0] for n in model.graph.node if n.op_type == "Cast"}
    return sum(n.op_type == "Mul" and n.input[0] in casts for n in model.graph.node)


def test_layers_that_the_export_does_not_have_are_named() -> None:
    model, weights = normed()
    rng, grid = np.random.default_rng(1), Grid(4, 32)
    layers = [
        Layer("there", weights[0], random_blocks(rng, WIDTH, WIDTH, grid), grid),
        Layer("elsewhere", weights[0] + 1, random_blocks(rng, WIDTH, WIDTH, grid), grid),
    ]
    assert store_layers(model, layers) == ["elsewhere"]


def test_one_weight_quantised_in_two_ways_is_refused() -> None:
    model, weights = normed()
    rng, grid = np.random.default_rng(1), Grid(4, 32)
    layers = [Layer(n, weights[0], random_blocks(rng, WIDTH, WIDTH, grid), grid) for n in ("a", "b")]
    with pytest.raises(CompressError, match="'a' and 'b' share one float weight"):
        store_layers(model, layers)


class INCWeightOnlyLinear:
    """What `read_layers` looks at."""

    def __init__(self, **numbers: Any) -> None:
        self.__dict__.update({"bits": 4, "group_size": 32, "in_features": 64, "dtype": "int", "g_idx": None, **numbers})


def module_of(layer: Any) -> Any:
    return SimpleNamespace(named_modules=lambda: [("layer", layer)], get_submodule=lambda _: None)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"bits": 3}, r"'layer' has 3 bits of int in groups of 32; MatMulNBits takes integers of 2, 4, 8 bits"),
        ({"group_size": -1, "in_features": 100}, "in groups of 100"),
        ({"dtype": "nf4"}, "4 bits of nf4"),
    ],
)
def test_what_no_kernel_takes_is_refused(numbers: dict[str, Any], said: str) -> None:
    with pytest.raises(CompressError, match=said):
        read_layers(module_of(None), module_of(INCWeightOnlyLinear(**numbers)))


def test_a_model_without_quantised_layers_is_refused() -> None:
    with pytest.raises(CompressError, match="quantise it with neural-compressor"):
        read_layers(module_of(None), module_of(None))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    """A random Llama of two layers, token ids, and its export."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("neural_compressor")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        attn_implementation="eager",
        use_cache=False,
    )
    net, ids = LlamaForCausalLM(config).eval(), torch.randint(0, VOCABULARY, (4, 16))

    class Logits(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, ids: Any) -> Any:
            return self.net(input_ids=ids).logits

    path = tmp_path_factory.mktemp("llama") / "model.onnx"
    with quiet():
        torch.onnx.export(
            Logits(), (ids,), str(path), input_names=["ids"], opset_version=18, dynamo=True, external_data=False
        )
    return net, ids, path


@contextlib.contextmanager
def quiet() -> Any:
    """Neither warnings nor prints of exporters and neural-compressor."""
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def quantise(net: Any, ids: Any, method: str) -> Any:
    import torch

    with quiet(), torch.no_grad():
        from neural_compressor.torch.quantization import AWQConfig, GPTQConfig, RTNConfig, convert, prepare

        copied = copy.deepcopy(net)
        if method == "rtn":
            return convert(prepare(copied, RTNConfig(bits=4, group_size=32, use_sym=False)))
        config = {"awq": AWQConfig, "gptq": GPTQConfig}[method](bits=4, group_size=32, use_sym=False)
        prepared = prepare(copied, config, example_inputs=ids)
        for row in ids:
            prepared(row[None])
        return convert(prepared)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rtn", "awq", "gptq"])
def test_logits_are_those_of_the_quantised_torch_model(
    llama: tuple[Any, Any, Path], tmp_path: Path, method: str
) -> None:
    import torch

    net, ids, path = llama
    if method == "gptq":  # it reads the model from where it was saved
        net.save_pretrained(tmp_path / "saved")
        net.name_or_path = net.config.name_or_path = str(tmp_path / "saved")
    quantised = quantise(net, ids, method)
    result = carry_over(path, tmp_path / "out.onnx", net, quantised)
    with torch.no_grad():
        wanted, plain = quantised(ids).logits.numpy(), net(ids).logits.numpy()
    got = run(onnx.load(tmp_path / "out.onnx"), {"ids": ids.numpy()})[0]
    assert result.details == {"layers": 14, "layers_missing": 0}
    assert np.abs(got - wanted).max() < 1e-3
    assert np.abs(plain - wanted).max() > 1e-2
    assert snr_db(wanted, got) > 50
    written = onnx.load(tmp_path / "out.onnx")
    assert [n.op_type for n in written.graph.node].count("MatMulNBits") == 14
