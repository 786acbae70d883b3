"""Search of all items: exact for any block size, and by an index up to its recall."""

import numpy as np
import pytest
import torch

from cascaderank.errors import ConfigError, DataError, ShapeError
from cascaderank.evaluation.item_retrieval import list_metrics
from cascaderank.evaluation.vector_search import ItemSets, agreement, exact_search, index_search
from cascaderank.metrics import hit_rate_metric, ndcg_metric, precision_metric, recall_metric


def vectors(requests=20, items=300, dim=8, *, seed=0):
    """Vectors of integers, so that sums are exact in any order and many scores tie."""
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randint(-3, 4, (requests, dim), generator=g).float(),
        torch.randint(-3, 4, (items, dim), generator=g).float(),
    )


def some_of(requests, items, *, seed=0, each=12):
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(requests), each)
    return ItemSets(rows, np.concatenate([rng.permutation(items)[:each] for _ in range(requests)]))


def by_sorting(requests, items, k, exclude):
    scores = (requests @ items.T).numpy()
    gone = set(zip(exclude.rows.tolist(), exclude.places.tolist(), strict=True))
    found = []
    for r, row in enumerate(scores):
        order = sorted((-s, i) for i, s in enumerate(row.tolist()) if (r, i) not in gone)
        found.append([i for _, i in order[:k]])
    return found


@pytest.mark.parametrize("block", [1, 7, 64, 299, 300, 8192])
def test_exact_search_equals_a_sort_for_any_block_size(block):
    requests, items = vectors()
    for exclude in (ItemSets.none(), some_of(20, 300)):
        got = exact_search(requests, items, 25, exclude=exclude, block=block)
        assert got.tolist() == by_sorting(requests, items, 25, exclude)


def test_blocks_of_requests_are_independent():
    requests, items = vectors(1200, 60)
    exclude = some_of(1200, 60)
    got = exact_search(requests, items, 5, exclude=exclude)
    assert got.tolist() == by_sorting(requests, items, 5, exclude)


def test_lists_are_padded_when_no_items_remain():
    requests, items = vectors(3, 4)
    exclude = ItemSets(np.array([1, 1, 1]), np.array([0, 1, 3]))
    got = exact_search(requests, items, 6, exclude=exclude)
    assert (got >= 0).sum(1).tolist() == [4, 1, 4]
    assert got[1].tolist() == [2, -1, -1, -1, -1, -1]
    by_index = index_search(requests, items, 6, index="Flat", exclude=exclude)
    assert [sorted(x) for x in by_index.tolist()] == [sorted(x) for x in got.tolist()]


@pytest.mark.parametrize("minus", [0.0, -0.0])
def test_extreme_scores_are_ordered(minus):
    items = torch.tensor([[-torch.inf], [1e38], [-1e-38], [minus], [0.0], [torch.inf], [-5.0]])
    got = exact_search(torch.ones(1, 1), items, 7)
    assert got.tolist() == [[5, 1, 3, 4, 2, 6, 0]]


def test_an_index_retrieves_the_exact_lists_up_to_its_recall():
    g = torch.Generator().manual_seed(0)
    requests, items = torch.randn(40, 16, generator=g), torch.randn(2000, 16, generator=g)
    exclude = some_of(40, 2000)
    exact = exact_search(requests, items, 20, exclude=exclude)
    flat = index_search(requests, items, 20, index="Flat", exclude=exclude)
    assert np.array_equal(flat, exact)
    assert agreement(flat, exact) == 1
    graph = index_search(requests, items, 20, index="HNSW32", exclude=exclude)
    assert 0.9 < agreement(graph, exact) <= 1
    few = index_search(requests, items, 20, index="IVF64,Flat", exclude=exclude)
    assert 0.05 < agreement(few, exact) < 0.9, "one cell of 64 is looked at"
    gone = set(zip(exclude.rows.tolist(), exclude.places.tolist(), strict=True))
    for found in (exact, flat, graph, few):
        for r, row in enumerate(found.tolist()):
            kept = [i for i in row if i >= 0]
            assert len(set(kept)) == len(kept)
            assert not {(r, i) for i in kept} & gone


