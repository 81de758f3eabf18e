"""How a model may learn from a teacher while it is trained. Every default of it stands here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from edgekit.errors import unknown

NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
LossName = Literal["logits", "decoupled", "features", "transformer", "relation", "outputs"]
LOSS_NAMES: tuple[str, ...] = get_args(LossName)
_Index = Annotated[int, Field(ge=0)]

# Which losses take which option; the others take none.
TAKES: Mapping[str, tuple[str, ...]] = {
    "logits": ("temperature",),
    "decoupled": ("temperature", "target", "others"),
    "features": ("pairs",),
    "transformer": ("blocks",),
    "relation": ("distance", "angle"),
    "outputs": ("norm",),
    "sequences": ("temperature", "prompt"),
}


class TeachingConfig(BaseModel):
    """How a model learns from a teacher, whatever the method: `weight` of its loss, the rest of the task's."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    weight: Annotated[Share, Field(description="share of the teacher's loss; the rest is of the labels")] = 0.9
    also: Annotated[
        Annotated[list[LossName], Tag("a list")] | Annotated[dict[LossName, NotNegative], Tag("a mapping")],
        Discriminator(lambda value: "a list" if isinstance(value, list) else "a mapping"),
        Field(description="further losses, with what each is multiplied by: {features: 10}"),
    ] = Field(default_factory=dict)
    temperature: Annotated[float, Field(gt=0, le=100, description="logits of both are divided by it")] = 4.0
    target: Annotated[NotNegative, Field(description="decoupled: of what is said of the right class")] = 1.0
    others: Annotated[NotNegative, Field(description="decoupled: of what is said of the wrong ones")] = 8.0
    pairs: Annotated[
        dict[str, str] | None,
        Field(description="features: layer of the student: layer of the teacher; by default those of equal size"),
    ] = None
    blocks: Annotated[
        list[_Index] | None,
        Field(description="transformer: the teacher's block for each of the student's, from 0; evenly by default"),
    ] = None
    distance: Annotated[NotNegative, Field(description="relation: of distances between pairs of samples")] = 25.0
    angle: Annotated[NotNegative, Field(description="relation: of angles between three samples")] = 50.0
    norm: Annotated[Literal["l1", "l2"], Field(description="outputs: of their difference")] = "l2"

    @property
    def further(self) -> dict[str, float]:
        """The losses of `also`, each with its weight."""
        given = self.also.items() if isinstance(self.also, dict) else ((name, 1.0) for name in self.also)
        return {str(name): weight for name, weight in given}

    @field_validator("also", mode="before")
    @classmethod
    def _known_losses(cls, value: Any) -> Any:
        for name in value if isinstance(value, (list, dict)) else ():
            if name not in LOSS_NAMES:
                raise ValueError(unknown("loss", name, LOSS_NAMES))
        return value

    def refuse_unused(self, method: str) -> None:
        """Refuse options that none of the losses takes.

        Raises:
            ValueError: for the first of them.
        """
        names = (method, *self.further)
        if len(set(names)) < len(names):
            raise ValueError(f"also: {method!r} is the method itself; leave it out there")
        taken = {option for name in names for option in TAKES[name]}
        options = {option for found in TAKES.values() for option in found}
        for name in sorted((self.model_fields_set & options) - taken):
            users = ", ".join(loss for loss, found in TAKES.items() if name in found)
            raise ValueError(f"{name}: is for {users}, and this is {', '.join(names)}; leave it out")


class TaughtConfig(TeachingConfig):
    """Learning from the uncompressed model while a compressed one is trained on."""

    method: LossName = "logits"

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        self.refuse_unused(self.method)
        return self
