"""Shapes are checked at the boundary, and the message states the expected and the actual one."""

import pytest
import torch

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.tensors import check_cascade, check_lists, check_quotas, masked_mean, reduce_lists


def test_quotas_that_grow_are_refused():
    with pytest.raises(ConfigError, match=r"never grow; got \[2, 4\]"):
        check_quotas([2, 4], stages=2)


@pytest.mark.parametrize("quotas", [[0], [-1], [True], [2.0]])
def test_quotas_are_positive_integers(quotas):
    with pytest.raises(ConfigError, match="must be positive"):
        check_quotas(quotas, stages=1)


def test_one_quota_per_stage():
    with pytest.raises(ShapeError, match="got 1 quotas for 2 stages"):
        check_quotas([3], stages=2)


@pytest.mark.parametrize(
    ("scores", "labels", "mask", "told"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), None, "one shape"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), None, "floating point"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 3), "mask must be bool"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(3).bool(), "mask must be bool"),
    ],
)
def test_lists_that_do_not_agree_are_refused(scores, labels, mask, told):
    with pytest.raises(ShapeError, match=told):
        check_lists(scores, labels, mask)


@pytest.mark.parametrize(
    ("scores", "labels", "told"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 3), r"scores must be \[stages, batch, list\]"),
        (torch.zeros(1, 2, 3), torch.zeros(2, 4), r"labels must be \[batch, list\] = \[2, 3\]"),
    ],
)
def test_cascades_that_do_not_agree_are_refused(scores, labels, told):
    with pytest.raises(ShapeError, match=told):
        check_cascade(scores, labels, None, None)


def test_reductions():
    values = torch.tensor([1.0, 3.0])
    assert reduce_lists(values, "mean") == 2
    assert reduce_lists(values, "sum") == 4
    assert torch.equal(reduce_lists(values, "none"), values)
    assert reduce_lists(values[:0], "mean") == 0
    with pytest.raises(ConfigError, match=r"no reduction called 'maen' \(did you mean 'mean'\?\)"):
        reduce_lists(values, "maen")


def test_mean_of_nothing_is_zero():
    assert masked_mean(torch.ones(2, 3), torch.zeros(2, 3).bool()).tolist() == [0, 0]
