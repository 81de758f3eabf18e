"""Build one task: `build.py TASK DATA FOLDER`, in the environment that has torch. Seeds are fixed; one thread.

Writes model.onnx, calib.npz, eval.npz and, where there are labels, val.npz. DATA holds the unpacked packages.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

OPSET = 18


def seed_everything() -> None:
    """The same start for every task."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    np.random.seed(0)
    random.seed(0)


def export(
    net: torch.nn.Module, inputs: tuple[torch.Tensor, ...], names: Sequence[str], dynamic: Any, path: Path
) -> None:
    """Write a network as one ONNX file, with torch's newer exporter."""
    torch.onnx.export(
        net.eval(),
        inputs,
        str(path),
        input_names=list(names),
        output_names=["out"],
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=dynamic,
        external_data=False,
    )


def main() -> None:
    """Build one task."""
    import images
    import speech
    import text

    builders = {
        "T1": images.build_resnet,
        "T1b": images.build_mobilenet,
        "T1c": images.build_uneven,
        "T2": text.build_spam,
        "T3": speech.build_speakers,
        "T4": text.build_language,
    }
    task, data, folder = sys.argv[1:]
    seed_everything()
    builders[task](Path(data), Path(folder))


if __name__ == "__main__":
    main()
