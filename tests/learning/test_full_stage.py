"""A funnel whose later stage has a preference of its own: all levels against interest alone."""

import pytest
import torch

from cascaderank.evaluation import funnel_utility
from cascaderank.objectives import build_objective

REQUESTS, LENGTH, DIM, QUOTA = 600, 40, 6, 10


@pytest.fixture(scope="module")
def world():
    """Interest and the later stage's preference depend on different parts of the features."""
    g = torch.Generator().manual_seed(0)
    features = torch.randn(REQUESTS, LENGTH, 2 * DIM, generator=g)
    taste, bias = torch.randn(2, DIM, generator=g)
    taste, bias = taste / taste.norm(), bias / bias.norm()
    interest = torch.sigmoid(1.5 * (features[..., :DIM] @ taste) - 1)
    # Partly the user's interest, mostly its own preference.
    later = 2.0 * (features[..., DIM:] @ bias) + 0.5 * (features[..., :DIM] @ taste)
    return features, interest, later


def trained_scores(world, objective, levels, rows):
    features = world[0]
    torch.manual_seed(0)
    weight = torch.zeros(2 * DIM, requires_grad=True)
    with torch.no_grad():
        weight.normal_(std=0.1)
    optimizer = torch.optim.Adam([weight], lr=0.05)
    for _ in range(120):
        out = objective((features[rows] @ weight)[None], levels[rows].float(), levels=levels[rows])
        optimizer.zero_grad()
        out.total.backward()
        optimizer.step()
    return (features @ weight).detach()


def test_with_an_absolute_cut_ranking_by_interest_has_the_least_utility(world):
    """Assumption 1: candidates pass independently, as if other sources fill the later stage.

    The utility is largest for p r, close to it for scores trained on levels, and least for r.
    """
    _, interest, later = world
    g = torch.Generator().manual_seed(1)
    chance = torch.sigmoid(3 * (later - 2))
    # The logging system retrieved at random.
    kept = torch.rand(interest.shape, generator=g).argsort(-1).argsort(-1) < QUOTA
    exposed = kept & (torch.rand(interest.shape, generator=g) < chance)
    liked = exposed & (torch.rand(interest.shape, generator=g) < interest)
    levels = kept.long() + exposed.long() + liked.long()
    train, test = torch.arange(400), torch.arange(400, REQUESTS)

    task = {"stages": 1, "quotas": (QUOTA,)}
    all_levels = build_objective("fs_lambdarank", **task, z=(0, 0, 2, 3))
    scores = {
        "chance": torch.rand(interest.shape, generator=g),
        "interest": interest,
        "levels": trained_scores(world, all_levels, levels, train),
        "product": interest * chance,
    }
    each = {
        name: funnel_utility(of, interest * chance, quota=QUOTA)[test].double()
        for name, of in scores.items()
    }
    worth = {name: of.mean().item() for name, of in each.items()}
    assert worth["product"] > worth["levels"] > worth["interest"] > worth["chance"]
    assert worth["levels"] - worth["interest"] > 0.5 * (worth["product"] - worth["interest"])
    gain = each["levels"] - each["interest"]
    assert gain.mean() / (gain.std() / len(gain) ** 0.5) > 4, "the difference must be significant"


def test_with_a_relative_cut_ranking_by_interest_may_have_the_largest_utility(world):
    """Without assumption 1: the later stage keeps a fixed number of what this stage passes."""
    _, interest, later = world
    quotas = {"quota": QUOTA, "later": later[None], "later_quotas": (4,)}
    by_interest = funnel_utility(interest, interest, **quotas).mean()
    by_product = funnel_utility(interest * torch.sigmoid(later), interest, **quotas).mean()
    assert by_interest > by_product > funnel_utility(later, interest, **quotas).mean()
