"""What a recipe says about measuring. Every default of it stands here."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgekit.errors import unknown
from edgekit.ort import PROVIDERS

PositiveInt = Annotated[int, Field(gt=0)]


class BenchConfig(BaseModel):
    """Where and how to measure latency."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    providers: list[str] = Field(default=["cpu"], min_length=1)
    batch: list[PositiveInt] = Field(default=[1], min_length=1)
    threads: Annotated[PositiveInt | None, Field(description="by default what affinity and cgroup allow")] = None
    min_seconds: Annotated[float, Field(gt=0, description="measuring time of each model and batch")] = 1.0
    generate: Annotated[int, Field(ge=2, description="tokens that language models with a cache write")] = 32

    @field_validator("providers")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in PROVIDERS:
                raise ValueError(unknown("provider", name, PROVIDERS))
        return value
