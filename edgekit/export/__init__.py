"""Export to ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def export_source(
    source: Path, out: Path, *, opset: int | None = None, target_ort: str | None = None, fix: Sequence[str] = ()
) -> dict[str, Any]:
    """Write an ONNX file from a checkpoint directory, or from another ONNX file.

    Args:
        source: What to export.
        out: The file to write.
        opset: Of the default domain.
        target_ort: Version of the oldest ONNX Runtime that must load the file.
        fix: `name=value` for dynamic dimensions and scalar inputs.

    Raises:
        ExportError: if it does not export, or differs from what it was made of.
        ModelError: if the source is neither.
    """
    from edgekit.files import check_output

    check_output(out, source)
    if source.is_dir():
        from edgekit.export.torch_onnx import export_onnx
        from edgekit.training.checkpoint import load_checkpoint

        return export_onnx(load_checkpoint(source), out, opset=opset, target_ort=target_ort, fix=fix).as_dict()
    from edgekit.export.onnx_onnx import rewrite_onnx

    return rewrite_onnx(source, out, opset=opset, target_ort=target_ort, fix=fix)
