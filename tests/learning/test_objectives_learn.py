"""Every objective trains a small planted cascade to a recall far above chance."""

import pytest
import torch

from cascaderank.metrics import cascade_recall_metric
from cascaderank.objectives import OBJECTIVES, build_objective

LENGTH, QUOTAS, K = 20, (10, 6), 4
CHANCE = QUOTAS[-1] / LENGTH


@pytest.fixture(scope="module")
def planted():
    """Features and labels of a linear ranker; the first stage has half of the features."""
    g = torch.Generator().manual_seed(0)
    features = torch.randn(320, LENGTH, 8, generator=g)
    quality = features.sum(-1) + torch.randn(320, LENGTH, generator=g)
    labels = quality.argsort(-1).argsort(-1).float()  # 0 to 19, best last
    return features, labels, (labels / 5).long()


def joint_recall(name, planted, steps, **options):
    """Joint recall of held-out requests after a number of training steps."""
    features, labels, levels = planted
    task = {"stages": 2, "quotas": QUOTAS, "ground_truth": K}
    if "ground_truth" not in OBJECTIVES.options(name):
        del task["ground_truth"]
    objective = build_objective(name, **task, **options)
    weights = [torch.zeros(4, requires_grad=True), torch.zeros(8, requires_grad=True)]
    with torch.no_grad():
        g = torch.Generator().manual_seed(1)
        for weight in weights:
            weight.copy_(0.3 * torch.randn(weight.shape, generator=g))

    def scores(rows):
        return torch.stack([features[rows, :, : len(w)] @ w for w in weights])

    optimizer = torch.optim.Adam([*weights, *objective.parameters()], lr=0.1)
    for step in range(steps):
        rows = torch.arange(64) + 64 * (step % 3)
        out = objective(
            scores(rows), labels[rows], levels=levels[rows], progress=step / max(steps, 1)
        )
        optimizer.zero_grad()
        out.total.backward()
        optimizer.step()
    held_out = torch.arange(192, 320)
    with torch.no_grad():
        recall = cascade_recall_metric(scores(held_out), labels[held_out], quotas=QUOTAS, k=K)
    return recall.mean().item()


def test_without_training_recall_is_at_chance(planted):
    assert joint_recall("bce", planted, steps=0) < CHANCE + 0.1


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_recall_is_far_above_chance(planted, name):
    assert joint_recall(name, planted, steps=40) > CHANCE + 0.25


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lcron", {"temperature": {"start": 100.0, "end": 10.0}}),
        ("lcron", {"weights": 0.0}),
        ("lcron", {"end_to_end": 0.0}),
        ("conditional_survival", {"warm_up": 1.0}),
        ("arf", {"operator": "soft_sort", "relative_temperature": True}),
        ("icc", {"operator": "sigmoid", "temperature": 1.0}),
    ],
    ids=str,
)
def test_recall_is_far_above_chance_with_options(planted, name, options):
    assert joint_recall(name, planted, steps=40, **options) > CHANCE + 0.25
