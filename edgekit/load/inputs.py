"""What goes into a model that says nothing of it itself: `image=1x3x224x224:float32`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgekit.errors import ModelError, unknown
from edgekit.specs import TensorSpec

DTYPES = ("float32", "float16", "int64", "int32", "uint8", "bool")
_HOW = "write it as --input image=1x3x224x224 or ids=1x128:int64, the batch first"
_LARGEST = 1 << 28


def parse_inputs(texts: Sequence[str]) -> tuple[TensorSpec, ...]:
    """`name=shape[:dtype]` -> specs whose first dimension is the batch.

    >>> [str(s) for s in parse_inputs(["image=1x3x8x8", "ids=batchx16:int64"])]
    ['image: float32 batchx3x8x8', 'ids: int64 batchx16']
    >>> str(parse_inputs(["ids=1xlength:int64"])[0])  # any length
    'ids: int64 batchxlength'

    Raises:
        ModelError: for what cannot be read, or a name given twice.
    """
    specs = tuple(_parse(text) for text in texts)
    names = [s.name for s in specs]
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"--input names {name!r} twice; each input has one shape")
    return specs


def _parse(text: str) -> TensorSpec:
    match = re.fullmatch(r"(?P<name>[A-Za-z_][\w.]*)=(?P<shape>[^:]+)(?::(?P<dtype>.+))?", text)
    if not match:
        raise ModelError(f"--input {text}: got no name=shape; {_HOW}")
    return input_spec(match["name"], match["shape"], match["dtype"] or "float32")


def input_spec(name: str, shape: str, dtype: str = "float32") -> TensorSpec:
    """One input; its first dimension is the batch, whatever number stands there."""
    if dtype not in DTYPES:
        raise ModelError(f"input {name!r}: {unknown('dtype', dtype, DTYPES)}")
    dims = shape.split("x") if not shape.startswith("batch") else ["1", *shape.removeprefix("batch").split("x")[1:]]
    if not all(_is_dim(d) for d in dims):
        raise ModelError(f"input {name!r}: {shape!r} is no shape of positive numbers; {_HOW}")
    return TensorSpec(name, dtype, ("batch", *(int(d) if d.isdigit() else d for d in dims[1:])))


def _is_dim(text: str) -> bool:
    """A positive number, or the name of a dimension that stays open (without an x, which separates them)."""
    return 0 < int(text) <= _LARGEST if text.isdigit() else re.fullmatch("[a-wyz_]+", text) is not None
