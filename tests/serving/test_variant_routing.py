"""The variant of a request depends on its key alone, and shares are as asked for."""

from collections import Counter

import pytest

from cascaderank.errors import ConfigError
from cascaderank.serving.variant_routing import Routing

NAMES = ("main", "b", "c")


def test_shares_are_as_asked_for():
    routing = Routing(variants=NAMES, ab={"b": 0.1, "c": 0.3})
    counts = Counter(routing.variant_of(f"u{i}") for i in range(20_000))
    assert counts["b"] == pytest.approx(2_000, abs=200)
    assert counts["c"] == pytest.approx(6_000, abs=300)


def test_a_larger_share_keeps_the_requests_of_a_smaller_one():
    small, large = (Routing(variants=("main", "b"), ab={"b": share}) for share in (0.1, 0.4))
    keys = [f"u{i}" for i in range(2_000)]
    assert {k for k in keys if small.variant_of(k) == "b"} < {
        k for k in keys if large.variant_of(k) == "b"
    }


def test_the_key_is_a_feature_or_the_id_of_the_request():
    routing = Routing(variants=("main", "b"), ab={"b": 0.5}, key="user")
    assert routing.key_of({"user": 7}, "r1") == "7"
    assert routing.key_of({"user": None}, "r1") == routing.key_of({}, "r1") == "r1"
    assert Routing(variants=("main",)).key_of({"user": 7}, "r1") == "r1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ab": {"d": 0.1}}, "found 'd'"),
        ({"ab": {"b": 0.1}}, "bundle 'c' is not used"),
        ({"ab": {"b": 1.0, "c": 0.1}}, "between 0 and 1"),
        ({"ab": {"b": 0.7, "c": 0.7}}, "sum to at most 1"),
        ({"ab": {"b": float("nan"), "c": 0.1}}, "between 0 and 1"),
        ({"ab": {"b": 0.1}, "interleave": "c"}, "leave --ab or --interleave out"),
        ({"shadow": ["main", "b", "c"]}, "found 'main'"),
    ],
)
def test_routing_that_is_impossible_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Routing(variants=NAMES, **options)
