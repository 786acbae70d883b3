"""Contract of every stage that can be explained: effects of features add up to the difference."""

import math

import pytest
import torch

from cascaderank.batch import RequestBatch
from cascaderank.cascade import build_stage
from cascaderank.errors import ConfigError
from cascaderank.evaluation.feature_effects import can_explain, feature_effects
from cascaderank.schema import Role
from cascaderank.stages import STAGES
from tests.contracts.test_stages import ALL, NETWORKS, SCHEMA, VARIANTS, as_named, built, make_batch

OF_ITEMS = [name for name in ALL if SCHEMA[name].role is Role.ITEM]


def one_request(seed=0):
    """A request with six candidates, of which the first lacks its score and the second its text."""
    batch = make_batch(lists=1, seed=seed)
    return RequestBatch(
        mask=batch.mask,
        items={n: v for n, v in batch.items.items() if n != "unused"},
        request=batch.request,
        history=batch.history,
        history_mask=batch.history_mask,
    )


def trained(name):
    """The stage with larger weights, so that a path crosses many bends of the activations."""
    stage = built(name)
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return stage


@pytest.mark.parametrize("name", [*NETWORKS, *VARIANTS])
@pytest.mark.parametrize("pair", [(0, 3), (4, 1), (5, 2)])
def test_effects_add_up_to_the_difference_of_the_scores(name, pair):
    stage, batch = trained(name), one_request()
    assert can_explain(stage)
    with torch.no_grad():
        scores = stage(batch)[0].double()
    before = {n: v.clone() for n, v in stage.state_dict().items()}
    found = feature_effects(stage, batch, candidate=pair[0], other=pair[1])
    assert found.difference == pytest.approx(float(scores[pair[0]] - scores[pair[1]]), abs=1e-5)
    total = math.fsum(found.effects.values())
    assert total == pytest.approx(found.difference, rel=1e-5, abs=1e-9)
    assert total + found.rest == pytest.approx(found.difference, rel=1e-9)
    assert set(found.effects) == set(OF_ITEMS)
    sizes = [abs(effect) for effect in found.effects.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) > 0
    for n, value in stage.state_dict().items():
        assert torch.equal(value, before[n]), "the stage is not changed"


@pytest.mark.parametrize("name", [*NETWORKS, *VARIANTS])
def test_equal_features_have_no_effect_and_the_opposite_pair_the_opposite_effects(name):
    stage, batch = trained(name), one_request()
    for values in batch.items.values():
        values[:, 4] = values[:, 3]
    batch.items["price"][:, 4] += 1
    found = feature_effects(stage, batch, candidate=4, other=3)
    assert set(found.effects) == set(OF_ITEMS)
    assert all(effect == 0 for n, effect in found.effects.items() if n != "price")
    assert found.effects["price"] == pytest.approx(found.difference, rel=1e-4)
    reverse = feature_effects(stage, batch, candidate=3, other=4)
    assert reverse.effects["price"] == pytest.approx(-found.effects["price"], rel=1e-4)


@pytest.mark.parametrize("name", ["linear", "linear prior"])
def test_a_linear_stage_gives_each_feature_its_weight_times_the_difference(name):
    stage, batch = trained(name).requires_grad_(False), one_request()
    found = feature_effects(stage, batch, candidate=0, other=3)
    items = stage.embedder.items(batch)[0].double()
    weights = stage.weights.both.weight[0, stage.embedder.request_dim :].double()
    parts = ((items[0] - items[3]) * weights).split(list(stage.embedder.item_fields.values()))
    expected = dict(zip(stage.embedder.item_fields, (float(p.sum()) for p in parts), strict=True))
    if stage.prior is not None:
        value = stage.prior(batch)[0].double()
        expected["score"] += float(value[0] - value[3])
        assert float(value[0]) == float(stage.prior.missing * stage.prior.weight)
    for feature, effect in expected.items():
        assert found.effects[feature] == pytest.approx(effect, rel=1e-12, abs=1e-12)


def test_effects_agree_with_a_plain_integral_of_finite_differences():
    """Midpoints of the path, and central differences in each encoded input, in plain loops."""
    features = ["user", "price", "score"]
    torch.manual_seed(1)
    stage = build_stage("mlp", SCHEMA, features=features, options={"hidden": [4], "dim": 2}).eval()
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.mul_(3)
    stage, batch = stage.double(), one_request()
    batch.items["price"][:] *= 2
    found = feature_effects(stage, batch, candidate=0, other=3)
    request = stage.embedder.request(batch).double()
    ends = stage.embedder.items(batch)[0].double()

    def score(vector):
        with torch.no_grad():
            return float(stage.network(request, vector[None, None])[0, 0])

    steps, h, effects = 400, 1e-6, [0.0] * ends.shape[-1]
    for i in range(steps):
        at = ends[3] + (ends[0] - ends[3]) * (i + 0.5) / steps
        for j in range(len(effects)):
            side = torch.zeros_like(at)
            side[j] = h
            slope = (score(at + side) - score(at - side)) / (2 * h)
            effects[j] += slope * float(ends[0, j] - ends[3, j]) / steps
    assert list(stage.embedder.item_fields.items()) == [("price", 1), ("score", 2)]
    assert found.effects["price"] == pytest.approx(effects[0], rel=5e-3)
    assert found.effects["score"] == pytest.approx(effects[1] + effects[2], rel=5e-3)


@pytest.mark.parametrize("name", sorted(set(STAGES) - set(NETWORKS)))
def test_stages_without_an_embedder_are_refused_in_one_line(name):
    stage = as_named(name)
    assert not can_explain(stage)
    with pytest.raises(ConfigError, match="need a stage with an embedder; BoostedTrees has none"):
        feature_effects(stage, one_request(), candidate=0, other=1)


def test_one_request_at_a_time():
    with pytest.raises(ConfigError, match="a batch of one request; got 3"):
        feature_effects(built("linear"), make_batch(), candidate=0, other=1)
