"""Which parts of an image an answer rests on, by the same method for both models.

A compressed ONNX file has no gradients, so both are asked by occlusion: how far the score of the class falls when a
patch is covered.

Source: Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2; Captum: Kokhlikyan et al. 2020, arXiv:2009.07896.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.ort import Session
from edgekit.pictures.images import Layout
from edgekit.pictures.runs import run_rows
from edgekit.specs import Array

if TYPE_CHECKING:
    from torch import Tensor

_PATCHES_ACROSS = 7
_VALUES_A_RUN = 1 << 21
NEEDS_CAPTUM = "saliency maps need captum; install it: pip install 'edgekit[pictures]'"


def captum_is_there() -> bool:
    """Whether saliency can be computed."""
    from importlib.util import find_spec

    return find_spec("captum") is not None and find_spec("torch") is not None


def window(layout: Layout) -> tuple[int, int]:
    """(patch, stride) in pixels: a seventh of the picture, moved by half of that."""
    patch = max(2, round(min(layout.height, layout.width) / _PATCHES_ACROSS))
    return patch, max(1, patch // 2)


def occlusion_maps(session: Session, images: Array, classes: Array, layout: Layout) -> Array:
    """How far the score of a class falls when a patch around each pixel is replaced by zero.

    Args:
        session: A classifier of one input.
        images: float32 (n, ...), as the model takes them; zero is the mean of the data.
        classes: int64 (n,), whose score.
        layout: Where an image has its channels.

    Returns:
        float32 (n, height, width); above zero where covering lowers the score.
    """
    import torch
    from captum.attr import Occlusion

    name, (patch, stride) = session.inputs[0].name, window(layout)

    def forward(rows: Tensor) -> Tensor:
        return torch.from_numpy(run_rows(session, {name: rows.numpy()})[0].astype(np.float32))

    found = Occlusion(forward).attribute(
        torch.from_numpy(np.ascontiguousarray(images, np.float32)),
        sliding_window_shapes=layout.shaped(patch, patch, layout.channels),
        strides=layout.shaped(stride, stride, layout.channels),
        baselines=0,
        target=torch.from_numpy(classes.astype(np.int64)),
        perturbations_per_eval=max(1, min(64, _VALUES_A_RUN // images.size)),
    )
    return np.asarray(layout.channels_last(found.numpy()).mean(axis=-1), np.float32)


def compare_saliency(
    sessions: tuple[Session, Session], images: Array, classes: Array, layout: Layout
) -> tuple[dict[str, Any], Mapping[str, Array]]:
    """Maps of both models for the same classes, and how alike each pair ranks the pixels."""
    base, variant = (occlusion_maps(s, images, classes, layout) for s in sessions)
    patch, stride = window(layout)
    alike = [rank_correlation(a, b) for a, b in zip(base, variant, strict=True)]
    known = [a for a in alike if a is not None]
    facts = {
        "method": "occlusion",
        "patch_px": patch,
        "stride_px": stride,
        "spearman": alike,
        "mean_spearman": float(np.mean(known)) if known else None,
    }
    return facts, {"base": base, "variant": variant}


def rank_correlation(a: Array, b: Array) -> float | None:
    """Spearman's rank correlation, ties sharing their mean rank; None where one of them is constant.

    >>> rank_correlation(np.array([1, 2, 3, 4]), np.array([10, 20, 40, 30]))
    0.8
    """
    x, y = (_ranks(v.ravel()) for v in (a, b))
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return round(float(x @ y) / length, 12) if length else None


def _ranks(values: Array) -> Array:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place], np.float64)
