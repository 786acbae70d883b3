"""FS-RankNet trains each stage on the levels of the logged funnel."""

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.losses import ranknet_loss
from cascaderank.objectives import build_objective

LABELS = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
LEVELS = torch.tensor([[2, 2, 1, 0, 0, 0]])
SCORES = torch.tensor([[[0.3, -0.2, 1.0, 0.5, -1.0, 0.1]], [[1.3, 0.2, -1.0, 0.4, 1.0, -0.1]]])


def fs_ranknet(stages=2, **options):
    quotas = (6, 5, 4, 3)[:stages]
    return build_objective("fs_ranknet", stages=stages, quotas=quotas, **options)


@pytest.mark.parametrize("levels", [LEVELS, None])
def test_every_stage_is_trained_on_levels_or_else_on_labels(levels):
    terms = fs_ranknet()(SCORES, LABELS, levels=levels).terms
    for t in range(2):
        want = ranknet_loss(SCORES[t], LABELS if levels is None else levels, balance="labels")
        torch.testing.assert_close(terms[f"ranknet/stage_{t + 1}"], want)


def test_the_loss_of_a_list_of_one_level_is_zero():
    scores, labels = SCORES.repeat(1, 2, 1), LABELS.repeat(2, 1)
    levels = torch.cat([LEVELS, torch.ones_like(LEVELS)])
    got = fs_ranknet()(scores, labels, levels=levels).total
    torch.testing.assert_close(got, fs_ranknet()(SCORES, LABELS, levels=LEVELS).total / 2)


def test_the_published_form_averages_over_the_candidates_of_the_batch():
    """A list with twice as many candidates of a level has twice the weight for that level."""
    levels = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    scores = SCORES.repeat(1, 2, 1)
    got = fs_ranknet(published=True)(scores, LABELS.repeat(2, 1), levels=levels)
    of_lists = ranknet_loss(scores[0], levels, balance="labels", reduction="none")
    want = (2 * of_lists[0] + of_lists[1]) / 3
    torch.testing.assert_close(got.terms["ranknet/stage_1"], want)


def test_the_published_form_is_not_defined_for_everything():
    with pytest.raises(ConfigError, match="2 and 3 stages; got 4"):
        fs_ranknet(4, published=True)
    with pytest.raises(ConfigError, match="needs levels"):
        fs_ranknet(published=True)(SCORES, LABELS)


def test_padding_is_in_no_mean_of_the_published_form():
    levels = torch.tensor([[2, 1, 1, 0, 0, 3], [1, 0, 3, 0, 2, 2]])
    mask = torch.tensor([[True] * 5 + [False], [True, True, False, True, True, True]])
    scores = torch.cat([SCORES, SCORES.flip(-1)], 1)
    got = fs_ranknet(published=True)(scores, levels.float(), levels=levels, mask=mask)
    for t, name in enumerate(("stage_1", "stage_2")):
        want = 0.0
        for level in (1, 2, 3):
            costs = []  # of each candidate of the level in the batch, against all worse ones
            for s, y, real in zip(scores[t], levels, mask, strict=True):
                worse = s[(y < level) & real]
                own = s[(y == level) & real]
                costs += [torch.nn.functional.softplus(worse - x).mean() for x in own if len(worse)]
            want += torch.stack(costs).mean() if costs else 0.0
        torch.testing.assert_close(got.terms[f"ranknet/{name}"], want)
