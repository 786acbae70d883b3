"""A cascade scores by every stage, and selects as a server would."""

import pytest
import torch
from torch import nn

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade, build_stage
from cascaderank.errors import ConfigError, SchemaError, ShapeError
from cascaderank.layers.feed_forward import PairMLP
from cascaderank.schema import Feature, FittedSchema

SCHEMA = FittedSchema(
    features=(
        Feature(name="user", role="request", kind="numeric"),
        Feature(name="cheap", role="item", kind="numeric"),
        Feature(name="dear", role="item", kind="numeric"),
    )
)


class Given(nn.Module):
    """Scores by a feature as it is."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, batch):
        return batch.items[self.name]


def batch_of(**items):
    items = {name: torch.tensor(values) for name, values in items.items()}
    mask = torch.ones_like(next(iter(items.values())), dtype=torch.bool)
    return RequestBatch(mask=mask, items=items)


def test_scores_are_stacked_first_stage_first():
    cascade = Cascade({"a": Given("cheap"), "b": Given("dear")}, quotas=(2, 1))
    batch = batch_of(cheap=[[3.0, 2.0, 1.0]], dear=[[1.0, 2.0, 3.0]])
    assert cascade(batch).tolist() == [[[3, 2, 1]], [[1, 2, 3]]]
    assert cascade.stage_names == ("a", "b")


def test_a_stage_ranks_only_what_the_one_before_kept():
    cascade = Cascade({"a": Given("cheap"), "b": Given("dear")}, quotas=(2, 1))
    batch = batch_of(cheap=[[3.0, 2.0, 1.0]], dear=[[1.0, 2.0, 3.0]])
    kept = cascade.select(cascade(batch), batch.mask)
    assert kept.tolist() == [[[True, True, False]], [[False, True, False]]]


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_any_number_of_stages(stages):
    quotas = tuple(range(10 + stages, 10, -1))
    cascade = Cascade({f"s{i}": Given("cheap") for i in range(stages)}, quotas=quotas)
    batch = batch_of(cheap=[[float(i) for i in range(40)]])
    scores = cascade(batch)
    assert scores.shape == (stages, 1, 40)
    assert cascade.select(scores).sum(-1).flatten().tolist() == list(quotas)


def test_stages_of_a_cascade_train_together():
    cascade = Cascade(
        {n: build_stage("linear", SCHEMA, features=["cheap"]) for n in ("a", "b")}, quotas=(2, 1)
    )
    cascade(batch_of(cheap=[[3.0, 2.0]])).sum().backward()
    assert all(p.grad is not None for p in cascade.parameters() if p.numel())


@pytest.mark.parametrize(
    ("stages", "quotas", "error", "told"),
    [
        ({}, (), ConfigError, "at least one stage"),
        ({"a": Given("x")}, (2, 1), ShapeError, "got 2 quotas for 1 stages"),
        ({"a": Given("x"), "b": Given("x")}, (1, 2), ConfigError, "never grow"),
    ],
)
def test_what_is_no_cascade_is_refused(stages, quotas, error, told):
    with pytest.raises(error, match=told):
        Cascade(stages, quotas)


def test_a_stage_without_candidate_features_is_refused():
    with pytest.raises(ConfigError, match="needs at least one feature of the candidates"):
        build_stage("mlp", SCHEMA, features=["user"])


def test_an_unknown_feature_is_refused_with_the_nearest_name():
    with pytest.raises(SchemaError, match=r"no feature 'chaep' \(did you mean 'cheap'\?\)"):
        build_stage("mlp", SCHEMA, features=["chaep"])


def test_two_towers_need_two_sides():
    with pytest.raises(ConfigError, match="two_tower needs a feature of the request"):
        build_stage("two_tower", SCHEMA, features=["cheap"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"hidden": [0]}, "positive widths"),
        ({"hidden": []}, "at least one layer"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"dim": 0}, "dim must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        build_stage("mlp", SCHEMA, options=options)


def test_split_first_layer_equals_the_whole_one():
    torch.manual_seed(0)
    pair = PairMLP(3, 2, (4, 3)).double()
    request, items = torch.randn(5, 3).double(), torch.randn(5, 7, 2).double()
    whole = torch.cat((request.unsqueeze(1).expand(-1, 7, -1), items), dim=-1)
    expected = pair.rest(pair.first.both(whole)).squeeze(-1)
    torch.testing.assert_close(pair(request, items), expected)
