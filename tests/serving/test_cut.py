"""The cut of one list equals that of the library, ties and NaN included."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cascaderank.selection import final_ranks, select
from cascaderank.serving.cut import best_first, kept_places

SCORES = st.lists(
    st.sampled_from([0.0, -0.0, 1.0, 2.0, -np.inf, np.inf, np.nan, 1e-45]), min_size=1, max_size=12
)


@given(SCORES, st.integers(1, 13))
def test_kept_candidates_are_those_of_select(scores, quota):
    expected = select(torch.tensor(scores)[None, None], (quota,))[0, 0]
    found = kept_places(np.array(scores, np.float32), quota)
    assert found.tolist() == expected.nonzero()[:, 0].tolist()


@given(SCORES)
def test_the_order_is_that_of_final_ranks(scores):
    values = torch.tensor(scores)
    ranks = final_ranks(values, torch.ones_like(values, dtype=torch.bool)).numpy()
    order = best_first(np.array(scores, np.float32))
    assert ranks[order].tolist() == list(range(1, len(scores) + 1))
