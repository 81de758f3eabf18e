from __future__ import annotations

from typing import Any

import pytest
from onnx import helper

from edgekit.bundle.contrib import oldest_for_contrib


def node(kind: str, domain: str = "com.microsoft", **numbers: int) -> Any:
    return helper.make_node(kind, ["x"], ["y"], domain=domain, **numbers)


@pytest.mark.parametrize(
    ("nodes", "oldest"),
    [
        ([node("Relu", domain="")], None),
        ([node("MatMulNBits", bits=4, accuracy_level=4)], (1, 17)),
        ([node("MatMulNBits", bits=8)], (1, 23)),
        ([node("MatMulNBits", bits=2)], (1, 31)),
        ([node("GatherBlockQuantized", bits=4), node("QLinearAdd")], (1, 23)),
        ([node("GatherBlockQuantized")], (1, 20)),
        ([node("GroupQueryAttention")], (1, 18)),
        ([node("QLinearAdd"), node("DynamicQuantizeLSTM")], (1, 16)),
        ([node("OfTomorrow")], (1, 31)),
    ],
)
def test_the_oldest_release_is_the_one_that_was_seen_to_run_it(
    nodes: list[Any], oldest: tuple[int, int] | None
) -> None:
    assert oldest_for_contrib(nodes) == oldest
