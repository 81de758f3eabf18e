from __future__ import annotations

import numpy as np
import pytest

from edgekit.compress.prune.graph.runs import cut_to, run_together, sample_feeds
from edgekit.data.split import Split
from edgekit.errors import CompressError
from tests.compress.quantize.nets import Net, normal


def test_only_what_is_asked_for_is_computed() -> None:
    net = Net(x=("batch", 4))
    hidden = net.add("Relu", net.add("MatMul", "x", normal(np.random.default_rng(0), 4, 6)))
    model = net.model(net.add("MatMul", hidden, normal(np.random.default_rng(1), 6, 2)))
    part = cut_to(model, [hidden])
    assert [n.op_type for n in part.graph.node] == ["MatMul", "Relu"]
    assert len(part.graph.initializer) == 1


def test_rows_that_fill_a_batch_up_are_left_out() -> None:
    net = Net(x=(4, 3, 2))
    rows = net.add("Reshape", net.add("Neg", "x"), np.array([12, 2], np.int64))
    model = net.model(net.add("Relu", rows))
    data = np.arange(36, dtype=np.float32).reshape(6, 3, 2)
    found = list(run_together([(model, [rows, "x"])], Split("d", {"x": data}), 6, "run"))
    assert [n for _, n in found] == [4, 2]
    np.testing.assert_array_equal(np.concatenate([v[rows] for (v,), _ in found]), -data.reshape(18, 2))
    np.testing.assert_array_equal(np.concatenate([v["x"] for (v,), _ in found]), data)


def test_inputs_for_one_run() -> None:
    net = Net(x=("batch", 3))
    model = net.model(net.add("Relu", "x"))
    assert sample_feeds(model, Split("d", {"x": np.ones((5, 3), np.float32)}))["x"].tolist() == [[1, 1, 1]]
    assert sample_feeds(model, None)["x"].shape == (1, 3)
    net = Net(x=("batch", "a"))
    odd = net.model(net.add("MatMul", "x", np.ones((333, 2), np.float32)))
    with pytest.raises(CompressError, match=r"accepts no generated inputs .*; give real ones with --data"):
        sample_feeds(odd, None)