@pytest.mark.parametrize("kind", ["mean", "one direction", "lengths"])
def test_a_graph_reaches_the_items(kind):
    g = torch.Generator().manual_seed(0)
    items, requests = torch.randn(4000, 16, generator=g), torch.randn(30, 16, generator=g)
    if kind == "mean":  # that all items share: without centring, a graph of products finds .19
        items = items + 3 * torch.randn(1, 16, generator=g)
    if kind == "one direction":  # that all requests share: a graph of products finds .60
        direction = torch.eye(16)[:1]
        items = items + 4 * direction * torch.randn(4000, 1, generator=g)
        requests = 0.3 * requests + direction
    if kind == "lengths":  # a graph of distances finds .32
        items = items * torch.randn(4000, 1, generator=g).exp()
    exact = exact_search(requests, items, 50)
    assert agreement(index_search(requests, items, 50, index="HNSW16"), exact) > 0.9


def test_agreement_is_the_share_of_the_exact_lists():
    exact = np.array([[1, 2, 3], [4, 5, -1]])
    assert agreement(np.array([[3, 2, 9], [5, 4, 1]]), exact) == 4 / 5
    assert agreement(np.full((2, 3), -1), exact) == 0
    assert agreement(exact, np.full((2, 3), -1)) == 1


@pytest.mark.parametrize("m", [1, 5, 20])
def test_list_metrics_agree_with_metrics_of_scores_of_all_items(m):
    requests, items = vectors(30, 80)
    requests = requests + torch.rand(30, 8, generator=torch.Generator().manual_seed(1))
    relevant = some_of(30, 80, each=9)
    relevant = ItemSets(
        relevant.rows[9:], relevant.places[9:]
    )  # the first request has no relevant item
    lists = exact_search(requests, items, 20)
    got = list_metrics(lists, relevant, [m, 20])
    labels = torch.zeros(30, 80)
    labels[relevant.rows, relevant.places] = 1
    # In the precision of the scores, so that both have the same order.
    scores = torch.full((30, 80), -1.0, dtype=torch.float64)
    scores.scatter_(1, torch.from_numpy(lists), torch.arange(20, 0, -1).double().expand(30, 20))
    rule = {"threshold": 1.0}
    want = {
        "hit_rate": hit_rate_metric(scores, labels, m=m, **rule),
        "recall": recall_metric(scores, labels, m=m, **rule),
        "precision": precision_metric(scores, labels, m=m, **rule),
        "ndcg": ndcg_metric(scores, labels.double(), k=m, gain="linear"),
    }
    for name, values in want.items():
        np.testing.assert_allclose(got[f"{name}@{m}"][1:], values.numpy()[1:], rtol=1e-12)
        assert np.isnan(got[f"{name}@{m}"][0])
        assert len(set(values[1:].tolist())) > 1, "vacuous"


def test_items_outside_the_lists_are_misses():
    lists = np.array([[0, 1], [1, -1]])
    relevant = ItemSets(np.array([0, 0, 1, 1]), np.array([-1, 1, -1, -1]))
    found = list_metrics(lists, relevant, [1, 2])
    assert found["recall@2"].tolist() == [0.5, 0]
    assert found["hit_rate@1"].tolist() == [0, 0]
    assert found["precision@2"].tolist() == [0.5, 0]


def test_invalid_searches_are_rejected():
    requests, items = vectors()
    with pytest.raises(ShapeError, match="vectors must be"):
        exact_search(requests[:, 1:], items, 3)
    with pytest.raises(ConfigError, match="k must be a positive integer"):
        exact_search(requests, items, 0)
    with pytest.raises(DataError, match="NaN"):
        exact_search(requests * torch.nan, items, 3)
    with pytest.raises(ConfigError, match="faiss cannot build index 'HSNW'"):
        index_search(requests, items, 3, index="HSNW")
    with pytest.raises(ConfigError, match="at least 3 items for cut-off 3; got 2"):
        list_metrics(np.zeros((1, 2), np.int64), ItemSets.none(), [3])
