"""What a model file is: inputs, operators, parameters, multiply-accumulates, precision, and what can be quantised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from edgekit.graph.advice import OperatorAdvice, advise, tensor_bytes, title
from edgekit.graph.macs import MacCount, count_macs
from edgekit.graph.precision import Precision, find_precision
from edgekit.graph.read import every_graph, every_node, every_weight, read_structure
from edgekit.graph.shapes import without_weights
from edgekit.graph.stored import WeightGroup, count_parameters, spec_of, weight_groups
from edgekit.ort.compat import installed_ceiling
from edgekit.specs import TensorSpec

__all__ = ["ModelInfo", "describe", "spec_of"]

_SMALL_BYTES = 4096


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
    external = _external_files(model)
    _load_small_external(model, path.parent)
    structure, groups = _structure(model), weight_groups(model)
    problems = _problems(structure, path, external)
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
        parameters=count_parameters(model, groups),
        weights=groups,
        # shape inference is not safe on what the checker refuses
        macs=None if problems else count_macs(structure, dims),
        dims={**symbolic, **(dims or {})},
        precision=find_precision(model, groups),
        advice=advise(model),
        problems=problems,
    )


def _inputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """The inputs that a caller must give: not those that an initializer stands for."""
    held = {t.name for t in model.graph.initializer}
    return tuple(spec_of(v) for v in model.graph.input if v.name not in held)


def _external_files(model: onnx.ModelProto) -> tuple[str, ...]:
    kept = (e.value for t in every_weight(model) for e in t.external_data if e.key == "location")
    return tuple(sorted(set(kept)))


def _bytes_of(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _problems(structure: onnx.ModelProto, path: Path, external: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    ceiling = installed_ceiling()
    opset = max((o.version for o in structure.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if structure.ir_version > ceiling.ir_version or opset > ceiling.opset:
        found.append(
            f"opset {opset}, IR version {structure.ir_version}: the installed ONNX Runtime loads at most opset "
            f"{ceiling.opset}, IR version {ceiling.ir_version}"
        )
    missing = [name for name in external if not (path.parent / name).is_file()]
    if missing:
        found.append(f"external data is missing beside it: {', '.join(missing)}")
    try:
        onnx.checker.check_model(structure)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        found.append(next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__))
    return tuple(found)


def _structure(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its weights declared only, and a shape for outputs that have none: the checker wants one."""
    light = without_weights(model)
    declared = {i.name for i in light.graph.input}
    for i in reversed(range(len(light.graph.initializer))):
        tensor = light.graph.initializer[i]
        if uses_external_data(tensor):
            if tensor.name not in declared:
                value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                light.graph.input.append(value)
            del light.graph.initializer[i]
    for output in light.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.shape.SetInParent()
    return light


def _load_small_external(model: onnx.ModelProto, root: Path) -> None:
    """Shapes may be stored outside too, and inference needs their values."""
    for tensor in every_weight(model):
        if not uses_external_data(tensor) or tensor_bytes(tensor) > _SMALL_BYTES:
            continue
        name = next((e.value for e in tensor.external_data if e.key == "location"), "")
        file = (root / name).resolve()
        if file.is_file() and file.is_relative_to(root.resolve()):
            load_external_data_for_tensor(tensor, str(root))


def _spec_dict(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
