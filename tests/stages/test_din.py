"""DIN: attention over histories, and errors without a history."""

from dataclasses import replace

import pytest
import torch

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError, SchemaError
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES
from cascaderank.stages.din import DIN

SCHEMA = FittedSchema(
    features=(
        Feature(name="bought", role="history", kind="categorical", vocabulary="shoe", sequence="a.b"),
        Feature(name="viewed", role="history", kind="categorical", vocabulary="shoe", sequence="views"),
        Feature(name="shoe", role="item", kind="categorical"),
    ),
    vocabularies={"shoe": (1, 2, 3, 4)},
)  # fmt: skip


def make_batch(*, bought, viewed):
    history = {"bought": torch.tensor([bought]), "viewed": torch.tensor([viewed])}
    return RequestBatch(
        mask=torch.ones(1, 3).bool(),
        items={"shoe": torch.tensor([[1, 2, 3]])},
        history=history,
        history_mask={"a.b": history["bought"] > 0, "views": history["viewed"] > 0},
    )


def make_stage(features=SCHEMA.features, **options):
    torch.manual_seed(0)
    stage = DIN(SCHEMA, features, dim=3, **options)
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return stage


@pytest.mark.parametrize("softmax", [False, True])
def test_sequences_are_attended_separately(softmax):
    stage = make_stage(softmax=softmax)
    both = stage(make_batch(bought=[1, 4, 0], viewed=[2, 3]))
    padded = stage(make_batch(bought=[4, 0, 1, 0, 0], viewed=[2, 3, 0]))
    swapped = stage(make_batch(bought=[2, 3], viewed=[1, 4]))
    torch.testing.assert_close(both, padded)
    assert (both - swapped).abs().min() > 1e-6


def test_only_unnormalised_weights_depend_on_the_length_of_a_history():
    short, long = ([1, 4], [2, 3]), ([1, 4, 1, 4], [2, 3, 2, 3])
    for softmax in (False, True):
        stage = make_stage(softmax=softmax)
        once, twice = (stage(make_batch(bought=b, viewed=v)) for b, v in (short, long))
        assert torch.allclose(once, twice, rtol=1e-5, atol=1e-6) is softmax


def test_the_attended_history_differs_by_candidate():
    """A pooled history would be one vector for all candidates, as in mlp."""
    stage = make_stage()
    heard = []
    stage.head.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[1]))
    stage(make_batch(bought=[1, 4], viewed=[0, 0]))
    attended, other, _ = heard[0][0].split([3, 3, 3], dim=-1)
    assert (attended[0] - attended[1]).abs().max() > 1e-6
    assert not other.any()


def test_the_error_without_a_history_suggests_another_stage():
    with pytest.raises(ConfigError, match=r"din needs a feature of a history; .* Use 'mlp'"):
        make_stage(features=SCHEMA.select(["shoe"]))


@pytest.mark.parametrize("attention", [(), (0,), (80, -1)])
def test_invalid_widths_of_the_attention_are_reported(attention):
    with pytest.raises(ConfigError, match="attention must hold positive widths"):
        make_stage(attention=attention)


WIDE = FittedSchema(
    features=(
        *SCHEMA.features,
        *(Feature(name=n, role="item", kind="categorical") for n in ("brand", "hour", "colour")),
    ),
    vocabularies={**SCHEMA.vocabularies, "brand": (1,), "hour": (1, 2), "colour": (1, 2, 3)},
)


def wide(**options):
    torch.manual_seed(0)
    return DIN(WIDE, WIDE.features, dim=3, **options)


def weights_of(stage, **changes):
    """Attention weights of the first sequence when the codes of some item features change."""
    items = {name: torch.tensor([[1, 1, 1]]) for name in ("shoe", "brand", "hour", "colour")}
    batch = make_batch(bought=[1, 4], viewed=[2, 3])
    batch = replace(batch, items={**items, **{n: torch.tensor([c]) for n, c in changes.items()}})
    heard = []
    stage.head.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[1]))
    stage(batch)
    return heard[-1][0, :, :3]


def test_the_query_of_the_attention_can_be_some_item_features():
    stage = wide(attention_features=("shoe", "colour"))
    assert stage.attentions[0].weigh.of_pairs(torch.rand(1, 2, 6), torch.rand(1, 1, 3)).numel() == 2
    same = weights_of(stage, hour=[1, 2, 1])
    assert torch.equal(same[0], same[1])
    for name in ("shoe", "colour"):
        differs = weights_of(stage, **{name: [1, 2, 1]})
        assert (differs[0] - differs[1]).abs().max() > 1e-6
        assert torch.equal(differs[0], differs[2])


def test_by_default_all_item_features_are_the_query():
    one, other = wide(), wide(attention_features=("*",))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    differs = weights_of(one, hour=[1, 2, 1])
    assert (differs[0] - differs[1]).abs().max() > 1e-6


def test_wrong_features_of_the_attention_are_reported():
    with pytest.raises(SchemaError, match=r"no feature 'color' \(did you mean 'colour'\?\)"):
        wide(attention_features=("color",))
    with pytest.raises(ConfigError, match="attention_features must leave at least one item"):
        wide(attention_features=("*", "!*"))


@pytest.mark.parametrize("model", ["two_tower", "mlp", "din"])
def test_the_deviation_of_initial_embeddings_is_an_option(model):
    size = 4_000
    features = (
        Feature(name="bought", role="history", kind="categorical", vocabulary="shoe"),
        Feature(name="shoe", role="item", kind="categorical"),
    )
    schema = FittedSchema(features=features, vocabularies={"shoe": tuple(range(size))})
    for options, deviation in (({}, 0.05), ({"embedding_deviation": 1.0}, 1.0)):
        torch.manual_seed(0)
        stage = STAGES[model](schema, features, dim=4, **options)
        (table,) = stage.embedder.tables.values()
        assert table.weight.std().item() == pytest.approx(deviation, rel=0.02)
        assert not table.weight[0].any()
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="embedding_deviation must be a positive number"):
            STAGES[model](schema, features, embedding_deviation=wrong)
