"""A prior: the untrained stage ranks as the feature does; a linear layer beside a perceptron."""

import pytest
import torch

from cascaderank.batch import RequestBatch
from cascaderank.cascade import build_stage
from cascaderank.errors import ConfigError
from cascaderank.evaluation.feature_order import FeatureOrder
from cascaderank.losses.bce import bce_loss
from cascaderank.metrics import ndcg_metric
from cascaderank.schema import Feature, FittedSchema
from cascaderank.selection import best_first
from cascaderank.stages import multiply_adds

SCHEMA = FittedSchema(
    features=(
        Feature(name="user", role="request", kind="categorical", buckets=9),
        Feature(name="age", role="request", kind="numeric"),
        Feature(name="shop", role="item", kind="categorical", buckets=9),
        Feature(name="bm25", role="item", kind="numeric", missing=True),
        Feature(name="price", role="item", kind="numeric"),
        Feature(name="text", role="item", kind="numeric", width=2),
        Feature(name="unread", role="item", kind="numeric"),
    )
)
READ = ["*", "!unread"]
WITH_PRIOR = [
    ("linear", {}),
    ("mlp", {"hidden": [8, 4]}),
    ("mlp", {"hidden": [8], "linear_skip": True}),
    ("mlp", {"hidden": [8], "norm": "layer", "dropout": 0.5}),
]


def batch_of(lists=4, length=30, seed=0):
    g = torch.Generator().manual_seed(seed)
    bm25 = torch.randn(lists, length, generator=g)
    bm25[torch.rand(lists, length, generator=g) < 0.3] = torch.nan
    return RequestBatch(
        mask=torch.arange(length) < torch.tensor([length, 20, 7, 1])[:lists, None],
        items={
            "shop": torch.randint(0, 10, (lists, length), generator=g),
            "bm25": bm25,
            "price": torch.randn(lists, length, generator=g),
            "text": torch.randn(lists, length, 2, generator=g),
        },
        request={
            "user": torch.randint(0, 10, (lists,), generator=g),
            "age": torch.randn(lists, generator=g),
        },
    )


def order(scores, mask):
    return best_first(scores.masked_fill(~mask, -torch.inf))


@pytest.mark.parametrize(("model", "options"), WITH_PRIOR)
@pytest.mark.parametrize("prior", ["bm25", "price"])
def test_an_untrained_stage_ranks_as_its_prior_with_missing_values_last(model, options, prior):
    torch.manual_seed(0)
    stage = build_stage(model, SCHEMA, features=READ, options={**options, "prior": prior})
    batch = batch_of()
    scores = stage(batch)
    by_feature = FeatureOrder(prior)(batch)
    assert torch.equal(order(scores, batch.mask), order(by_feature, batch.mask))
    values = batch.items[prior]
    present = batch.mask & ~values.isnan()
    assert torch.equal(scores[present], values[present])


@pytest.mark.parametrize(("model", "options"), WITH_PRIOR)
def test_training_reaches_all_parts_beside_a_prior(model, options):
    torch.manual_seed(0)
    stage = build_stage(model, SCHEMA, features=READ, options={**options, "prior": "bm25"})
    batch, before = batch_of(), [p.clone() for p in stage.parameters()]
    optimizer = torch.optim.Adam(stage.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        stage(batch)[batch.mask].sub(1).square().sum().backward()
        optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, stage.parameters(), strict=True))


def test_a_perceptron_starts_from_the_linear_layer_beside_it():
    torch.manual_seed(0)
    stage = build_stage("mlp", SCHEMA, features=READ, options={"linear_skip": True})
    batch = batch_of()
    weight, bias = stage.linear.both.weight[0], stage.linear.both.bias[0]
    request, items = stage.embedder.request(batch), stage.embedder.items(batch)
    inputs = torch.cat([request.unsqueeze(1).expand(-1, 30, -1), items], dim=-1)
    torch.testing.assert_close(stage(batch), inputs @ weight + bias)
    assert stage(batch).std() > 0.01


def test_the_linear_layer_costs_one_product_per_input_and_the_prior_none():
    plain, wide, prior = (
        multiply_adds(build_stage("mlp", SCHEMA, features=READ, options=options), SCHEMA)
        for options in ({}, {"linear_skip": True}, {"prior": "price"})
    )
    assert prior == plain
    assert wide.per_request == plain.per_request + 8 + 1
    assert wide.per_candidate == plain.per_candidate + 8 + 2 + 1 + 2


@pytest.mark.parametrize("model", ["mlp", "linear"])
@pytest.mark.parametrize(
    ("prior", "found"),
    [
        ("bm2", r"\(did you mean 'bm25'\?\); got 'bm2'; available: bm25, price$"),
        ("unread", "got 'unread'; available: bm25, price$"),
        ("age", "got 'age'"),
        ("shop", "got 'shop'"),
        ("text", "got 'text'"),
        ("", "got ''"),
    ],
)
def test_a_prior_that_is_no_number_of_the_candidates_is_refused(model, prior, found):
    with pytest.raises(ConfigError, match=f"prior must be a numeric feature .*{found}"):
        build_stage(model, SCHEMA, features=READ, options={"prior": prior})


@pytest.mark.parametrize("learning_rate", [1e-4, 1e-3])
def test_a_stage_with_a_prior_is_not_below_a_feature_that_is_the_truth_with_noise(learning_rate):
    """Few steps on few lists, at rates at which a stage without a prior does not reach the feature."""
    torch.manual_seed(0)
    length, names = 100, [f"x{i}" for i in range(30)]
    features = tuple(Feature(name=n, role="item", kind="numeric") for n in ("best", *names))
    schema, mask = FittedSchema(features=features), torch.ones(40, length).bool()
    utility = torch.randn(40, length)
    items = {n: torch.randn(40, length) for n in names}
    items["best"] = (utility + 0.5 * torch.randn(40, length)) / 1.25**0.5
    labels = (utility > 1.3).float()

    def taken(rows):
        return RequestBatch(items={n: v[rows] for n, v in items.items()}, mask=mask[rows])

    def ndcg(stage):
        with torch.no_grad():
            scores = stage.eval()(taken(slice(8, 40)))
        return ndcg_metric(scores, labels[8:], mask=mask[8:]).mean().item()

    def trained(**options):
        torch.manual_seed(1)
        stage = build_stage("mlp", schema, options={"hidden": [32, 16], **options})
        optimizer = torch.optim.Adam(stage.parameters(), lr=learning_rate)
        for step in range(20):
            rows = slice(step % 4 * 2, step % 4 * 2 + 2)
            optimizer.zero_grad()
            bce_loss(stage(taken(rows)), labels[rows], mask=mask[rows]).backward()
            optimizer.step()
        return ndcg(stage)

    alone = ndcg(FeatureOrder("best"))
    assert trained() < alone - 0.05
    assert trained(prior="best") > alone - 0.01
    assert trained(prior="best", linear_skip=True) > alone - 0.01
