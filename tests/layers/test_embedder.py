"""The parts of a request's vector: its context, and its histories pooled or not."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.batch import RequestBatch
from cascaderank.layers.embedder import Embedder
from cascaderank.schema import Feature, FittedSchema

SCHEMA = FittedSchema(
    features=(
        Feature(name="hour", role="request", kind="numeric", missing=True),
        Feature(name="seen", role="history", kind="categorical", vocabulary="video"),
        Feature(name="asked", role="history", kind="categorical", sequence="searches"),
        Feature(name="seen_for", role="history", kind="numeric"),
        Feature(name="video", role="item", kind="categorical"),
    ),
    vocabularies={"video": (1, 2, 3), "asked": (1, 2)},
)
BATCH = RequestBatch(
    mask=torch.ones(2, 1).bool(),
    items={"video": torch.tensor([[1], [2]])},
    request={"hour": torch.tensor([0.5, torch.nan])},
    history={
        "seen": torch.tensor([[1, 3, 10**6], [2, 10**6, 10**6]]),
        "seen_for": torch.tensor([[2.0, 4.0, torch.nan], [3.0, torch.inf, torch.nan]]),
        "asked": torch.tensor([[1, 2], [10**6, 10**6]]),
    },
    history_mask={
        "history": torch.tensor([[True, True, False], [True, False, False]]),
        "searches": torch.tensor([[True, True], [False, False]]),
    },
)


def make_embedder():
    torch.manual_seed(0)
    return Embedder(SCHEMA, SCHEMA.features, dim=4)


def test_an_entry_of_a_history_has_all_features_of_its_sequence():
    embedder = make_embedder()
    history = embedder.history(BATCH)
    assert embedder.history_dims == {"history": 5, "searches": 4}
    assert {name: v.shape for name, (v, _) in history.items()} == {
        "history": (2, 3, 5),
        "searches": (2, 2, 4),
    }
    vectors, mask = history["history"]
    assert mask is BATCH.history_mask["history"]
    assert vectors.isfinite().all()
    assert torch.equal(vectors[0, 1, :4], embedder.tables["video"].weight[3])
    assert vectors[0, 1, 4] == 4.0


def test_context_is_the_request_without_its_histories():
    embedder = make_embedder()
    assert embedder.context_dim == 2
    assert torch.equal(embedder.context(BATCH), torch.tensor([[0.5, 0.0], [0.0, 1.0]]))


def test_a_request_is_its_context_and_the_mean_of_each_history():
    embedder = make_embedder()
    video, asked = (embedder.tables[name].weight for name in ("video", "asked"))
    expected = torch.stack(
        [
            torch.cat([torch.tensor([0.5, 0]), (video[1] + video[3]) / 2, torch.tensor([3.0]), (asked[1] + asked[2]) / 2]),
            torch.cat([torch.tensor([0.0, 1]), video[2], torch.tensor([3.0]), torch.zeros(4)]),
        ]
    )  # fmt: skip
    assert embedder.request_dim == expected.shape[1]
    torch.testing.assert_close(embedder.request(BATCH), expected)


def test_lookups_are_those_of_an_embedding_to_the_bit():
    """On a CPU they take another way to the same sums; the order of adding must not change."""
    torch.manual_seed(0)
    schema = FittedSchema(
        features=(
            Feature(name="video", role="item", kind="categorical", buckets=30),
            Feature(name="next", role="item", kind="categorical", vocabulary="video", buckets=30),
            Feature(name="author", role="item", kind="categorical", buckets=9),
        )
    )
    embedder = Embedder(schema, schema.features, dim=8)
    sizes, vocabularies = (31, 31, 10), ("video", "video", "author")
    codes = {
        name: torch.randint(0, size, (64, 40))
        for name, size in zip(schema.names, sizes, strict=True)
    }
    tables = [embedder.tables[name] for name in vocabularies]
    vectors = embedder.items(RequestBatch(mask=torch.ones(64, 40).bool(), items=codes))
    plain = torch.cat([table(c) for table, c in zip(tables, codes.values(), strict=True)], dim=-1)
    assert torch.equal(vectors, plain)
    slope = torch.randn(64, 40, 24)
    of_vectors, of_plain = (
        torch.autograd.grad((v * slope).sum(), list(embedder.parameters()))
        for v in (vectors, plain)
    )
    for x, y in zip(of_vectors, of_plain, strict=True):
        assert torch.equal(x, y)


def test_a_batch_without_any_history_is_embedded():
    empty = {name: values[:, :0] for name, values in BATCH.history.items()}
    masks = {name: mask[:, :0] for name, mask in BATCH.history_mask.items()}
    embedder = make_embedder()
    vectors = embedder.request(dataclasses.replace(BATCH, history=empty, history_mask=masks))
    assert vectors.shape == embedder.request(BATCH).shape
    assert vectors.isfinite().all()


POOL = {
    "mean": lambda column: sum(column) / len(column),
    "sum": sum,
    "max": max,
}
genre_lists = st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=6, max_size=6)


@pytest.mark.parametrize("pooling", POOL)
@settings(max_examples=15, deadline=None)
@given(lists=genre_lists, tags=genre_lists)
def test_several_values_are_pooled_as_in_plain_python(pooling, lists, tags):
    several = {"kind": "categorical", "multiple": True, "pooling": pooling}
    schema = FittedSchema(
        features=(
            Feature(name="genres", role="item", **several),
            Feature(name="tags", role="request", **several),
        ),
        vocabularies={"genres": (1, 2, 3, 4, 5), "tags": (1, 2, 3, 4, 5)},
    )
    embedder = Embedder(schema, schema.features, dim=3).double()
    for table in embedder.tables.values():
        torch.nn.init.normal_(table.weight)
    padded = torch.tensor([[*values, -1, -1, -1, -1, -1][:5] for values in lists + tags])
    batch = RequestBatch(
        mask=torch.ones(6, 1).bool(),
        items={"genres": padded[:6].unsqueeze(1)},
        request={"tags": padded[6:]},
    )
    for name, vectors, own in (
        ("genres", embedder.items(batch)[:, 0], lists),
        ("tags", embedder.request(batch), tags),
    ):
        weight = embedder.tables[name].weight.tolist()
        expected = [
            [
                POOL[pooling](column)
                for column in zip(*(weight[code] for code in codes), strict=True)
            ]
            or [0.0] * 3
            for codes in own
        ]
        torch.testing.assert_close(vectors, torch.tensor(expected).double())


def test_padded_candidates_with_several_values_are_zero():
    schema = FittedSchema(
        features=(Feature(name="genres", role="item", kind="categorical", multiple=True),),
        vocabularies={"genres": (1, 2)},
    )
    embedder = Embedder(schema, schema.features, dim=3)
    batch = RequestBatch(
        mask=torch.tensor([[True, False]]), items={"genres": torch.tensor([[[1, 2], [10**6, 1]]])}
    )
    assert not embedder.items(batch)[0, 1].any()
