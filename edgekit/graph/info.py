"""What a model file is: inputs, operators, parameters, multiply-accumulates, precision, and what can be quantised."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgekit.graph.advice import OperatorAdvice, advise, tensor_bytes, title
from edgekit.graph.macs import MacCount, count_macs
from edgekit.graph.read import every_graph, every_node, every_weight, read_structure
from edgekit.graph.scopes import attribute
from edgekit.graph.shapes import dims_of
from edgekit.ort.compat import installed_ceiling
from edgekit.specs import TensorSpec

_NAMES = {"float": "float32", "double": "float64"}
_NO_PARAMETERS = frozenset(("int64", "bool", "string"))
_QUANTISED = frozenset(("int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2"))
_DYNAMIC = frozenset(("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat"))
_BLOCKWISE = frozenset(("MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"))


@dataclass(frozen=True)
class WeightGroup:
    """All tensors of one element type that a file holds, Constant nodes and subgraphs included."""

    dtype: str
    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True)
class Precision:
    """In which precision a model computes.

    Attributes:
        weights: The element type that holds most of the parameters' bytes.
        activations: Their precision, such as "float32" or "int8".
        forms: How it is quantised: "Q/DQ", "QOperator", "dynamic", "block-wise weights", "weights"; empty for none.
    """

    weights: str
    activations: str
    forms: tuple[str, ...]

    @property
    def quantised(self) -> bool:
        """Whether any part of it is quantised."""
        return bool(self.forms)


@dataclass(frozen=True)
class ModelInfo:
    """What `edgekit inspect` tells.

    Attributes:
        size_bytes: The file with its external data.
        external_files: Names of the files of external data.
        ops: Nodes by operator type, those of subgraphs and functions included.
        subgraphs: Bodies of If, Loop, Scan.
        functions: Local functions.
        parameters: Elements of weights; packed ones count as what they stand for.
        macs: Of one run with symbolic dimensions as in `dims`; None where the file is not valid.
        dims: Size that each symbolic dimension was given for `macs`.
        problems: Why ONNX's checker or the installed runtime would refuse it.
    """

    path: str
    size_bytes: int
    external_files: tuple[str, ...]
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    metadata: Mapping[str, str]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ops: Mapping[str, int]
    subgraphs: int
    functions: int
    parameters: int
    weights: tuple[WeightGroup, ...]
    macs: MacCount | None
    dims: Mapping[str, int]
    precision: Precision
    advice: tuple[OperatorAdvice, ...]
    problems: tuple[str, ...]

    @property
    def nodes(self) -> int:
        """Number of nodes, those of subgraphs and functions included."""
        return sum(self.ops.values())

    @property
    def quantisable_bytes(self) -> int:
        """Bytes of float weights that some method makes smaller."""
        return sum(a.weight_bytes for a in self.advice if a.methods)

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        macs = self.macs
        return {
            **vars(self),
            "external_files": list(self.external_files),
            "inputs": [_spec_dict(s) for s in self.inputs],
            "outputs": [_spec_dict(s) for s in self.outputs],
            "nodes": self.nodes,
            "weights": [vars(w) for w in self.weights],
            "macs": None if macs is None else macs.total,
            "macs_by_op": {} if macs is None else dict(macs.by_op),
            "macs_uncounted": {} if macs is None else dict(macs.uncounted),
            "precision": {**vars(self.precision), "forms": list(self.precision.forms)},
            "advice": [{**vars(a), "methods": list(a.methods)} for a in self.advice],
            "quantisable_bytes": self.quantisable_bytes,
            "problems": list(self.problems),
        }


def describe(path: Path, dims: Mapping[str, int] | None = None) -> ModelInfo:
    """Describe a model file; its weights are not loaded from external data, and no session is made.

    Args:
        path: An .onnx file.
        dims: Sizes of symbolic dimensions by name, for the multiply-accumulates; the others are 1.

    Raises:
        ModelError: if it is not there, is no ONNX, or has no dimension of a name in `dims`.
    """
    model = read_structure(path)
    problems = _problems(model, path)
    groups, external = _weight_groups(model), _external_files(model)
    symbolic = {d: 1 for s in _inputs(model) for d in s.shape if isinstance(d, str) and d}
    return ModelInfo(
        path=str(path),
        size_bytes=path.stat().st_size + sum(_bytes_of(path.parent / name) for name in external),
        external_files=external,
        ir_version=model.ir_version,
        opsets={o.domain or "ai.onnx": o.version for o in model.opset_import},
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        metadata={p.key: p.value for p in model.metadata_props},
        inputs=_inputs(model),
        outputs=tuple(spec_of(v) for v in model.graph.output),
        ops=dict(Counter(title(n) for n in every_node(model)).most_common()),
        subgraphs=sum(1 for _ in every_graph(model)) - 1,
        functions=len(model.functions),
        parameters=_parameters(model, groups),
        weights=groups,
        # shape inference is not safe on what the checker refuses
        macs=None if problems else count_macs(model, dims),
        dims={**symbolic, **(dims or {})},
        precision=_precision(model, groups),
        advice=advise(model),
        problems=problems,
    )


def spec_of(value: onnx.ValueInfoProto) -> TensorSpec:
    """Name, element type and shape of a graph's input or output; sequences and maps have a type and no shape."""
    kind = value.type.WhichOneof("value") or "tensor_type"
    if kind != "tensor_type":
        return TensorSpec(value.name, kind.removesuffix("_type"), ())
    return TensorSpec(value.name, dtype_name(value.type.tensor_type.elem_type), dims_of(value))


