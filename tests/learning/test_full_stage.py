"""A funnel whose later stage has a mind of its own: when learning all levels beats interest."""

import pytest
import torch

from cascaderank.evaluation import funnel_utility
from cascaderank.objectives import build_objective

REQUESTS, LENGTH, DIM, QUOTA = 600, 40, 6, 10


@pytest.fixture(scope="module")
def world():
    """Interest and the later stage's preference are told by different parts of the features."""
    g = torch.Generator().manual_seed(0)
    features = torch.randn(REQUESTS, LENGTH, 2 * DIM, generator=g)
    taste, bias = torch.randn(2, DIM, generator=g)
    taste, bias = taste / taste.norm(), bias / bias.norm()
    interest = torch.sigmoid(1.5 * (features[..., :DIM] @ taste) - 1)
    # Somewhat the user's interest, mostly its own.
    later = 2.0 * (features[..., DIM:] @ bias) + 0.5 * (features[..., :DIM] @ taste)
    return features, interest, later


def learnt(world, objective, levels, rows):
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


def test_where_what_passes_must_beat_a_cut_interest_is_worth_least(world):
    """Assumption 1: a candidate passes by itself, as where other sources fill the later stage.

    By p r most, by what was learnt from levels nearly so, by r least.
    """
    _, interest, later = world
    g = torch.Generator().manual_seed(1)
    chance = torch.sigmoid(3 * (later - 2))
    # The logging system retrieved by chance.
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
        "levels": learnt(world, all_levels, levels, train),
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
    assert gain.mean() / (gain.std() / len(gain) ** 0.5) > 4, "not by chance"


def test_where_only_what_the_stage_passes_competes_interest_may_be_worth_most(world):
    """Without assumption 1: a later stage that must take some takes of what users like."""
    _, interest, later = world
    ask = {"quota": QUOTA, "later": later[None], "later_quotas": (4,)}
    by_interest = funnel_utility(interest, interest, **ask).mean()
    by_product = funnel_utility(interest * torch.sigmoid(later), interest, **ask).mean()
    assert by_interest > by_product > funnel_utility(later, interest, **ask).mean()
