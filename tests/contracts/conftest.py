"""Lists that the contracts are tried on: ragged, longer than 16, labels tied on purpose."""

import pytest
import torch

STAGES, LISTS, LENGTH = 2, 4, 24  # torch sorts up to 16 items stably by luck
REAL = (24, 17, 6, 3)


@pytest.fixture
def cascade():
    """Scores ``[2, 4, 24]`` all different, labels in [0, 1] with ties, and a ragged mask."""
    g = torch.Generator().manual_seed(7)
    scores = torch.stack([torch.randperm(LENGTH, generator=g) for _ in range(STAGES * LISTS)])
    scores = scores.view(STAGES, LISTS, LENGTH).double() / 8 - 1.5  # exact in half precision
    labels = torch.randint(0, 5, (LISTS, LENGTH), generator=g).double() / 4
    labels[:, 0], labels[:, 1] = 1.0, 0.0  # all lists have something to find and to drop
    mask = torch.arange(LENGTH) < torch.tensor(REAL)[:, None]
    return scores, labels, mask
