"""Contract of every published form: lists of unequal length are evaluated as if alone."""

import pytest
import torch

from cascaderank.objectives import OBJECTIVES, build_objective

PUBLISHED = [name for name in OBJECTIVES if "published" in OBJECTIVES.options(name)]
LENGTHS = {2: (40, 33, 37, 33, 36), 3: (50, 43, 40, 43, 46)}


class Case:
    """A published form and a ragged batch, whose padding lies between the candidates."""

    def __init__(self, name, stages):
        lengths = LENGTHS[stages]
        self.objective = build_objective(
            name,
            stages=stages,
            quotas=(40, 30, 20)[-stages:],
            ground_truth=10,
            published=True,
        ).double()
        g = torch.Generator().manual_seed(stages)
        size = (len(lengths), lengths[0])
        self.scores = torch.randn(stages, *size, generator=g, dtype=torch.float64)
        places = torch.rand(*size, generator=g).argsort(-1).argsort(-1)
        self.mask = places < torch.tensor(lengths)[:, None]
        self.levels = torch.randint(0, stages + 2, size, generator=g)
        self.labels = (self.levels + 5).double().clamp(max=7) + 20.0 * (self.levels == stages + 1)

    def __call__(self, **changes):
        inputs = {"mask": self.mask, "levels": self.levels, **changes}
        scores = inputs.pop("scores", self.scores).clone().requires_grad_()
        out = self.objective(scores, inputs.pop("labels", self.labels), **inputs)
        (gradient,) = torch.autograd.grad(out.total, scores)
        return out, gradient

    def alone(self, i):
        real = self.mask[i]
        return self(
            scores=self.scores[:, i : i + 1, real],
            labels=self.labels[i : i + 1, real],
            levels=self.levels[i : i + 1, real],
            mask=None,
        )


@pytest.fixture(params=[(name, stages) for name in PUBLISHED for stages in (2, 3)], ids=str)
def case(request):
    return Case(*request.param)


def test_padding_has_no_effect(case):
    padding = ~case.mask
    out, gradient = case()
    dirty, its_gradient = case(
        scores=case.scores.masked_fill(padding, torch.nan),
        labels=case.labels.masked_fill(padding, torch.nan),
        levels=case.levels.masked_fill(padding, 99),
    )
    assert dirty.terms == out.terms
    assert torch.equal(gradient, its_gradient)
    assert out.total.isfinite()
    assert (gradient[:, padding] == 0).all()
    assert gradient[:, case.mask].count_nonzero() > 0


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "fs_ranknet"])
@pytest.mark.parametrize("stages", [2, 3])
def test_a_batch_is_the_mean_over_its_lists_each_alone(name, stages):
    """Values and gradients; fs_ranknet averages over the candidates of the batch instead."""
    case = Case(name, stages)
    out, gradient = case()
    alone = [case.alone(i) for i in range(len(case.mask))]
    for term, value in out.terms.items():
        mean = torch.stack([one.terms[term] for one, _ in alone]).mean()
        torch.testing.assert_close(value, mean, rtol=1e-9, atol=0)
    for i, (_, its_gradient) in enumerate(alone):
        got = gradient[:, i, case.mask[i]] * len(alone)
        torch.testing.assert_close(got, its_gradient[:, 0], rtol=1e-8, atol=1e-12)


def test_a_list_without_candidates_counts_as_zero():
    case = Case("lcron", 2)
    out, _ = case()
    empty = torch.zeros(2, 1, 40, dtype=torch.float64)
    more, _ = case(
        scores=torch.cat([case.scores, empty], 1),
        labels=torch.cat([case.labels, empty[0]]),
        levels=torch.cat([case.levels, empty[0].long()]),
        mask=torch.cat([case.mask, empty[0].bool()]),
    )
    for term, value in out.terms.items():
        torch.testing.assert_close(more.terms[term], value * 5 / 6)


@pytest.mark.parametrize("lists", [0, 3])
@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_batch_without_candidates_has_loss_0_and_gradient_0(name, stages, lists):
    if lists and name in ("icc", "rankflow"):
        pytest.skip("lists shorter than the cut-offs are refused")
    scores = torch.full((stages, lists, 40), torch.nan, dtype=torch.float64)
    out, gradient = Case(name, stages)(
        scores=scores,
        labels=scores[0],
        levels=torch.zeros(lists, 40, dtype=torch.int64),
        mask=torch.zeros(lists, 40, dtype=torch.bool),
    )
    assert all(value == 0 for value in out.terms.values())
    assert torch.equal(gradient, torch.zeros_like(scores))
