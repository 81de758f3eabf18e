"""Variants in ONNX Runtime's own format, for builds of it that read nothing else and hold few operators.

Such a file is optimised when it is written and opens without the ONNX parser. It is written at the level `extended`,
whose fusions any CPU runs; the level above it lays tensors out for the CPU that writes it. `required_operators.config`
lists the operators and types that a reduced build must hold (`build.sh --include_ops_by_config FILE
--enable_reduced_operator_type_support --minimal_build`).

Source: ONNX Runtime's documentation, "ORT model format" and "Reduced operator config file".
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle.check import within
from edgekit.bundle.expected import Tolerance
from edgekit.bundle.golden import Golden, answers_of, store_answers
from edgekit.bundle.models import PackedModel, providers_of, variant_entry
from edgekit.bundle.samples import GoldenSample
from edgekit.bundle.store import StoredVariant, sealed, twin_of
from edgekit.errors import BundleError, ModelError, brief
from edgekit.ort import require_ort

CONFIG = "required_operators.config"
ENDING = "-ort"


@dataclass(frozen=True)
class OrtVariants:
    """The variants of a bundle once more, in ORT format.

    Attributes:
        stored: What goes into the bundle, in the order of the others.
        golden: With their answers.
        config: Content of CONFIG.
    """

    stored: tuple[StoredVariant, ...]
    golden: Golden
    config: bytes


def add_ort_variants(
    models: Sequence[PackedModel],
    samples: Sequence[GoldenSample],
    golden: Golden,
    key: bytes | None,
    bundle_id: str,
) -> OrtVariants:
    """Convert every variant that is for the CPU; each must answer as the ONNX file does.

    Raises:
        BundleError: if a name is taken, or a converted file answers otherwise.
        ModelError: if ONNX Runtime cannot convert one.
    """
    _check_names([m.name for m in models])
    models = [m for m in models if "cpu" in providers_of(m)]
    if not models:
        raise BundleError("no variant is for the CPU, which files in ORT format are made for; leave --ort out")
    stored: list[StoredVariant] = []
    first: dict[object, StoredVariant] = {}
    with tempfile.TemporaryDirectory(prefix="edgekit-ort-") as directory:
        for model in models:
            name, file = f"{model.name}{ENDING}", Path(directory) / f"{model.name}.ort"
            convert_to_ort(model.candidate.path, file)
            golden = _with_answers(golden, model, name, file, samples)
            same = first.get(model.content)
            entry = _entry(model, name, file.stat().st_size)
            stored.append(_stored(entry, file.read_bytes(), key, bundle_id) if same is None else twin_of(entry, same))
            first.setdefault(model.content, stored[-1])
        config = required_operators(sorted(Path(directory).glob("*.ort")))
    return OrtVariants(tuple(stored), golden, config)


def _check_names(names: Sequence[str]) -> None:
    taken = next((name for name in names if f"{name}{ENDING}" in names), None)
    if taken is not None:
        raise BundleError(
            f"variant {taken + ENDING!r} is there already, and --ort makes one of that name of {taken!r}; rename it"
        )


def convert_to_ort(model: Path, out: Path) -> None:
    """Write a model in ORT format.

    Raises:
        ModelError: if ONNX Runtime cannot.
    """
    ort = require_ort()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(out)
    options.log_severity_level = 4
    options.add_session_config_entry("session.save_model_format", "ORT")
    try:
        ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises classes of its own
        raise ModelError(f"{model} cannot be written in ORT format: {brief(error)}; leave --ort out") from error


def required_operators(files: Iterable[Path]) -> bytes:
    """The configuration of a build that runs these files and no more, with the types that they use."""
    from onnxruntime.tools.ort_format_model import create_config_from_models

    logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)  # it tells where it wrote, at each call
    listed = list(files)
    with tempfile.TemporaryDirectory(prefix="edgekit-ort-") as directory:
        out = Path(directory) / CONFIG
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves the files open for the collector
            create_config_from_models(listed, out, enable_type_reduction=True)
        lines = out.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("#")]  # its comments hold paths of this machine
    head = f"# Operators and types of: {', '.join(f.stem for f in listed)}"
    return ("\n".join([head, *kept]) + "\n").encode()


def _with_answers(golden: Golden, model: PackedModel, name: str, file: Path, samples: Sequence[GoldenSample]) -> Golden:
    """The golden part with the answers of a converted file, which must be those of the ONNX file."""
    answers, allowed = answers_of(name, file, samples), golden.entry["tolerance"][model.name]
    for index, (own, wanted) in enumerate(zip(answers, golden.answers[model.name], strict=True)):
        wrong = next((k for k, v in own.items() if not within(v, wanted[k], _tolerance(allowed))), None)
        if wrong is not None:
            raise BundleError(
                f"variant {model.name!r} in ORT format answers golden sample {index} otherwise, in output {wrong!r}; "
                "leave --ort out"
            )
    return store_answers(golden, name, answers, allowed)


def _tolerance(entry: Mapping[str, Any]) -> Tolerance:
    return Tolerance(entry["absolute"], entry["relative"], entry["same_top1"])


def _stored(entry: Mapping[str, Any], content: bytes, key: bytes | None, bundle_id: str) -> StoredVariant:
    if key is not None:
        return sealed(entry, content, key, bundle_id)
    return StoredVariant(dict(entry), contents={str(entry["file"]): content})


def _entry(model: PackedModel, name: str, size_bytes: int) -> dict[str, Any]:
    version = ".".join(str(require_ort().__version__).split(".")[:2])
    return {
        **variant_entry(model),
        "name": name,
        "file": f"models/{name}/model.ort",
        "format": "ort",
        "providers": ["CPUExecutionProvider"],
        "minimum_onnxruntime": version,  # what wrote it; older ones may not know the format's version
        "size_bytes": size_bytes,
        "bench": [],
        "lineage": [*map(dict, model.candidate.lineage), {"step": f"ORT format by ONNX Runtime {version}"}],
    }
