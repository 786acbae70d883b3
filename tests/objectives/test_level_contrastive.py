"""Stages are trained on the negatives of the levels that reached them."""

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.objectives import build_objective
from tests.oracles.contrast import level_contrastive

QUOTAS = (6, 4, 3)


def batch(levels):
    g = torch.Generator().manual_seed(3)
    scores = torch.randn(3, 2, 12, generator=g, dtype=torch.float64)
    order = torch.stack([torch.randperm(12, generator=g) for _ in range(2)])
    return scores, order, order * levels // 12  # labels that order the list, higher levels first


def built(stages, **options):
    task = {"stages": stages, "quotas": QUOTAS[:stages], "ground_truth": 2, **options}
    return build_objective("level_contrastive", **task)


@pytest.mark.parametrize(
    ("stages", "options", "entry", "exposed"),
    [
        (1, {}, (0,), 2),
        (2, {}, (0, 2), 3),
        (3, {}, (0, 1, 3), 4),
        (2, {"entry_levels": (1, 1), "exposed_level": 2}, (1, 1), 2),
    ],
    ids=str,
)
def test_negatives_of_a_stage_are_those_of_the_levels_that_reached_it(
    stages, options, entry, exposed
):
    scores, labels, levels = batch(stages + 2)
    weights = [1.0, 0.5, 2.0, 0.0, 3.0][: stages + 2]
    given = {"level_weights": weights, "temperature": 0.5, "pointwise": 0.3, **options}
    out = built(stages, **given)(scores[:stages], labels, levels=levels)
    for t in range(stages):
        want = [
            level_contrastive(
                scores[t, i].tolist(),
                [y >= 10 for y in labels[i].tolist()],
                levels[i].tolist(),
                weights=weights,
                temperature=0.5,
                negatives=[level >= entry[t] for level in levels[i].tolist()],
                exposed=[level >= exposed for level in levels[i].tolist()],
                pointwise=0.3,
            )
            for i in range(2)
        ]
        got = out.terms[f"level_contrastive/stage_{t + 1}"]
        torch.testing.assert_close(got.item(), sum(want) / 2)


def test_candidates_below_the_entry_level_have_no_gradient_in_a_later_stage():
    scores, labels, levels = batch(4)
    scores = scores[:2].requires_grad_()
    total = built(2)(scores, labels, levels=levels).total
    (gradient,) = torch.autograd.grad(total, scores)
    assert gradient[0].all()
    assert not gradient[1][levels < 2].any()
    assert gradient[1][levels >= 2].all()


def test_a_level_missing_from_a_list_or_a_batch_adds_nothing():
    scores, labels, levels = batch(4)
    shifted = torch.where(levels > 0, levels + 1, 0)  # no candidate has level 1
    options = {"entry_levels": (0, 0), "exposed_level": 0}
    got = built(2, level_weights=(1.0, 9.0, 1.0, 1.0, 1.0), **options)
    want = built(2, **options)(scores[:2], labels, levels=levels)
    assert got(scores[:2], labels, levels=shifted).terms == want.terms


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entry_levels": (0,)}, "entry_levels must be 2 numbers of at least 0"),
        ({"entry_levels": (2, 0)}, "non-decreasing; got [2, 0]"),
        ({"exposed_level": -1}, "exposed_level must be at least 0; got -1"),
        ({"level_weights": (1.0, -2.0)}, "level_weights must be finite numbers of at least 0"),
        ({"pointwise": -1.0}, "pointwise must be a finite number of at least 0; got -1"),
        ({"temperature": 0.0}, "temperature must be a positive number; got 0"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        built(2, **options)
    assert message in str(caught.value)


def test_a_level_without_a_weight_is_refused():
    scores, labels, levels = batch(4)
    with pytest.raises(ConfigError, match="4 for levels up to 3"):
        built(2, level_weights=(1.0, 1.0))(scores[:2], labels, levels=levels)


def test_weights_of_levels_need_a_batch_with_levels():
    scores, labels, _ = batch(4)
    with pytest.raises(ConfigError, match="the batch has no levels"):
        built(2, level_weights=(1.0,) * 4)(scores[:2], labels)
