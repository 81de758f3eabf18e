from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgekit.bench import refuse_other_signatures
from edgekit.errors import ModelError

from .conftest import Maker, save


def _relu(path: Path, shape: list[int | str] | None, name: str = "x", output: str = "y") -> Path:
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
    return save(path, [onnx.helper.make_node("Relu", [name], [output])], inputs, [])


def signature_refusal(*models: Path) -> str | None:
    """What is said against comparing them."""
    try:
        refuse_other_signatures(list(models))
    except ModelError as error:
        return str(error)
    return None


@pytest.mark.parametrize("shape", [["n", 4], [1, 4], ["batch", "width"], None])
def test_dynamic_and_unknown_dimensions_fit(shape: list[int | str] | None, tmp_path: Path) -> None:
    first, second = _relu(tmp_path / "a.onnx", ["batch", 4]), _relu(tmp_path / "b.onnx", shape)
    assert signature_refusal(first, second) is None
    assert signature_refusal(second, first) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": ["batch", 5]}, "its inputs are x batchx5, those of the first are x batchx4"),
        ({"shape": ["batch", 4, 1]}, "its inputs are x batchx4x1, those"),
        ({"shape": ["batch", 4], "name": "image"}, "its inputs are image batchx4, those"),
        ({"shape": ["batch", 4], "output": "z"}, "its outputs are z of unknown shape, those of the first are y of"),
    ],
)
def test_other_inputs_and_outputs_are_refused(change: dict[str, object], said: str, tmp_path: Path) -> None:
    first, second = _relu(tmp_path / "a.onnx", ["batch", 4]), _relu(tmp_path / "b.onnx", **change)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"b\.onnx cannot be compared with .*a\.onnx: ") as error:
        refuse_other_signatures([first, first, second])
    assert said in str(error.value)


def test_a_model_is_like_itself(chain: Maker) -> None:
    assert signature_refusal(chain(16), chain(16)) is None
