"""GAUC against an explicit weighted mean."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from cascaderank.errors import ShapeError
from cascaderank.evaluation import gauc
from cascaderank.metrics import auc_metric


def test_gauc_is_the_weighted_mean_of_the_auc_of_scikit_learn():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(30, 12, generator=g)
    clicks = (torch.rand(30, 12, generator=g) < 0.15).float()
    seen = torch.arange(12) < torch.randint(1, 13, (30, 1), generator=g)
    total = weight = 0.0
    for s, y, m in zip(scores, clicks, seen, strict=True):
        s, y = s[m], y[m]
        if 0 < y.sum() < len(y):
            total += len(y) * roc_auc_score(y, s)
            weight += len(y)
    got = gauc(auc_metric(scores, clicks, threshold=1, mask=seen), seen.sum(-1))
    assert 0 < weight < seen.sum()
    assert got.item() == pytest.approx(total / weight, rel=1e-6)


def test_gauc_is_undefined_without_a_request_of_both_classes():
    assert gauc(torch.tensor([torch.nan]), torch.tensor([3])).isnan()


def test_shapes_must_agree():
    with pytest.raises(ShapeError, match="aucs and impressions must both be"):
        gauc(torch.rand(3), torch.ones(2))
