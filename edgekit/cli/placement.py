"""edgekit bench: which device, what may fall back, what stays on the device, and what engines are built for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgekit.ort.tensorrt import ShapeRange

_PANEL = "Devices"


@dataclass(frozen=True)
class Placement:
    """The flags."""

    device: Annotated[
        int | None, typer.Option(min=0, help="Index of the GPU, as CUDA counts them.", rich_help_panel=_PANEL)
    ] = None
    allow_fallback: Annotated[
        bool,
        typer.Option(
            "--allow-fallback",
            help="Let the CPU take the place of a provider that is not there; the row says so. Exit 3 otherwise.",
            rich_help_panel=_PANEL,
        ),
    ] = False
    strict_placement: Annotated[
        bool,
        typer.Option("--strict-placement", help="Exit 3 if any node would run on the CPU.", rich_help_panel=_PANEL),
    ] = False
    io_binding: Annotated[
        bool | None,
        typer.Option(
            "--io-binding/--no-io-binding",
            help="Keep inputs and outputs on the device in steady runs; by default on GPUs.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    trt_profile: Annotated[
        list[str] | None,
        typer.Option(
            help="Shapes that TensorRT's engine takes, name=LEAST:BEST:MOST; by default those of all batches.",
            rich_help_panel=_PANEL,
        ),
    ] = None

    def asked(self) -> dict[str, Any]:
        """The flags as fields of a BenchRequest.

        Raises:
            BadParameter: for flags that contradict each other.
            ModelError: for what is no range of shapes.
        """
        if self.allow_fallback and self.strict_placement:
            raise typer.BadParameter("--strict-placement lets no node run on the CPU; --allow-fallback lets all")
        from edgekit.ort import Execution

        execution = Execution(
            device=self.device, allow_fallback=self.allow_fallback, strict_placement=self.strict_placement
        )
        ranges = _ranges(self.trt_profile or [])
        return {"execution": execution, "io_binding": self.io_binding, "engine_shapes": ranges}


def _ranges(texts: list[str]) -> dict[str, ShapeRange]:
    from edgekit.errors import ModelError
    from edgekit.ort.tensorrt import parse_range

    found: dict[str, ShapeRange] = {}
    for name, wanted in map(parse_range, texts):
        if name in found:
            raise ModelError(f"--trt-profile {name} is given twice; an engine has one range for each input")
        found[name] = wanted
    return found
