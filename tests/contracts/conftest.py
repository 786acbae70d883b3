"""Inputs of the contract tests: ragged lists, longer than 16, with tied labels."""

import pytest
import torch

STAGES, LISTS, LENGTH = 2, 4, 24  # torch happens to sort up to 16 items stably
REAL = (24, 17, 6, 3)


@pytest.fixture
def cascade():
    """Distinct scores ``[2, 4, 24]``, labels in [0, 1] with ties, and a ragged mask."""
    g = torch.Generator().manual_seed(7)
    scores = torch.stack([torch.randperm(LENGTH, generator=g) for _ in range(STAGES * LISTS)])
    scores = scores.view(STAGES, LISTS, LENGTH).double() / 8 - 1.5  # exact in half precision
    labels = torch.randint(0, 5, (LISTS, LENGTH), generator=g).double() / 4
    labels[:, 0], labels[:, 1] = 1.0, 0.0  # every list has a positive and a negative
    mask = torch.arange(LENGTH) < torch.tensor(REAL)[:, None]
    return scores, labels, mask
