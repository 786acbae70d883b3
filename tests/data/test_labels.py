import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascaderank.data.labels import TARGETS, Relabelling, funnel_target, labels_of, needs
from cascaderank.errors import ConfigError, DataError

levels = st.integers(0, 127)
positions = st.integers(0, 32767)
candidates = st.tuples(levels, positions)


def better(one, other):
    """Whether one candidate precedes another: by level, then known position, then position."""
    (level, position), (other_level, other_position) = one, other
    if level != other_level:
        return level > other_level
    if (position == 0) != (other_position == 0):
        return position != 0
    return position < other_position


@given(candidates, candidates)
def test_the_funnel_orders_by_level_then_position_with_unknown_last(one, other):
    level = np.array([one[0], other[0]], dtype=np.int8)
    position = np.array([one[1], other[1]], dtype=np.int16)
    y = funnel_target(level, position)
    assert (y[0] > y[1]) == better(one, other)
    assert (y[1] > y[0]) == better(other, one)


def test_the_funnel_is_exact_in_float32_from_its_lowest_to_its_highest():
    level = np.array([0, 0, 127, 127], dtype=np.int8)
    position = np.array([0, 32767, 2, 1], dtype=np.int16)
    assert funnel_target(level, position).tolist() == [0, 1, 128 * 32768 - 2, 128 * 32768 - 1]


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
def test_a_target_is_float32_at_least_0_and_a_function_of_each_candidate(target, data):
    n = data.draw(st.integers(0, 8))
    columns = {
        "level": data.draw(arrays(np.int8, n, elements=levels)),
        "position": data.draw(arrays(np.int16, n, elements=positions)),
        "label": data.draw(arrays(np.float32, n, elements=st.floats(0, 4, width=32))),
        "feedback": data.draw(arrays(np.float32, n, elements=st.floats(0, 1, width=32))),
    }
    if target == "released":
        columns["level"] %= 5
    before = {name: values.copy() for name, values in columns.items()}
    y = labels_of(target, columns, levels=5)
    assert y.dtype == np.float32
    assert y.shape == (n,)
    assert (y >= 0).all()
    backwards = labels_of(
        target, {name: values[::-1] for name, values in columns.items()}, levels=5
    )
    np.testing.assert_array_equal(backwards, y[::-1])
    for name, values in columns.items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("funnel", ("level", "position")),
        ("level", ("level",)),
        ("label", ("label",)),
        ("feedback", ("feedback",)),
        ("released", ("level", "position")),
    ],
)
def test_each_target_needs_its_own_columns(target, wanted):
    assert needs(target, ["level", "position", "label", "feedback"]) == wanted


def test_a_missing_column_is_reported_with_the_usable_targets():
    message = (
        r"shop has no column 'position', which target 'funnel' needs; "
        r"targets that can be computed: level, feedback$"
    )
    with pytest.raises(DataError, match=message):
        needs("funnel", ["level", "feedback"], where="shop")
    with pytest.raises(DataError, match=r"no column 'level' and no column 'position'.* no target"):
        needs("funnel", [])


def test_an_unknown_target_is_reported_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"no target called 'funel' \(did you mean 'funnel'\?\)"):
        needs("funel", [])


NUMBERS = st.lists(st.floats(0, 9, width=32), min_size=6, max_size=6).map(sorted)


@given(z=NUMBERS, level=arrays(np.int8, 8, elements=st.integers(0, 4)), data=st.data())
def test_relabelling_is_equation_9_of_fs_ltr(z, level, data):
    feedback = data.draw(arrays(np.float32, 8, elements=st.sampled_from([0.0, 0.5, 1.0])))
    got = labels_of(Relabelling(by="feedback", z=z), {"level": level, "feedback": feedback})
    for y, s, f in zip(got, level, feedback, strict=True):
        assert y == (z[5] if s == 4 and f > 0 else z[s])
    assert got.dtype == np.float32
    same = labels_of(Relabelling(z=z), {"level": level})
    assert same.tolist() == [z[s] for s in level]


@pytest.mark.parametrize("z", [(0, 2, 1), (-1, 0), (0, float("nan")), (0, float("inf")), ()])
def test_values_that_decrease_or_are_not_finite_are_refused(z):
    with pytest.raises(
        ValueError, match=r"z must be non-decreasing numbers of at least 0|at least 1 item|finite"
    ):
        Relabelling(z=z)


def test_a_level_without_a_value_is_refused():
    with pytest.raises(ConfigError, match=r"has 3 levels, so z of the target must have 3 values; "):
        labels_of(Relabelling(z=(0, 1)), {"level": np.array([2])})
    with pytest.raises(ConfigError, match="3 values, and one for feedback; got"):
        Relabelling(by="feedback", z=(0, 1)).check_levels(3, where="shop")
    with pytest.raises(DataError, match="no column 'feedback', which a target by feedback needs"):
        needs(Relabelling(by="feedback", z=(0, 1)), ["level"])


@pytest.mark.parametrize(("levels", "below"), [(4, [7, 6, 5]), (5, [7, 7, 6, 5])])
def test_released_labels_are_30_minus_the_position_and_fixed_numbers_below(levels, below):
    level = np.array([levels - 1] * 4 + [*range(levels - 1)][::-1], dtype=np.int8)
    position = np.array([1, 10, 22, 0] + [1] * (levels - 1), dtype=np.int16)
    y = labels_of("released", {"level": level, "position": position}, levels=levels)
    assert y.tolist() == [29, 20, 8, 8, *below]


@pytest.mark.parametrize("levels", [None, 3, 6])
def test_released_labels_are_refused_for_other_numbers_of_levels(levels):
    columns = {"level": np.array([0]), "position": np.array([0])}
    with pytest.raises(ConfigError, match=r"4 or 5 levels of RecFlow; got .* levels; use target"):
        labels_of("released", columns, levels=levels)


@pytest.mark.parametrize("level", [4, 5])
def test_released_labels_are_refused_for_a_level_outside_the_log(level):
    columns = {"level": np.array([0, level]), "position": np.array([0, 1])}
    with pytest.raises(ConfigError, match=f"levels from 0 to 3; .* a candidate of level {level}"):
        labels_of("released", columns, levels=4)
