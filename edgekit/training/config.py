"""How to train. Every default of training stands here."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(gt=0)]


class TrainConfig(BaseModel):
    """Training with AdamW and the one-cycle schedule (Smith and Topin 2017, arXiv:1708.07120).

    `accelerator`, `devices`, `strategy` and `precision` go to Lightning's Trainer as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 128
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.25
    patience: Annotated[PositiveInt | None, Field(description="epochs without gain before training stops")] = None
    seed: int = 0
    accelerator: str = "auto"
    devices: PositiveInt | str = 1
    strategy: str = "auto"
    precision: str = "32-true"
