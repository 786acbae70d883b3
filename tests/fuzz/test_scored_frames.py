"""A frame of any content is scored, with all its rows, or refused with an error of the library."""

import contextlib
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import CascadeRankError
from cascaderank.runs.load import load_run
from tests.data.shops import shop_frame, write_shop
from tests.fuzz.table_changes import TABLE_CHANGES
from tests.runs.conftest import untrained


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    return load_run(untrained(folder / "run", write_shop(folder / "log", [shop_frame(9)])))


def long_frame():
    """The same requests with one row per candidate."""
    frame = shop_frame(9)
    return frame.explode("video", "price", "level", "position", "label", "feedback")


@pytest.mark.parametrize("frame", [shop_frame(9), long_frame()], ids=["requests", "candidates"])
def test_a_changed_frame_is_scored_or_refused(run, frame):
    @given(st.lists(st.sampled_from(TABLE_CHANGES), min_size=1, max_size=2), st.integers(0, 10**6))
    @settings(max_examples=40, deadline=None)
    def check(changes, seed):
        random, changed = Random(seed), frame
        try:
            for change in changes:
                changed = change(random, changed)
        except pl.exceptions.PolarsError:  # such as a cast that is not possible
            return
        for method in (run.score, run.rank):
            with contextlib.suppress(CascadeRankError):
                result = method(changed)
                assert result.height == changed.height or method == run.rank
                assert "rank" in result.columns

    check()
