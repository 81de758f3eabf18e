"""How to train. Every default of training stands here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgekit.training.teaching import NotNegative, Share, TaughtConfig

PositiveInt = Annotated[int, Field(gt=0)]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class AugmentConfig(_Config):
    """Random changes of training pictures; none by default."""

    flip: Annotated[bool, Field(description="mirror every other picture, left to right")] = False
    shift: Annotated[int, Field(ge=0, description="pixels that a picture moves at most, each way")] = 0
    erase: Annotated[Share, Field(description="share of the pictures that get a box of noise")] = 0.0
    mixup: Annotated[NotNegative, Field(description="alpha of mixup's Beta distribution; 0 is off")] = 0.0
    cutmix: Annotated[NotNegative, Field(description="alpha of CutMix's Beta distribution; 0 is off")] = 0.0


class AttackConfig(_Config):
    """How pictures are changed so that a model gets them wrong; see `training.attacks`."""

    attack: Annotated[
        Literal["fgsm", "pgd"],
        Field(description="one step from a random start, or several: projected gradient descent"),
    ] = "pgd"
    epsilon: Annotated[float, Field(gt=0, le=1, description="most that a pixel between 0 and 1 changes")] = 0.03
    steps: Annotated[PositiveInt, Field(description="of pgd")] = 7
    step_size: Annotated[
        float | None, Field(gt=0, description="by default 2.5 epsilon / steps for pgd and 1.25 epsilon for fgsm")
    ] = None

    @property
    def rounds(self) -> int:
        """How many steps are taken."""
        return self.steps if self.attack == "pgd" else 1

    @property
    def step(self) -> float:
        """How far a pixel moves in one of them."""
        if self.step_size is not None:
            return self.step_size
        return 2.5 * self.epsilon / self.steps if self.attack == "pgd" else 1.25 * self.epsilon


class AdversarialConfig(AttackConfig):
    """Training on pictures that were changed against the model as it is (Madry et al. 2017, arXiv:1706.06083)."""

    share: Annotated[float, Field(gt=0, le=1, description="share of each batch that is changed")] = 0.5


class TrainConfig(_Config):
    """Training with AdamW and the one-cycle schedule (Smith and Topin 2017, arXiv:1708.07120).

    `accelerator`, `devices`, `strategy` and `precision` go to Lightning's Trainer; as they are, but for precision
    "auto".
    """

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 128
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    weight_decay: NotNegative = 1e-2
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.25
    augment: AugmentConfig = AugmentConfig()
    label_smoothing: Annotated[float, Field(ge=0, lt=1, description="share of a label that all classes share")] = 0.0
    ema: Annotated[
        float | None,
        Field(gt=0, lt=1, description="decay a step of the average of the weights that is judged and saved; 0.999"),
    ] = None
    clip_gradients: Annotated[float | None, Field(gt=0, description="largest norm of the gradient")] = None
    freeze: Annotated[
        list[str], Field(description='parameters that keep their values, by name or pattern, such as "features.*"')
    ] = Field(default_factory=list)
    init: Annotated[str | None, Field(description="checkpoint directory to start from; random weights otherwise")] = (
        None
    )
    adversarial: AdversarialConfig | None = None
    patience: Annotated[PositiveInt | None, Field(description="epochs without gain before training stops")] = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    accelerator: str = "auto"
    devices: Annotated[
        PositiveInt | str, Field(description="processes on each machine; batch_size is that of each of them")
    ] = 1
    num_nodes: Annotated[
        PositiveInt, Field(description="machines; each runs the same command with NODE_RANK, MASTER_ADDR, MASTER_PORT")
    ] = 1
    strategy: str = "auto"
    precision: Annotated[
        str,
        Field(
            description='Lightning\'s precision, such as "32-true"; auto: bfloat16 where the machine is faster in it'
        ),
    ] = "auto"

    @property
    def has_several_processes(self) -> bool:
        """Whether more than one process trains, or may."""
        return self.num_nodes > 1 or self.devices not in (1, "1")

    def as_key(self) -> dict[str, Any]:
        """What was set and changes the weights; an option that a later edgekit adds does not change it.

        `init` is left out: what counts is what lies there (`training.start.start_key`).
        """
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"init"})


class FineTuneConfig(TrainConfig):
    """Training on after a model was changed.

    What is not said here is as the model itself was trained, but for the keys that this class has defaults of.
    """

    epochs: PositiveInt = 3
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    distill: Annotated[TaughtConfig | None, Field(description="learning from the base as well as from labels")] = None

    def after(self, trained: TrainConfig) -> TrainConfig:
        """What to train with.

        Args:
            trained: How the model itself was trained.
        """
        own = set(FineTuneConfig.__annotations__) | self.model_fields_set
        said = {name: getattr(self, name) for name in TrainConfig.model_fields if name in own}
        return trained.model_copy(update={"init": None, **said})
