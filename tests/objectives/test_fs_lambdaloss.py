"""FS-LambdaLoss trains each stage on the order of the labels, up to its quota."""

import numpy as np
import pytest
import torch

from cascaderank.data.labels import labels_of
from cascaderank.errors import ConfigError
from cascaderank.losses import lambda_ndcg_loss
from cascaderank.objectives import build_objective
from tests.oracles import published as oracles

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


@pytest.mark.parametrize("stages", [2, 3])
def test_the_published_form_on_released_labels_is_the_formula(stages):
    """Values and gradient on the labels of RecFlow, of which those below the top level are tied."""
    levels = stages + 2
    level = np.repeat(np.arange(levels), 10)[::-1]
    position = np.where(level >= 2, np.tile(np.arange(1, 11), levels), 0)
    labels = labels_of("released", {"level": level, "position": position}, levels=levels)
    assert labels[:12].tolist() == [*range(29, 19, -1), 7, 7]
    assert sorted(set(labels[10:])) == [5, 6, 7]
    g = torch.Generator().manual_seed(levels)
    scores = torch.randn(stages, 1, 10 * levels, generator=g, dtype=torch.float64)
    scores.requires_grad_()
    out = fs_lambdaloss(stages, published=True)(scores, torch.from_numpy(labels)[None])
    out.total.backward()
    plain = scores[:, 0].tolist()
    for t, s in enumerate(plain):
        want = oracles.fs_lambdaloss(s, labels.tolist())
        assert out.terms[f"lambda_ndcg/stage_{t + 1}"].item() == pytest.approx(want)
    few = [plain[0]]  # the terms of all stages are of one form, and the loop is slow
    gradient = oracles.difference_quotients(
        lambda moved: oracles.fs_lambdaloss(moved[0], labels.tolist()), few, step=1e-7
    )
    gradient = torch.tensor(gradient[0], dtype=torch.float64)
    torch.testing.assert_close(scores.grad[0, 0], gradient, rtol=1e-5, atol=1e-6)


def test_the_published_form_counts_tied_labels_as_no_preference():
    labels = torch.tensor([[29.0, 7.0, 7.0, 7.0, 5.0]])
    scores = torch.tensor([[[0.5, 0.1, -0.2, 0.8, 0.3]]] * 2, dtype=torch.float64)
    out = fs_lambdaloss(published=True)(scores, labels)
    want = oracles.fs_lambdaloss(scores[0, 0].tolist(), labels[0].tolist())
    assert out.terms["lambda_ndcg/stage_1"].item() == pytest.approx(want)
