"""FS-LambdaLoss trains each stage on the order of the labels, up to its quota."""

import pytest
import torch

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.losses import lambda_ndcg_loss
from cascaderank.objectives import build_objective

LABELS = torch.tensor([[5.0, 4.0, 4.0, 1.0, 1.0, 0.0]])
SCORES = torch.tensor([[[0.3, -0.2, 1.0, 0.5, -1.0, 0.1]], [[1.3, 0.2, -1.0, 0.4, 1.0, -0.1]]])


def fs_lambdaloss(stages=2, **options):
    quotas = (4, 2, 2, 1)[:stages]
    return build_objective("fs_lambdaloss", stages=stages, quotas=quotas, **options)


def test_each_stage_is_cut_at_its_quota():
    terms = fs_lambdaloss()(SCORES, LABELS).terms
    for t, quota in enumerate((4, 2)):
        want = lambda_ndcg_loss(SCORES[t], LABELS, m=quota)
        torch.testing.assert_close(terms[f"lambda_ndcg/stage_{t + 1}"], want)


def test_levels_are_ignored():
    levels = torch.tensor([[0, 1, 2, 3, 4, 5]])
    got = fs_lambdaloss()(SCORES, LABELS, levels=levels).total
    assert got == fs_lambdaloss()(SCORES, LABELS).total


def test_the_published_form_is_not_defined_for_everything():
    with pytest.raises(ConfigError, match="2 and 3 stages; got 4"):
        fs_lambdaloss(4, published=True)
    with pytest.raises(ShapeError, match="got 2 padded"):
        fs_lambdaloss(published=True)(SCORES, LABELS, mask=torch.arange(6)[None] < 4)
