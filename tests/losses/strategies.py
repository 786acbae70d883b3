"""Random lists for tests of losses."""

from hypothesis import strategies as st


@st.composite
def labelled_lists(draw):
    """Short lists of scores and labels, with ties in both."""
    n = draw(st.integers(1, 9))
    spaced = st.integers(-8, 8).map(lambda x: x / 4)
    scores = draw(st.lists(spaced, min_size=n, max_size=n))
    return scores, draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
