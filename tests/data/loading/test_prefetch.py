import threading
import time

import pytest

from cascaderank.data.loading.prefetch import prefetched


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("cascaderank-prefetch")]


def counted(computed, most=10):
    for i in range(most):
        computed.append(i)
        yield i


@pytest.mark.parametrize("ahead", [0, 1, 3, 50])
def test_elements_keep_their_order_and_no_thread_is_left(ahead):
    assert list(prefetched(counted([]), ahead)) == list(range(10))
    assert not threads()


@pytest.mark.parametrize("ahead", [1, 4])
def test_at_most_ahead_elements_are_computed_in_advance(ahead):
    computed = []
    elements = prefetched(counted(computed), ahead)
    assert next(elements) == 0
    deadline = time.monotonic() + 10
    while len(computed) < ahead + 1:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(0.05)
    assert computed == list(range(ahead + 1))
    elements.close()


def test_elements_are_computed_in_a_thread():
    def names():
        yield threading.current_thread().name

    assert list(prefetched(names(), 0)) == [threading.current_thread().name]
    assert next(prefetched(names(), 1)).startswith("cascaderank-prefetch")


def test_nothing_is_computed_before_the_first_element_is_taken():
    computed = []
    prefetched(counted(computed), 2)
    assert computed == []
    assert not threads()


@pytest.mark.parametrize("taken", [1, 5])
def test_abandoning_the_iteration_ends_the_thread(taken):
    computed = []
    elements = prefetched(counted(computed, 10**6), 3)
    for _ in range(taken):
        next(elements)
    elements.close()
    assert not threads()
    seen = len(computed)
    assert seen <= taken + 4
    time.sleep(0.02)
    assert len(computed) == seen


def test_an_error_of_the_consumer_ends_the_thread():
    def consume():
        for _ in prefetched(counted([], 10**6), 2):
            raise KeyError("consumer")

    with pytest.raises(KeyError, match="consumer"):
        consume()
    assert not threads()


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_an_exception_is_raised_at_its_element(ahead):
    def broken():
        yield 0
        yield 1
        raise RuntimeError("no third")

    elements = prefetched(broken(), ahead)
    assert [next(elements), next(elements)] == [0, 1]
    with pytest.raises(RuntimeError, match="no third"):
        next(elements)
    assert not threads()
    with pytest.raises(StopIteration):
        next(elements)


def test_giving_up_cancels_what_was_not_begun():
    begun, finish = [], threading.Event()

    def slow():
        for i in range(10):
            begun.append(i)
            if i:
                finish.wait(30)
            yield i

    elements = prefetched(slow(), 3)
    assert next(elements) == 0
    deadline = time.monotonic() + 10
    while len(begun) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    threading.Timer(0.5, finish.set).start()
    elements.close()
    assert begun == [0, 1]
    assert not threads()
