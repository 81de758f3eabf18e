"""Build one task: `build.py TASK DATA FOLDER`, in the environment that has torch. Seeds are fixed; one thread.

Writes model.onnx, calib.npz, eval.npz and, where there are labels, val.npz. DATA holds the unpacked packages.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import images
import numpy as np
import speech
import text
import torch


def seed_everything() -> None:
    """The same start for every task."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    np.random.seed(0)
    random.seed(0)


def main() -> None:
    """Build one task."""
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
