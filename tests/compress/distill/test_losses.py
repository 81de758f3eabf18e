"""Each loss against its equation, written out in NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekit.compress.distill.losses import LOSSES, Pair
from edgekit.compress.distill.losses.decoupled import decoupled_divergence
from edgekit.compress.distill.losses.features import feature_loss
from edgekit.compress.distill.losses.logits import softened_divergence
from edgekit.compress.distill.losses.outputs import match_autoencoders, match_outputs
from edgekit.compress.distill.losses.positions import mean_of_steps
from edgekit.compress.distill.losses.relation import angle_loss, distance_loss
from edgekit.compress.distill.losses.transformer import attention_loss, attention_scores, evenly
from edgekit.specs import Array
from edgekit.training.augment import Mixture
from edgekit.training.objective import LearningBatch
from edgekit.training.seen import Seen
from edgekit.training.teaching import LOSS_NAMES, TAKES, TeachingConfig

RNG = np.random.default_rng(7)
CLASSES = 5


def draw(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def softmax(x: Array) -> Array:
    odds = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(odds / odds.sum(-1, keepdims=True))


def divergence(p: Array, q: Array) -> Array:
    return np.asarray((p * np.log(p / q)).sum(-1))


def huber(x: Array) -> float:
    return float(np.where(np.abs(x) < 1, 0.5 * x**2, np.abs(x) - 0.5).mean())


def tensor(x: Array) -> Tensor:
    return torch.from_numpy(np.asarray(x))


def batch(inputs: Mapping[str, Tensor], mixed: Mixture | None = None) -> LearningBatch:
    return LearningBatch(inputs, inputs, mixed or Mixture(None), torch.arange(1), lambda: torch.zeros(()))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_softened_divergence(temperature: float) -> None:
    s, t = 3 * draw(6, CLASSES), 3 * draw(6, CLASSES)
    wanted = temperature**2 * divergence(softmax(t / temperature), softmax(s / temperature))
    assert softened_divergence(tensor(s), tensor(t), temperature).numpy() == pytest.approx(wanted, rel=1e-5)
    assert float(softened_divergence(tensor(t), tensor(t), temperature).abs().max()) < 1e-6


def test_its_gradient_at_high_temperature_is_that_of_matched_logits() -> None:
    """Hinton et al. 2015, equation 4: (z - v) / N for logits of zero mean, where T^2 makes up for T."""
    s, t = draw(1, CLASSES), draw(1, CLASSES)
    s, t = s - s.mean(), t - t.mean()
    ours = tensor(s).requires_grad_()
    softened_divergence(ours, tensor(t), 1000.0).sum().backward()
    assert ours.grad is not None
    assert ours.grad.numpy() == pytest.approx((s - t) / CLASSES, abs=5e-3)


def test_decoupled_divergence() -> None:
    s, t, labels = 3 * draw(6, CLASSES), 3 * draw(6, CLASSES), RNG.integers(0, CLASSES, 6)
    heat, alpha, beta, rows = 2.0, 1.5, 8.0, []
    for ours, theirs, label in zip(s, t, labels, strict=True):
        p, q = softmax(theirs / heat), softmax(ours / heat)
        of_target = divergence(np.array([p[label], 1 - p[label]]), np.array([q[label], 1 - q[label]]))
        of_others = divergence(*(softmax(np.delete(z, label) / heat) for z in (theirs, ours)))
        rows.append(heat**2 * (alpha * of_target + beta * of_others))
    found = decoupled_divergence(tensor(s), tensor(t), torch.from_numpy(labels), heat, alpha, beta)
    assert float(found) == pytest.approx(np.mean(rows), rel=1e-5)


def test_decoupled_with_the_paper_s_own_weights_is_plain_distillation() -> None:
    """Equation 6: KD = TCKD + (1 - p_target of the teacher) NCKD."""
    s, t = draw(1, CLASSES), draw(1, CLASSES)
    label = torch.tensor([2])
    others = float(1 - softmax(t)[0, 2])
    found = decoupled_divergence(tensor(s), tensor(t), label, 1.0, 1.0, others)
    assert float(found) == pytest.approx(float(divergence(softmax(t), softmax(s))[0]), rel=1e-5)


def test_decoupled_of_mixed_labels_is_mixed_and_without_labels_takes_the_teacher_s() -> None:
    term = LOSSES["decoupled"].make(TeachingConfig(), pair())
    s, t = Seen([tensor(draw(4, CLASSES))]), Seen([tensor(draw(4, CLASSES))])
    first, second = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 1, 0, 4])
    apart = [float(term.compare(s, t, batch({}, Mixture(x)))) for x in (first, second)]
    mixed = float(term.compare(s, t, batch({}, Mixture(first, second, 0.3))))
    assert mixed == pytest.approx(0.3 * apart[0] + 0.7 * apart[1], rel=1e-6)
    likeliest = float(term.compare(s, t, batch({}, Mixture(t.outputs[0].argmax(-1)))))
    assert float(term.compare(s, t, batch({}))) == pytest.approx(likeliest)


def test_distance_and_angle_losses() -> None:
    s, t = draw(5, 3), draw(5, 7)
    relations, angles = [], []
    for x in (s, t):
        apart = np.array([[np.linalg.norm(a - b) for b in x] for a in x])
        relations.append(apart / (apart.sum() / 20))
        cosines = np.zeros((5, 5, 5))
        for j, i, k in itertools.product(range(5), repeat=3):
            if j not in (i, k):
                a, b = x[i] - x[j], x[k] - x[j]
                cosines[j, i, k] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        angles.append(cosines)
    assert float(distance_loss(tensor(s), tensor(t))) == pytest.approx(huber(relations[0] - relations[1]), rel=1e-4)
    assert float(angle_loss(tensor(s), tensor(t))) == pytest.approx(huber(angles[0] - angles[1]), rel=1e-4)


def test_relations_of_equal_samples_have_gradients_that_are_finite() -> None:
    same = torch.ones(4, 3, requires_grad=True)
    (distance_loss(same, tensor(draw(4, 3))) + angle_loss(same, tensor(draw(4, 3)))).backward()
    assert same.grad is not None
    assert bool(torch.isfinite(same.grad).all())


def test_feature_loss_of_maps_steps_and_vectors() -> None:
    s, t = draw(2, 3, 4, 4), draw(2, 3, 2, 2)
    pooled = s.reshape(2, 3, 2, 2, 2, 2).mean((3, 5))
    assert float(feature_loss(tensor(s), tensor(t))) == pytest.approx(np.square(pooled - t).mean(), rel=1e-6)
    a, b = draw(2, 3, 4), draw(2, 3, 4)
    there = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    wanted = (np.square(a - b).mean(-1) * there).sum() / 3
    assert float(feature_loss(tensor(a), tensor(b), tensor(there))) == pytest.approx(wanted, rel=1e-6)
    assert float(feature_loss(tensor(a[0]), tensor(b[0]))) == pytest.approx(np.square(a[0] - b[0]).mean(), rel=1e-6)


def test_attention_scores_and_their_loss() -> None:
    q, k = draw(2, 3, 8), draw(2, 3, 8)
    wanted = np.einsum("nahd,nbhd->nhab", q.reshape(2, 3, 2, 4), k.reshape(2, 3, 2, 4)) / 2
    scores = attention_scores(tensor(q), tensor(k), 2)
    assert scores.numpy() == pytest.approx(wanted, rel=1e-6)
    other, there = draw(2, 2, 3, 3), np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    both = there[:, None, :, None] * there[:, None, None, :]
    mean = (np.square(wanted - other) * both).sum() / (2 * (9 + 4))
    assert float(attention_loss(scores, tensor(other), tensor(there))) == pytest.approx(mean, rel=1e-6)
    three = draw(2, 3, 3, 3)
    averaged = (np.square(wanted.mean(1) - three.mean(1)) * both[:, 0]).sum() / 13
    assert float(attention_loss(scores, tensor(three), tensor(there))) == pytest.approx(averaged, rel=1e-6)


@pytest.mark.parametrize(
    ("students", "teachers", "wanted"),
    [(3, 6, [1, 3, 5]), (4, 12, [2, 5, 8, 11]), (2, 2, [0, 1]), (4, 2, [0, 0, 1, 1]), (1, 5, [4])],
)
def test_blocks_are_mapped_evenly_and_the_last_to_the_last(students: int, teachers: int, wanted: list[int]) -> None:
    assert evenly(students, teachers) == wanted


def test_matched_outputs() -> None:
    s, t = draw(3, 1, 4, 4), draw(3, 1, 4, 4)
    assert float(match_outputs(tensor(s), tensor(t), "l2")) == pytest.approx(np.square(s - t).mean(), rel=1e-6)
    assert float(match_outputs(tensor(s), tensor(t), "l1")) == pytest.approx(np.abs(s - t).mean(), rel=1e-6)


def test_matched_autoencoders_are_divergences_of_pixels_and_latents() -> None:
    def outputs() -> list[Array]:
        logits = draw(3, 1, 2, 2)
        return [1 / (1 + np.exp(-logits)), draw(3, 2), 0.3 * draw(3, 2), logits]

    s, t = outputs(), outputs()
    p, q = t[0], s[0]
    pixels = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum() / 3
    (m, v), (n, w) = t[1:3], s[1:3]
    latents = 0.5 * (w - v + (np.exp(v) + (m - n) ** 2) / np.exp(w) - 1).sum() / 3
    found = match_autoencoders([tensor(x) for x in s], [tensor(x) for x in t])
    assert float(found) == pytest.approx(pixels + latents, rel=1e-5)
    wider = [t[0], draw(3, 5), draw(3, 5), t[3]]
    assert float(match_autoencoders([tensor(x) for x in s], [tensor(x) for x in wider])) == pytest.approx(
        pixels, rel=1e-5
    )


def test_padding_counts_nothing() -> None:
    values = tensor(np.array([[1.0, 2.0, 90.0], [3.0, 90.0, 90.0]]))
    ids = torch.zeros(2, 3, dtype=torch.int64)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert float(mean_of_steps(values, batch({"ids": ids, "mask": mask}))) == pytest.approx(2.0)
    assert float(mean_of_steps(values, batch({"series": ids, "lengths": torch.tensor([2, 1])}))) == pytest.approx(2.0)
    pairs = {"source": ids, "mask": torch.ones(2, 3), "target": ids}
    labels = torch.tensor([[4, 5, -100], [4, -100, -100]])
    assert float(mean_of_steps(values, batch(pairs, Mixture(labels)))) == pytest.approx(2.0)
    assert float(mean_of_steps(values, batch({"ids": ids}))) == pytest.approx(276 / 6)
    assert float(mean_of_steps(values[:, 0], batch({"ids": ids, "mask": mask}))) == pytest.approx(2.0)


def pair(task: str = "classification") -> Pair:
    linear = torch.nn.Linear(3, CLASSES)
    x = [torch.zeros(2, 3)]
    return Pair(linear, linear, x, x, task)


def test_logits_of_several_outputs_are_added() -> None:
    """Masked tokens and next sentences: each output is logits of its own."""
    term = LOSSES["logits"].make(TeachingConfig(temperature=1.0), pair("masked-language-modelling"))
    s, t = (Seen([tensor(draw(2, 3, CLASSES)), tensor(draw(2, 2))]) for _ in range(2))
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    tokens = divergence(softmax(t.outputs[0].numpy()), softmax(s.outputs[0].numpy()))
    follows = divergence(softmax(t.outputs[1].numpy()), softmax(s.outputs[1].numpy()))
    wanted = (tokens * mask.numpy()).sum() / 5 + follows.mean()
    ids = torch.zeros(2, 3, dtype=torch.int64)
    assert float(term.compare(s, t, batch({"ids": ids, "mask": mask}))) == pytest.approx(wanted, rel=1e-5)


def test_there_is_a_loss_for_each_name_and_options_for_each_loss() -> None:
    assert tuple(LOSSES) == LOSS_NAMES
    assert set(TAKES) == {*LOSS_NAMES, "sequences"}
