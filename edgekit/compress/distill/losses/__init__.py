"""The losses of distillation. A new one: one module here, one line in LOSSES, one test."""

from edgekit.compress.distill.losses.decoupled import DECOUPLED
from edgekit.compress.distill.losses.features import FEATURES
from edgekit.compress.distill.losses.logits import LOGITS
from edgekit.compress.distill.losses.loss import Loss, Pair, Term
from edgekit.compress.distill.losses.outputs import OUTPUTS
from edgekit.compress.distill.losses.relation import RELATION
from edgekit.compress.distill.losses.transformer import TRANSFORMER

LOSSES: dict[str, Loss] = {x.name: x for x in (LOGITS, DECOUPLED, FEATURES, TRANSFORMER, RELATION, OUTPUTS)}

__all__ = ["LOSSES", "Loss", "Pair", "Term"]
