import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.data.loading.request_order import bucketed, ordered


def batches_of(rows, batch_size):
    return [rows[i : i + batch_size].tolist() for i in range(0, len(rows), batch_size)]


def padding_of(rows, lengths, batch_size):
    real = int(lengths[rows].sum())
    padded = sum(
        len(batch) * int(lengths[np.array(batch)].max()) for batch in batches_of(rows, batch_size)
    )
    return 1 - real / padded


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(1, 9), st.integers(1, 5), st.integers(0, 9))
def test_bucketing_keeps_rows_batches_and_days(n, batch_size, days, seed):
    rng = np.random.default_rng(seed)
    of_day = rng.integers(0, days, n).astype(np.int32)
    lengths = rng.integers(1, 30, n)
    for given_days in (None, of_day):
        rows = ordered(np.arange(n), seed=seed, epoch=2, days=given_days)
        before = rows.copy()
        options = {"lengths": lengths, "batch_size": batch_size, "days": given_days}
        found = bucketed(rows, seed=seed, epoch=2, **options)
        assert (rows == before).all()
        assert sorted(found) == list(range(n))
        assert (found == bucketed(rows, seed=seed, epoch=2, **options)).all()
        if given_days is not None:
            assert (of_day[found] == of_day[rows]).all()
        left = n % batch_size
        assert found[n - left :].tolist() == rows[n - left :].tolist()


def test_bucketing_saves_padding_and_shuffles_the_batches():
    lengths = np.random.default_rng(0).integers(1, 101, 20_000)
    rows = ordered(np.arange(20_000), seed=1, epoch=0)
    found = bucketed(rows, lengths=lengths, batch_size=32, seed=1, epoch=0)
    assert padding_of(rows, lengths, 32) > 0.4
    assert padding_of(found, lengths, 32) < 0.03
    longest = [lengths[batch].max() for batch in batches_of(found, 32)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.15


def test_each_epoch_has_other_batches():
    lengths = np.random.default_rng(0).integers(1, 101, 640)
    together = []
    for epoch in range(2):
        rows = ordered(np.arange(640), seed=1, epoch=epoch)
        found = bucketed(rows, lengths=lengths, batch_size=32, seed=1, epoch=epoch)
        together.append({tuple(sorted(batch)) for batch in batches_of(found, 32)})
    assert not together[0] & together[1]


def test_a_batch_of_two_days_is_unchanged():
    days = np.array([0] * 5 + [1] * 7, dtype=np.int32)
    lengths = np.arange(12)
    rows = ordered(np.arange(12), seed=None, epoch=0, days=days)
    found = bucketed(rows, lengths=lengths, batch_size=2, seed=0, epoch=0, days=days)
    assert batches_of(found, 2)[2] == [4, 5]
    assert sorted(found[:4]) == [0, 1, 2, 3]
    assert sorted(found[6:]) == [6, 7, 8, 9, 10, 11]


def test_the_same_batches_come_in_another_order_in_each_epoch():
    lengths = np.random.default_rng(0).permutation(64)
    ask = {"lengths": lengths, "batch_size": 8, "seed": 1}
    epochs = [batches_of(bucketed(np.arange(64), epoch=e, **ask), 8) for e in range(5)]
    assert len({str(batches) for batches in epochs}) == 5
    assert len({str(sorted(batches)) for batches in epochs}) == 1


def test_few_batches_of_unequal_lengths_are_mixed_anew_in_each_epoch():
    lengths = np.random.default_rng(0).permutation(64)  # sorted as a whole, no choice is left
    together = []
    for epoch in range(5):
        rows = ordered(np.arange(64), seed=1, epoch=epoch)
        found = bucketed(rows, lengths=lengths, batch_size=8, seed=1, epoch=epoch)
        together.append(str(sorted(sorted(batch) for batch in batches_of(found, 8))))
    assert len(set(together)) == 5
