from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.graph.vocabulary import vocabularies


def _model(nodes: list[onnx.NodeProto], inputs: list[str], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "time"]) for name in inputs]
    out = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    held = [numpy_helper.from_array(w, name) for name, w in weights.items()]
    return helper.make_model(helper.make_graph(nodes, "g", infos, [out], held))


def test_an_embedding_tells_how_many_ids_there_are() -> None:
    nodes = [
        helper.make_node("Cast", ["ids"], ["small"], to=TensorProto.INT32),
        helper.make_node("Unsqueeze", ["small", "axes"], ["wide"]),
        helper.make_node("Gather", ["table", "wide"], ["words"]),
        helper.make_node("Gather", ["positions", "place"], ["places"], axis=1),
        helper.make_node("Add", ["words", "places"], ["y"]),
    ]
    weights = {"table": np.ones((50, 4)), "positions": np.ones((4, 20)), "axes": np.array([1])}
    assert vocabularies(_model(nodes, ["ids", "place", "mask"], weights)) == {"ids": 50, "place": 20}


def test_a_table_that_is_stored_in_fewer_bits_tells_it_too() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["bytes", "scale"], ["table"]),
        helper.make_node("Cast", ["halves"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Gather", ["table", "a"], ["u"]),
        helper.make_node("Gather", ["scaled", "b"], ["v"]),
        helper.make_node(
            "GatherBlockQuantized", ["packed", "c", "scale"], ["w"], domain="com.microsoft", gather_axis=0
        ),
        helper.make_node("Sum", ["u", "v", "w"], ["y"]),
    ]
    weights = {
        "bytes": np.ones((11, 4), np.int8),
        "halves": np.ones((12, 4), np.float16),
        "packed": np.ones((13, 2), np.uint8),
        "scale": np.ones((), np.float32),
    }
    assert vocabularies(_model(nodes, ["a", "b", "c"], weights)) == {"a": 11, "b": 12, "c": 13}


def test_the_smallest_table_counts() -> None:
    table = numpy_helper.from_array(np.ones((9, 2), np.float32))
    nodes = [
        helper.make_node("Constant", [], ["small"], value=table),
        helper.make_node("Gather", ["large", "ids"], ["u"]),
        helper.make_node("Gather", ["small", "ids"], ["v"]),
        helper.make_node("Add", ["u", "v"], ["y"]),
    ]
    assert vocabularies(_model(nodes, ["ids"], {"large": np.ones((90, 2), np.float32)})) == {"ids": 9}


def test_a_fused_embedding_layer_tells_words_and_segments() -> None:
    names = ["ids", "segments", "words", "positions", "types", "gamma", "beta"]
    nodes = [helper.make_node("EmbedLayerNormalization", names, ["y"], domain="com.microsoft")]
    weights = {"words": np.ones((70, 4)), "positions": np.ones((8, 4)), "types": np.ones((2, 4))}
    assert vocabularies(_model(nodes, ["ids", "segments"], weights)) == {"ids": 70, "segments": 2}


def test_what_is_no_lookup_tells_nothing() -> None:
    nodes = [helper.make_node("Gather", ["ids", "which"], ["y"], axis=1)]
    assert vocabularies(_model(nodes, ["ids"], {"which": np.array([0])})) == {}
