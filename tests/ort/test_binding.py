from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import ModelError
from edgekit.ort import Execution, Session
from edgekit.ort.binding import BoundRun, can_bind, device_memory


def test_a_bound_run_gives_what_a_plain_run_gives(dense_proto: onnx.ModelProto, dense_weight: Any) -> None:
    session = Session(dense_proto.SerializeToString())
    x = np.random.default_rng(1).standard_normal((5, 1, 8, 8)).astype(np.float32)
    assert can_bind(session)
    bound = BoundRun(session, {"image": x})
    bound.run()
    np.testing.assert_array_equal(bound.outputs()[0], session.run({"image": x})[0])
    np.testing.assert_allclose(bound.outputs()[0], x.reshape(5, 64) @ dense_weight, rtol=1e-5, atol=1e-5)
    assert bound.device == "cpu"


def test_outputs_are_made_once_and_filled_by_every_run(dense_proto: onnx.ModelProto) -> None:
    bound = BoundRun(Session(dense_proto.SerializeToString()), {"image": np.ones((2, 1, 8, 8), np.float32)})

    def place() -> int:
        return int(bound._binding.get_outputs()[0].data_ptr())

    before = place()
    for run in (bound.run, bound, bound.run_interruptibly):
        run()
        assert place() == before


def _model(nodes: list[onnx.NodeProto], x: onnx.ValueInfoProto, y: onnx.ValueInfoProto) -> bytes:
    graph = helper.make_graph(nodes, "small", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def test_half_floats_are_bound() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["batch", 3]) for name in "xy")
    session = Session(_model([helper.make_node("Add", ["x", "x"], ["y"])], x, y))
    bound = BoundRun(session, {"x": np.full((2, 3), 1.5, np.float16)})
    np.testing.assert_array_equal(bound.outputs()[0], np.full((2, 3), 3, np.float16))


def test_strings_cannot_be_bound() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.STRING, [2]) for name in "xy")
    session = Session(_model([helper.make_node("Identity", ["x"], ["y"])], x, y))
    assert not can_bind(session)
    with pytest.raises(ModelError, match="only tensors of numbers can be bound, and input x: object 2 is none"):
        BoundRun(session, {"x": np.array(["a", "bc"], object)})


def test_feeds_that_do_not_fit_are_one_line(dense_proto: onnx.ModelProto) -> None:
    with pytest.raises(ModelError, match=r"cannot be bound to the device: .+") as error:
        BoundRun(Session(dense_proto.SerializeToString()), {"image": np.ones((2, 8, 8), np.float32)})
    assert "\n" not in str(error.value)


def test_what_fell_back_is_bound_on_the_cpu(dense_proto: onnx.ModelProto) -> None:
    session = Session(dense_proto.SerializeToString(), "directml", execution=Execution(allow_fallback=True))
    if not session.fell_back:
        pytest.skip("DirectML works here")
    assert device_memory(session) == "cpu"


def test_another_provider_gives_the_same_bound(dense_proto: onnx.ModelProto, other_provider: str) -> None:
    session = Session(dense_proto.SerializeToString(), other_provider)
    feeds = {"image": np.random.default_rng(1).standard_normal((5, 1, 8, 8)).astype(np.float32)}
    np.testing.assert_allclose(BoundRun(session, feeds).outputs()[0], session.run(feeds)[0], rtol=1e-4, atol=1e-4)
