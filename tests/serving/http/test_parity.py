"""Training code, the ranker and HTTP answer every request of a log equally."""

import numpy as np
import polars as pl
import pytest

from cascaderank.serving import export_run, verify_bundle
from cascaderank.serving.golden import GoldenScores
from cascaderank.serving.http.remote import RemoteRanker
from cascaderank.serving.verify import TOLERANCE
from tests.data.shops import write_shop
from tests.serving.conftest import MARKET, market_frame, market_items
from tests.serving.http.server_process import serving


@pytest.mark.parametrize("requests", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_request_of_a_log(market_run, tmp_path, requests):
    """The log has users, items and values of histories that training did not have."""
    frame = market_frame(requests, items=market_items(60))
    log = write_shop(tmp_path / "log", [frame], schema=MARKET, level_names=(), name="later")
    bundle = tmp_path / "bundle"
    manifest, _ = export_run(market_run, bundle, dataset=log.path, golden=requests)
    assert manifest.golden == requests
    with serving(bundle, "--workers", "1") as server:
        remote = RemoteRanker(server.url)
        remote.check_same(bundle)
        result = verify_bundle(bundle, ways=[("HTTP", remote.answer)])
        remote.close()
    assert result.difference is None
    assert result.requests == requests
    assert result.ways[1:] == ["modules of training", "Ranker, keys", "Ranker, rows", "HTTP"]
    assert result.largest < TOLERANCE
    print(f"{result.requests:,} of {requests:,} equal by {', '.join(result.ways)}")
    print(f"largest difference {result.largest:.1e}, near ties {result.near_ties}")
    # What the log is made of.
    lengths = GoldenScores.open(bundle).lengths
    known = set(market_frame()["user"].drop_nulls())
    shares = {
        "unknown users": (~frame["user"].is_in(list(known))).fill_null(value=False).mean(),
        "missing hours": frame["hour"].is_null().mean(),
        "empty histories": (frame["watched"].list.len() == 0).mean(),
        "one candidate": np.mean(lengths == 1),
        "unknown items": 1
        - frame["video"].explode().is_in(market_items()["video"].to_list()).mean(),
        "missing prices": frame["price"].explode().is_null().mean(),
    }
    print({name: round(float(share), 3) for name, share in shares.items()})
    assert min(shares.values()) > 0.05, shares
    assert frame.select(pl.col("request_id").n_unique()).item() == requests
