"""Domains of the entire chain, and the subsampling of their candidates."""

import numpy as np
import polars as pl
import pytest
import torch

from cascaderank.data.domains import DOMAINS, DomainSampling, count_domains, domains_of
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.hashing import mix, seeded
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import FittedSchema

LEVELS = torch.tensor([0, 1, 2, 3, 4, 3, 4])
FEEDBACK = torch.tensor([0.0, 1.0, 1.0, 0.0, 2.0, -1.0, 0.5])


def named(domains):
    return [DOMAINS[d] for d in domains.tolist()]


def test_a_click_is_feedback_above_0_on_an_exposed_candidate():
    domains = domains_of(LEVELS, FEEDBACK, exposed_level=3)
    assert named(domains) == ["unexposed"] * 3 + ["unclicked", "click", "unclicked", "click"]


def test_candidates_dropped_by_pre_ranking_can_be_a_separate_domain():
    domains = domains_of(LEVELS, FEEDBACK, exposed_level=4, preranked_level=2)
    want = ["dropped", "dropped", "unexposed", "unexposed", "click", "unexposed", "click"]
    assert named(domains) == want


def test_without_feedback_no_candidate_is_clicked():
    assert named(domains_of(LEVELS, None, exposed_level=4))[-1] == "unclicked"


@pytest.mark.parametrize(("exposed", "preranked"), [(0, None), (2, 3), (2, 0)])
def test_levels_out_of_order_are_refused(exposed, preranked):
    with pytest.raises(ConfigError, match="at least 1, and preranked_level at most exposed_level"):
        domains_of(LEVELS, None, exposed_level=exposed, preranked_level=preranked)


def test_sampling_has_the_set_rates_and_a_rate_of_1_keeps_all():
    sampling = DomainSampling(rates=(1.0, 0.4, 0.01, 0.001), seed=5)
    domains = torch.arange(4).repeat(200, 1000)
    weights = sampling.weights(domains, torch.arange(200))
    for domain, rate in enumerate(sampling.rates):
        of_domain = weights[domains == domain]
        deviation = (rate * (1 - rate) / len(of_domain)) ** 0.5
        assert of_domain.mean().item() == pytest.approx(rate, abs=5 * deviation + 1e-12)
        assert set(of_domain.unique().tolist()) <= {0.0, 1.0}


def test_weights_compensate_for_the_rates():
    domains = torch.arange(3).repeat(300, 100)
    weights = DomainSampling(rates=(1.0, 0.5, 0.1), reweighted=True).weights(
        domains, torch.arange(300)
    )
    values = torch.linspace(0, 1, domains.shape[1]).expand(300, -1)
    assert (weights * values).mean().item() == pytest.approx(values.mean().item(), rel=0.02)
    for domain, rate in ((0, 1.0), (1, 0.5), (2, 0.1)):
        assert set(weights[domains == domain].unique().tolist()) <= {0.0, 1 / np.float32(rate)}


def test_sampling_depends_on_request_and_place_only():
    sampling = DomainSampling(rates=(0.5, 0.5, 0.5), seed=1)
    domains, rows = torch.full((6, 40), 2), torch.arange(6)
    whole = sampling.weights(domains, rows)
    torch.testing.assert_close(sampling.weights(domains[:, :20], rows), whole[:, :20])
    torch.testing.assert_close(sampling.weights(domains[[4, 1]], rows[[4, 1]]), whole[[4, 1]])
    other = DomainSampling(rates=(0.5, 0.5, 0.5), seed=2).weights(domains, rows)
    assert not torch.equal(other, whole)
    assert len({tuple(row) for row in whole.tolist()}) == 6


def test_sampling_uses_the_same_hash_as_numpy():
    rows = np.arange(5, dtype=np.uint64)
    keys = mix(mix(rows ^ seeded(3))[:, None] ^ np.arange(30, dtype=np.uint64))
    want = (keys >> np.uint64(40)) < np.uint64(2**23)
    sampling = DomainSampling(rates=(0.5, 0.5, 0.5), seed=3)
    got = sampling.weights(torch.zeros(5, 30, dtype=torch.int64), torch.arange(5))
    assert (got.numpy() > 0).tolist() == want.tolist()


@pytest.mark.parametrize(
    "rates", [(1.0, 0.4), (1.0, 0.4, 0.0), (1.0, 1.1, 0.1), (1.0, float("nan"), 1.0)]
)
def test_a_domain_without_samples_is_refused(rates):
    with pytest.raises(ConfigError, match="a domain without samples cannot be trained on"):
        DomainSampling(rates=rates)


def encoded(**columns):
    fitted = FittedSchema(
        features=({"name": "price", "role": "item", "kind": "numeric"},),
        moments={"price": {"mean": 0.0, "deviation": 1.0}},
    )
    return EncodedLog.of_frame(pl.DataFrame({"price": [[1.0, 2.0], [3.0]], **columns}), fitted)


def test_domains_of_a_log_are_counted(monkeypatch):
    monkeypatch.setattr("cascaderank.data.domains._CHUNK", 2)  # in two chunks
    log = encoded(level=[[0, 2], [2]], feedback=[[0, 1], [0]])
    want = {"click": 1, "unclicked": 1, "unexposed": 1}
    assert count_domains(log, exposed_level=2) == want
    got = count_domains(log, exposed_level=2, preranked_level=1)
    assert got == {"click": 1, "unclicked": 1, "unexposed": 0, "dropped": 1}


def test_a_log_without_levels_is_refused():
    with pytest.raises(DataError, match="no levels, which identify the exposed candidates"):
        count_domains(encoded(), exposed_level=1)
