"""BCE trains each stage on the candidates that reached it in the log."""

import pytest
import torch

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.losses import bce_loss
from cascaderank.objectives import build_objective

LABELS = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
LEVELS = torch.tensor([[3, 3, 2, 1, 1, 0]])
SCORES = torch.tensor([[[0.3, -0.2, 1.0, 0.5, -1.0, 0.1]], [[1.3, 0.2, -1.0, 0.4, 1.0, -0.1]]])
RELEVANCE = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]])


def bce(stages=2, **options):
    quotas = (6, 5, 4, 3)[:stages]
    options = {"ground_truth": 2, **options}
    return build_objective("bce", stages=stages, quotas=quotas, **options)


def test_a_stage_is_trained_on_candidates_that_reached_it_in_the_log():
    terms = bce()(SCORES, LABELS, levels=LEVELS).terms
    torch.testing.assert_close(terms["bce/stage_1"], bce_loss(SCORES[0], RELEVANCE))
    torch.testing.assert_close(
        terms["bce/stage_2"],
        bce_loss(SCORES[1, :, :3], RELEVANCE[:, :3]),  # levels of at least 2
    )


def test_without_levels_every_stage_is_trained_on_all_candidates():
    terms = bce()(SCORES, LABELS).terms
    torch.testing.assert_close(terms["bce/stage_2"], bce_loss(SCORES[1], RELEVANCE))


@pytest.mark.parametrize(
    ("stages", "entry"), [(1, (0,)), (2, (0, 2)), (3, (0, 1, 3)), (4, (0, 1, 3, 4))]
)
def test_the_default_entry_levels_are_those_of_a_log_with_two_more_levels(stages, entry):
    scores = torch.randn(stages, 1, 6, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([[4, 3, 3, 2, 1, 0]])
    got = bce(stages)(scores, LABELS, levels=levels).total
    explicit = bce(stages, entry_levels=entry)(scores, LABELS, levels=levels).total
    assert got == explicit
    if stages > 1:
        other = bce(stages, entry_levels=(0,) * stages)(scores, LABELS, levels=levels).total
        assert got != other


def test_a_list_without_candidates_at_the_entry_level_has_loss_zero():
    scores = SCORES.repeat(1, 2, 1)
    levels = torch.cat([LEVELS, torch.zeros_like(LEVELS)])
    terms = bce()(scores, LABELS.repeat(2, 1), levels=levels).terms
    alone = bce()(SCORES, LABELS, levels=LEVELS).terms
    torch.testing.assert_close(terms["bce/stage_2"], alone["bce/stage_2"] / 2)


@pytest.mark.parametrize("entry", [(0,), (0, 1, 2), (2, 1), (-1, 0)])
def test_wrong_entry_levels_are_refused(entry):
    with pytest.raises(ConfigError, match="entry_levels must be 2 numbers"):
        bce(entry_levels=entry)


def test_the_published_form_is_not_defined_for_everything():
    with pytest.raises(ConfigError, match="2 and 3 stages; got 4"):
        bce(4, published=True)
    with pytest.raises(ConfigError, match="threshold"):
        bce(ground_truth=None, threshold=1.0, published=True)
    with pytest.raises(ConfigError, match="fixes entry_levels"):
        bce(entry_levels=(0, 1), published=True)
    with pytest.raises(ConfigError, match="needs levels"):
        bce(published=True)(SCORES, LABELS)
    scores, zeros = torch.zeros(2, 1, 41), torch.zeros(1, 41)
    with pytest.raises(
        ShapeError, match=r"lists of at most 40 candidates; got scores \[2, 1, 41\]"
    ):
        bce(published=True)(scores, zeros, levels=zeros.long())


def test_the_published_form_takes_the_best_candidates_of_a_short_list():
    """37 candidates: the ranking stage takes the best 20 by level, three of the level below it."""
    levels = torch.tensor([[3] * 7 + [2] * 10 + [1] * 10 + [0] * 10])
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 1, 37, generator=g)
    terms = bce(published=True)(scores, levels.float(), levels=levels).terms
    for t, count in enumerate((37, 20)):
        z = (torch.arange(count) < 7).float()
        want = torch.nn.functional.binary_cross_entropy_with_logits(scores[t, 0, :count], z)
        torch.testing.assert_close(terms[f"bce/stage_{t + 1}"], want)
