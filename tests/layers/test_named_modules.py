"""Any text may name a module, and ordinary names keep their keys in a state_dict."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.named_modules import NamedModules, attribute_name
from cascaderank.objectives import Objective, Term
from cascaderank.schema import RESERVED, Feature, FittedSchema, selects_columns

ATTRIBUTES = sorted(dir(NamedModules()))
TEXTS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["a.b", "a%2Eb", "escaped:a%2Eb", "escaped:", "a,b", "x/y", *ATTRIBUTES]),
)
NAMES = st.lists(TEXTS, min_size=1, max_size=4, unique=True)


def members(names):
    return {name: nn.Linear(1, 1) for name in names}


@given(NAMES)
@settings(deadline=None, max_examples=60)
def test_any_names_are_kept_and_saved(names):
    given_, other = members(names), NamedModules(members(names))
    modules = NamedModules(given_)
    assert list(modules) == list(modules.keys()) == names
    assert dict(modules.items()) == given_
    assert all(modules[n] is given_[n] and n in modules for n in names)
    other.load_state_dict(modules.state_dict())
    assert all(torch.equal(other[n].weight, given_[n].weight) for n in names)
    modules.eval().train().to(torch.float64)
    assert list(copy.deepcopy(modules)) == names
    assert modules.pop(names[0]) is given_[names[0]]
    assert list(modules) == names[1:]
    assert len(modules) == len(modules.state_dict()) // 2 == len(names) - 1
    modules.clear()
    assert not list(modules)
    assert not modules.state_dict()


@given(st.text(max_size=6))
@settings(deadline=None, max_examples=60)
def test_a_name_that_pytorch_takes_is_not_changed(name):
    plain = nn.ModuleDict()
    try:
        plain[name] = nn.Identity()
    except KeyError:
        assert attribute_name(name, NamedModules()) != name
    else:
        assert attribute_name(name, NamedModules()) == name


def test_the_same_attribute_names_of_each_container():
    assert attribute_name("copy", nn.ModuleDict()) == "copy"
    assert attribute_name("copy", nn.ParameterDict()) == "escaped:copy"
    assert attribute_name("user.age", nn.ModuleDict()) == "escaped:user%2Eage"


OF_FEATURES = TEXTS.filter(lambda n: n and n not in RESERVED and not selects_columns(n))


@given(st.lists(OF_FEATURES, min_size=1, max_size=3, unique=True))
@settings(deadline=None, max_examples=30)
def test_features_and_stages_of_any_name(names):
    features = [Feature(name=n, role="item", kind="categorical", buckets=4) for n in names]
    schema = FittedSchema(features=features)
    batch = RequestBatch(
        items={n: torch.tensor([[i, 1 + i]]) for i, n in enumerate(names)},
        mask=torch.ones(1, 2, dtype=torch.bool),
    )

    class Stage(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedder = Embedder(schema, features, dim=2)

        def forward(self, batch):
            return self.embedder.items(batch).sum(-1)

    first, second = (
        Cascade({n: Stage() for n in names}, quotas=[1] * len(names)) for _ in range(2)
    )
    assert first.stage_names == tuple(names)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(batch), second(batch))
    assert len(set(first(batch).sum(-1).flatten().tolist())) == len(names)


@pytest.mark.parametrize("name", ["global/a.b", "items", "", "x"])
def test_learned_weights_of_any_name(name):
    term = Term(name, lambda inputs: inputs.scores.mean(), weight="learned")
    objective = Objective([term], stages=1)
    with torch.no_grad():
        next(objective.parameters()).fill_(1.0)
    assert objective.weights()[name].item() == pytest.approx(0.5 * torch.e**-2)
    out = objective(torch.full((1, 1, 2), 2.0), torch.zeros(1, 2))
    assert out.total.item() == pytest.approx(torch.e**-2 + 1)
