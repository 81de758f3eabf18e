from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import ModelError, ProviderError
from edgekit.ort import PROVIDERS, Execution, Session, assigned_nodes, require_ort
from edgekit.ort.execution import RECORD_PLACEMENT

FEEDS = {"x": np.array([3, -1, 3, 2], np.float32)}


@pytest.fixture
def relu_unique() -> bytes:
    """Relu, then Unique, which only the CPU has a kernel for, then Abs."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    chain = zip(("Relu", "Unique", "Abs"), ("x", "a", "b"), ("a", "b", "y"), strict=True)
    nodes = [helper.make_node(op, [source], [result], name=op.lower()) for op, source, result in chain]
    graph = helper.make_graph(nodes, "stray", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_nodes_say_which_provider_they_were_assigned_to(relu_unique: bytes) -> None:
    nodes = assigned_nodes(Session(relu_unique, config={RECORD_PLACEMENT: "1"}).raw)
    assert nodes is not None
    assert [(n.op_type, n.name, n.provider) for n in nodes] == [
        (op, op.lower(), "CPUExecutionProvider") for op in ("Relu", "Unique", "Abs")
    ]


def test_the_cpu_is_where_strict_placement_wants_it(relu_unique: bytes) -> None:
    (y,) = Session(relu_unique, execution=Execution(strict_placement=True)).run(FEEDS)
    np.testing.assert_array_equal(y, [0, 2, 3])


@pytest.mark.parametrize("name", [p for p in PROVIDERS if p != "cpu"])
def test_a_provider_that_is_not_there_may_be_replaced_when_that_is_allowed(
    name: str, relu_unique: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    session = Session(relu_unique, name, execution=Execution(allow_fallback=True))
    assert session.fell_back is (PROVIDERS[name].ort_name not in session.providers_used)
    if session.fell_back:
        assert session.providers_used == ["CPUExecutionProvider"]
    np.testing.assert_array_equal(session.run(FEEDS)[0], [0, 2, 3])
    assert capfd.readouterr() == ("", "")


def test_an_unknown_provider_is_never_replaced(relu_unique: bytes) -> None:
    with pytest.raises(ProviderError, match="unknown provider 'cud'; did you mean 'cuda'"):
        Session(relu_unique, "cud", execution=Execution(allow_fallback=True))


def test_strictness_does_not_hide_that_a_provider_is_missing(relu_unique: bytes) -> None:
    if "CUDAExecutionProvider" not in require_ort().get_available_providers():
        pytest.skip("this ONNX Runtime was not built with CUDA")
    with pytest.raises(ProviderError, match=r"'cuda' (did not load on this machine: lib|has no kernel for 1 of 3)"):
        Session(relu_unique, "cuda", execution=Execution(strict_placement=True))


def test_strictness_does_not_hide_that_a_model_is_broken(tmp_path: Path, other_provider: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"garbage")
    with pytest.raises(ModelError, match="cannot load"):
        Session(path, other_provider, execution=Execution(strict_placement=True))


def test_nodes_on_the_cpu_are_named(relu_unique: bytes, other_provider: str) -> None:
    with pytest.raises(ProviderError, match=rf"'{other_provider}' has no kernel for \d of 3 nodes, .*Unique \(1\)"):
        Session(relu_unique, other_provider, execution=Execution(strict_placement=True))


def test_a_strict_session_runs(dense_proto: onnx.ModelProto, dense_weight: np.ndarray, other_provider: str) -> None:
    strict = Session(dense_proto.SerializeToString(), other_provider, execution=Execution(strict_placement=True))
    x = np.random.default_rng(1).standard_normal((5, 1, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(strict.run({"image": x})[0], x.reshape(5, 64) @ dense_weight, rtol=1e-2, atol=1e-2)


def test_an_unknown_option_is_said(relu_unique: bytes, other_provider: str) -> None:
    with pytest.raises(ProviderError, match=r"did not load on this machine: .*no_such_option"):
        Session(relu_unique, other_provider, execution=Execution(options={"no_such_option": "1"}))
