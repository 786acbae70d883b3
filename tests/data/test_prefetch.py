import threading
import time

import pytest

from cascaderank.data.prefetch import prefetched


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("cascaderank-prefetch")]


def counted(made, most=10):
    for i in range(most):
        made.append(i)
        yield i


@pytest.mark.parametrize("ahead", [0, 1, 3, 50])
def test_things_come_in_order_and_no_thread_is_left(ahead):
    assert list(prefetched(counted([]), ahead)) == list(range(10))
    assert not threads()


@pytest.mark.parametrize("ahead", [1, 4])
def test_so_many_are_made_ahead_and_no_more(ahead):
    made = []
    things = prefetched(counted(made), ahead)
    assert next(things) == 0
    deadline = time.monotonic() + 10
    while len(made) < ahead + 1:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(0.05)
    assert made == list(range(ahead + 1))
    things.close()


def test_they_are_made_in_a_thread():
    def names():
        yield threading.current_thread().name

    assert list(prefetched(names(), 0)) == [threading.current_thread().name]
    assert next(prefetched(names(), 1)).startswith("cascaderank-prefetch")


def test_nothing_is_made_before_it_is_asked_for():
    made = []
    prefetched(counted(made), 2)
    assert made == []
    assert not threads()


@pytest.mark.parametrize("taken", [1, 5])
def test_giving_up_early_ends_the_thread(taken):
    made = []
    things = prefetched(counted(made, 10**6), 3)
    for _ in range(taken):
        next(things)
    things.close()
    assert not threads()
    seen = len(made)
    assert seen <= taken + 4
    time.sleep(0.02)
    assert len(made) == seen


def test_an_error_of_the_consumer_ends_the_thread():
    def consume():
        for _ in prefetched(counted([], 10**6), 2):
            raise KeyError("consumer")

    with pytest.raises(KeyError, match="consumer"):
        consume()
    assert not threads()


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_what_goes_wrong_is_raised_where_it_would_have_been(ahead):
    def broken():
        yield 0
        yield 1
        raise RuntimeError("no third")

    things = prefetched(broken(), ahead)
    assert [next(things), next(things)] == [0, 1]
    with pytest.raises(RuntimeError, match="no third"):
        next(things)
    assert not threads()
    with pytest.raises(StopIteration):
        next(things)


def test_giving_up_cancels_what_was_not_begun():
    begun, finish = [], threading.Event()

    def slow():
        for i in range(10):
            begun.append(i)
            if i:
                finish.wait(30)
            yield i

    things = prefetched(slow(), 3)
    assert next(things) == 0
    deadline = time.monotonic() + 10
    while len(begun) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    threading.Timer(0.5, finish.set).start()
    things.close()
    assert begun == [0, 1]
    assert not threads()
