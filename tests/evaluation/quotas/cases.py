"""Small cascades with ties, ragged lists and padding in any place, and random larger ones."""

import torch
from hypothesis import strategies as st

from cascaderank.evaluation.quotas import ScoredRequests, StageCost


@st.composite
def cascades(draw, least=1, longest=8):
    """Return the lists, each with its scores by stage and its labels, and the ground truth."""
    count = draw(st.integers(least, 4))
    values = st.integers(-2, 2)  # a small range creates ties
    lists = []
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.integers(0, longest))
        row = st.lists(values, min_size=size, max_size=size)
        lists.append(([draw(row) for _ in range(count)], draw(row)))
    if not any(labels for _, labels in lists):
        lists.append(([[1, 0]] * count, [0, 1]))
    return lists, draw(st.integers(1, 5))


def scored(case, seed=0):
    """Return a case as requests: padded in random places, with junk in the padding."""
    lists, k = case
    stages, g = len(lists[0][0]), torch.Generator().manual_seed(seed)
    width = max(len(labels) for _, labels in lists) + 2
    scores = torch.full((stages, len(lists), width), torch.nan)
    labels = torch.full((len(lists), width), 99.0)
    mask = torch.zeros(len(lists), width, dtype=torch.bool)
    for row, (of_stages, own) in enumerate(lists):
        places = torch.randperm(width, generator=g)[: len(own)].sort().values
        mask[row, places] = True
        labels[row, places] = torch.tensor(own).float()
        for stage, values in enumerate(of_stages):
            scores[stage, row, places] = torch.tensor(values).float()
    return ScoredRequests.of(scores, labels, k=k, mask=mask)


def funnel(requests, candidates, noise, k=5, seed=0):
    """Return requests whose stages see the labels with some noise; lists are ragged."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randn(requests, candidates, generator=g)
    of_stages = torch.randn(len(noise), requests, candidates, generator=g)
    scores = labels + of_stages * torch.tensor(noise)[:, None, None]
    lengths = torch.randint(candidates // 2, candidates + 1, (requests, 1), generator=g)
    return ScoredRequests.of(scores, labels, k=k, mask=torch.arange(candidates) < lengths)


def linear(*costs):
    """Return the costs of stages from (per request, per candidate) of each."""
    return {
        f"stage {i}": StageCost(candidates=(0, 1), costs=(fixed, fixed + each))
        for i, (fixed, each) in enumerate(costs)
    }