def dtype_name(data_type: int) -> str:
    """NumPy's name of an ONNX element type.

    >>> dtype_name(onnx.TensorProto.FLOAT)
    'float32'
    """
    name = onnx.TensorProto.DataType.Name(data_type).lower()
    return _NAMES.get(name, name)


def _inputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """The inputs that a caller must give: not those that an initializer stands for."""
    held = {t.name for t in model.graph.initializer}
    return tuple(spec_of(v) for v in model.graph.input if v.name not in held)


def _external_files(model: onnx.ModelProto) -> tuple[str, ...]:
    kept = (e.value for t in every_weight(model) for e in t.external_data if e.key == "location")
    return tuple(sorted(set(kept)))


def _bytes_of(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _problems(model: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    found = []
    ceiling = installed_ceiling()
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if model.ir_version > ceiling.ir_version or opset > ceiling.opset:
        found.append(
            f"opset {opset}, IR version {model.ir_version}: the installed ONNX Runtime loads at most opset "
            f"{ceiling.opset}, IR version {ceiling.ir_version}"
        )
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        found.append(next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__))
    return tuple(found)


def _weight_groups(model: onnx.ModelProto) -> tuple[WeightGroup, ...]:
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for tensor in _every_tensor(model):
        total = totals[dtype_name(tensor.data_type)]
        for i, more in enumerate((1, math.prod(tensor.dims), tensor_bytes(tensor))):
            total[i] += more
    groups = [WeightGroup(dtype, *total) for dtype, total in totals.items()]
    return tuple(sorted(groups, key=lambda g: (-g.bytes, g.dtype)))


def _every_tensor(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from every_weight(model)
    for graph in every_graph(model):
        yield from (s.values for s in graph.sparse_initializer)


def _parameters(model: onnx.ModelProto, groups: tuple[WeightGroup, ...]) -> int:
    held = {t.name: t for t in _every_tensor(model)}
    packed = 0
    for node in every_node(model):
        if node.op_type == "MatMulNBits" and len(node.input) > 1 and node.input[1] in held:
            stands_for = int(attribute(node, "K", 0)) * int(attribute(node, "N", 0))
            packed += stands_for - math.prod(held[node.input[1]].dims)
    return packed + sum(g.elements for g in groups if g.dtype not in _NO_PARAMETERS)


def _precision(model: onnx.ModelProto, groups: tuple[WeightGroup, ...]) -> Precision:
    ops = {n.op_type for n in every_node(model)}
    heaviest = next((g.dtype for g in groups if g.dtype not in _NO_PARAMETERS), "none")
    if heaviest == "uint8" and ops & _BLOCKWISE:
        heaviest = f"{_block_bits(model)}-bit blocks"
    forms = tuple(name for name, there in _forms(model, ops, groups).items() if there)
    integers = {"Q/DQ", "QOperator", "dynamic"} & set(forms)
    return Precision(heaviest, "int8" if integers else _float_type(model), forms)


def _forms(model: onnx.ModelProto, ops: set[str], groups: tuple[WeightGroup, ...]) -> dict[str, bool]:
    blocks, dynamic = bool(ops & _BLOCKWISE), bool(ops & _DYNAMIC)
    operators = any(op.startswith("QLinear") or op.startswith("QGemm") for op in ops)
    integer = bool(ops & {"MatMulInteger", "ConvInteger"})
    pairs = {"QuantizeLinear", "DequantizeLinear"} <= ops
    held = any(g.dtype in _QUANTISED and g.elements > 256 for g in groups)
    return {
        "Q/DQ": pairs and not operators,
        "QOperator": operators or (integer and not dynamic),
        "dynamic": dynamic,
        "block-wise weights": blocks,
        "weights": held and not (pairs or operators or integer or dynamic or blocks),
    }


def _block_bits(model: onnx.ModelProto) -> int:
    found = (int(attribute(n, "bits", 4)) for n in every_node(model) if n.op_type in _BLOCKWISE)
    return next(found, 4)


def _float_type(model: onnx.ModelProto) -> str:
    """The float type of most weights that are not only stored so and cast, else that of the inputs and outputs."""
    cast = {node.input[0] for node in every_node(model) if node.op_type == "Cast"}
    sizes: Counter[str] = Counter()
    for tensor in every_weight(model):
        if tensor.name not in cast and "float" in dtype_name(tensor.data_type):
            sizes[dtype_name(tensor.data_type)] += tensor_bytes(tensor)
    declared = [s.dtype for s in (*map(spec_of, model.graph.input), *map(spec_of, model.graph.output))]
    heaviest = [dtype for dtype, _ in sizes.most_common(1)]
    return next(iter([*heaviest, *(d for d in declared if "float" in d), *declared]), "none")


def _spec_dict(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
