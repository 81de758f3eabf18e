"""Where two models look and what their layers give, on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.pictures.choice import RULE
from edgekit.report.pictures.colours import diverging, grey, sequential
from edgekit.report.pictures.section import Section, file_part
from edgekit.report.pictures.tiles import Row, tile_grid
from edgekit.specs import Array

_SIDE = 76
_ACTIVATION_SAMPLES = 2


def saliency_section(
    found: Mapping[str, Any], arrays: Mapping[str, Array], classes: Sequence[str], names: tuple[str, str]
) -> list[Section]:
    """Image, map of the original, map of the variant, one row a sample."""
    saliency = found["saliency"]
    if "missing" in saliency:
        return [Section("Saliency", saliency["missing"], ())]
    images = shown_images(arrays["samples.image"])
    before, after = arrays["saliency.base"], arrays["saliency.variant"]
    rows = []
    for index, sample in enumerate(found["samples"]["samples"]):
        peak = float(max(np.abs(before[index]).max(), np.abs(after[index]).max())) or 1.0
        maps = [diverging(m[index], peak) for m in (before, after)]
        said = f"{_named(sample, classes)}\n{_rank(saliency['spearman'][index])}\nscale ±{peak:.2g}"
        rows.append(Row(said, (images[index], *maps)))
    alt = f"saliency maps of {names[0]} and {names[1]} for {len(rows)} test images"
    text = (
        f"{RULE} Both models by the same method, occlusion with Captum (the compressed file has no gradients): a patch "
        f"of {saliency['patch_px']} pixels, moved by {saliency['stride_px']}, is set to zero, the mean of the data, "
        f"and the map says how far the score of the class that {names[0]} names falls. Red: the answer rests on it; "
        "blue: it speaks against it; both maps of a row have one scale."
    )
    picture = tile_grid(f"saliency-{file_part(names[1])}.png", alt, rows, ("image", *names), _SIDE)
    return [Section("Saliency", text, (picture,), _mean_rank(saliency, names))]


def _mean_rank(found: Mapping[str, Any], names: tuple[str, str]) -> tuple[str, ...]:
    if found["mean_spearman"] is None:
        return ("No map has any structure, so that no rank correlation is known.",)
    known = [s for s in found["spearman"] if s is not None]
    return (
        f"Rank correlation (Spearman) of the maps of {names[0]} and {names[1]}: {found['mean_spearman']:.3f} on "
        f"average over {len(known)} images, {min(known):.3f} at least; 1 is the same order of all pixels.",
    )


def activation_section(
    found: Mapping[str, Any], arrays: Mapping[str, Array], classes: Sequence[str], names: tuple[str, str]
) -> list[Section]:
    """Mean over the channels of up to three convolutions, for the first and the most changed sample."""
    layers = found["activations"]["layers"]
    if not layers:
        return []
    samples = found["samples"]["samples"]
    images = shown_images(arrays["samples.image"])
    chosen = sorted({0, len(samples) - 1})[:_ACTIVATION_SAMPLES]
    grids = []
    for number, sample in enumerate(chosen):
        rows = [_layer_row(layer, index, sample, arrays, images[sample]) for index, layer in enumerate(layers)]
        said = _named(samples[sample], classes).replace("\n", ", ")
        alt = f"activations of {len(rows)} layers of {names[0]} and {names[1]} for a test image, {said}"
        columns = (said.split(",")[0], *names, "difference")
        grids.append(tile_grid(f"activations-{file_part(names[1])}-{number}.png", alt, rows, columns, _SIDE))
    text = (
        "What the first, a middle and the last convolution give to the next layer, as the mean over their channels: "
        "after the activation function, and in the compressed model after rounding. "
        f"{names[0]} and {names[1]} share one scale, dark to bright; the difference has its own. The samples are the "
        "first and the last of those above."
    )
    return [Section("Activations", text, tuple(grids), tuple(_noise(layer) for layer in layers))]


def _layer_row(layer: Mapping[str, Any], index: int, sample: int, arrays: Mapping[str, Array], image: Array) -> Row:
    before, after = (arrays[f"activations.{index}.{side}"][sample] for side in ("base", "variant"))
    low, high = float(min(before.min(), after.min())), float(max(before.max(), after.max()))
    change = after - before
    peak = float(np.abs(change).max()) or 1.0
    height, width = layer["size"]
    said = (
        f"{_short(layer['name'])}\n{layer['channels'][0]}x{height}x{width}\n{low:.2g} to {high:.2g}\ndiff. ±{peak:.2g}"
    )
    maps = [sequential(m, low, high) for m in (before, after)]
    return Row(said, (image if index == 0 else None, *maps, diverging(change, peak)))


def _noise(layer: Mapping[str, Any]) -> str:
    before, after = layer["channels"]
    if before != after:
        return f"{layer['name']}: {before} channels became {after}"
    return f"{layer['name']}: " + _ratio(layer, f"all {before} channels and samples")


def _ratio(found: Mapping[str, Any], over: str) -> str:
    """Signal over noise in words; also why there is none."""
    if found["snr_db"] is not None:
        return f"signal over noise {found['snr_db']:.1f} dB over {over}"
    return "no difference" if found["same"] else f"no signal over noise: values over {over} are not finite or all zero"


def made_section(
    kind: str, found: Mapping[str, Any], arrays: Mapping[str, Array], names: tuple[str, str]
) -> list[Section]:
    """Reconstructions or samples of both models, and eight times their difference."""
    before, after = arrays[f"{kind}.base"], arrays[f"{kind}.variant"]
    change = 8 * (after - before).mean(axis=-1)
    rows = [
        Row(names[0], tuple(shown_images(before))),
        Row(names[1], tuple(shown_images(after))),
        Row("difference x 8", tuple(diverging(change, 1.0))),
    ]
    encodes = kind == "reconstruction"
    if encodes:
        rows.insert(0, Row("image", tuple(shown_images(arrays[f"{kind}.input"]))))
    what = "Reconstructions" if encodes else "Samples"
    first = "first test image of each of the first classes" if encodes else "first vectors"
    text = (
        f"{what} by both models from the same {'images and the same noise' if encodes else 'latent vectors'}: the "
        f"{first}, and the two that compression changed most among the first {found['n']} of the test split. The "
        "difference is eight times as strong as it is: red is brighter in the compressed model, blue darker."
    )
    fact = f"{names[0]} and {names[1]}: {_ratio(found, str(found['n']) + ' outputs')}."
    picture = tile_grid(f"{kind}-{file_part(names[1])}.png", f"{what} by {names[0]} and {names[1]}", rows, (), _SIDE)
    return [Section(what, text, (picture,), (fact,))]


def shown_images(images: Array) -> list[Array]:
    """Images of 0..1 as tiles: (n, height, width, 1 or 3) -> uint8 (height, width, 3) each."""
    return [grey(i[..., 0]) if i.shape[-1] == 1 else (255 * i).round().astype(np.uint8) for i in images]


def _named(sample: Mapping[str, Any], classes: Sequence[str]) -> str:
    said = [_class(sample[key], classes) for key in ("label", "base", "variant")]
    answers = said[1] if said[1] == said[2] else f"{said[1]} > {said[2]}"
    return said[0] if said[0] == answers else f"{said[0]}\nsaid: {answers}"


def _class(index: int, classes: Sequence[str]) -> str:
    return classes[index] if index < len(classes) else str(index)


def _rank(value: float | None) -> str:
    return "rank corr. n/a" if value is None else f"rank corr. {value:.2f}"


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"…{name[-15:]}"
