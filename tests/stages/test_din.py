"""DIN: attention over histories, and errors without a history."""

import pytest
import torch

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.schema import Feature, FittedSchema
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
