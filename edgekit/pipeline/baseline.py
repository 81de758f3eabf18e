"""What a model must beat to be worth anything: PCA of the same width, or the same network before it was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.data import DataSet
from edgekit.evaluate import Runner, evaluate, scores_of
from edgekit.tasks import Metric
from edgekit.tasks.metric import summarise
from edgekit.tasks.pca import best_floor, likelihood, principal_components
from edgekit.tasks.reconstruction import DIVERGENCE, ELBO

if TYPE_CHECKING:
    from edgekit.training.checkpoint import ModelCard


def components_of_the_same_width(base: Runner, data: DataSet) -> dict[str, Any]:
    """PCA with as many components as the model has latents, judged by the same Bernoulli likelihood on test pictures.

    Nothing is charged to PCA for its numbers, where the model pays the divergence; that favours PCA. Its components and
    the floor of its pixels are chosen on training pictures.

    Returns:
        `name`, `metric` of PCA, `terms` of the model's ELBO (likelihood and divergence, in nats) and a `note`.
    """
    terms = scores_of(base, data.splits["test"], [ELBO, DIVERGENCE])
    latent = next(int(spec.shape[1]) for spec in base.inputs if spec.name in data.latents)
    train, test = (data.splits[s].arrays[data.inputs[0].name] for s in ("train", "test"))
    components = principal_components(train, latent)
    floor = best_floor(components, train[:5000])
    divergence = float(terms[DIVERGENCE.name].mean())
    return {
        "name": f"PCA of {latent} components",
        "metric": summarise(ELBO, likelihood(components, test, floor)).as_dict(),
        "terms": {"likelihood": float(terms[ELBO.name].mean()) + divergence, "divergence": divergence},
        "note": f"reconstruction held within {floor:g}..{1 - floor:g} and scored by the same Bernoulli likelihood; no "
        "divergence is charged to PCA",
    }


def untrained(card: ModelCard, data: DataSet, metric: Metric, seed: int) -> dict[str, Any]:
    """The network as it was before training, judged as the trained one is.

    Returns:
        `name`, `metric` and a `note`.
    """
    import torch

    from edgekit.training.checkpoint import TrainedModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TrainedModel(card.build().eval(), card)
    return {
        "name": "the untrained network",
        "metric": evaluate(model, data.splits["test"], metric).as_dict(),
        "note": "the same noise and the same judge",
    }
