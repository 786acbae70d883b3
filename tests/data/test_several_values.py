"""Features with several values per candidate or request, from the log to batches.

The oracles are plain Python loops over lists.
"""

import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cascaderank.data.encoding.column_files import mapping_of
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.encoder import check_same_features
from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.item_catalogue import ItemCatalogue
from cascaderank.data.loading.candidates import CandidateSampler, CandidateSettings
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.data.log.summary import summarise
from cascaderank.data.split import Split
from cascaderank.errors import ConfigError, DataError, SchemaError
from cascaderank.runs.data import RunData
from cascaderank.runs.sharing import open_shared, share
from cascaderank.schema import Feature, Schema

SCHEMA = Schema(
    features=(
        Feature(name="film", role="item", kind="categorical"),
        Feature(name="genres", role="item", kind="categorical", multiple=True),
        Feature(name="likes", role="request", kind="categorical", multiple=True, buckets=50),
        Feature(name="hour", role="request", kind="numeric", transform="none"),
    )
)
TYPES = {
    "film": pl.List(pl.Int64),
    "genres": pl.List(pl.List(pl.String)),
    "likes": pl.List(pl.Int64),
    "label": pl.List(pl.Float32),
}
FILMS = {1: ["war"], 2: ["war", "drama"], 3: [], 4: None, 5: ["noir", "war", "drama"]}


def frame_of(requests, *, likes=None, first=0):
    """Return requests given as lists of pairs of a film and its genres."""
    return pl.DataFrame(
        {
            "request_id": range(first, first + len(requests)),
            "film": [[film for film, _ in request] for request in requests],
            "genres": [[genres for _, genres in request] for request in requests],
            "likes": likes or [[7, 8][:i] for i in range(len(requests))],
            "hour": [float(i) for i in range(len(requests))],
            "label": [[float(film % 2) for film, _ in request] for request in requests],
        },
        schema_overrides=TYPES,
    )


def films(*names):
    return [(film, FILMS[film]) for film in names]


FRAME = frame_of([films(1, 2), films(5, 3, 4), films(2)])


def write(path, *frames, schema=SCHEMA, items=None, **options):
    with RequestLogWriter(path, name="films", schema=schema, **options) as writer:
        for frame in frames:
            writer.write(frame)
        if items is not None:
            writer.write_catalogue(items)
    return RequestLog.open(path)


def built(log, folder, **options):
    fitted = fit_schema(log.schema, log.frames())
    return EncodedLog.build(log, fitted, target="label", folder=folder, **options), fitted


def decoded(values, vocabulary):
    """Return the values of padded codes ``[..., values]``; ``"?"`` for code 0."""
    if values.dim() > 1:
        return [decoded(v, vocabulary) for v in values]
    return ["?" if code == 0 else vocabulary[code - 1] for code in values.tolist() if code >= 0]


def test_a_log_keeps_lists_of_values_and_their_order(tmp_path):
    log = write(tmp_path / "log", FRAME)
    (frame,) = log.frames()
    assert frame.schema["genres"] == pl.List(pl.List(pl.String))
    assert frame["genres"].to_list() == FRAME["genres"].to_list()
    assert frame["likes"].to_list() == [[], [7], [7, 8]]
    assert log.schema == SCHEMA
    assert log.schema["genres"].multiple
    summary = summarise(log)
    assert summary["features"]["item"] == {"categorical": 2, "numeric": 0}
    assert summary["several_values"] == ["genres", "likes"]


def test_only_features_with_several_values_change_the_manifest(tmp_path):
    """Fingerprints of logs of earlier versions stay valid, and their manifests can be read."""
    log = write(tmp_path / "log", FRAME)
    features = json.loads((tmp_path / "log" / "manifest.json").read_text())["schema"]["features"]
    assert [f.get("multiple") for f in features] == [None, True, True, None]
    assert "pooling" not in features[0]
    assert features[1]["pooling"] == "mean"
    assert Schema.model_validate(log.schema.model_dump()) == SCHEMA


@pytest.mark.parametrize(
    ("likes", "dtype"), [([None, [7], [7, 8]], pl.List(pl.Int32)), ([None] * 3, None), ([[]] * 3, None)]
)  # fmt: skip
def test_null_and_empty_lists_are_the_same(tmp_path, likes, dtype):
    frame = FRAME.with_columns(pl.Series("likes", likes, dtype=dtype))
    log = write(tmp_path / "log", frame)
    encoded, _ = built(log, tmp_path / "columns")
    expected = [len(values or []) for values in likes]
    assert np.diff(encoded.request_lists["likes"].offsets).tolist() == expected


def test_arrays_are_lists(tmp_path):
    pairs = pl.Series("genres", [[["war", "noir"]] * 2, [["war", "noir"]] * 3, [["war", "war"]]])
    frame = FRAME.with_columns(pairs.cast(pl.List(pl.Array(pl.String, 2))))
    log = write(tmp_path / "log", frame)
    assert next(log.frames())["genres"].to_list() == pairs.to_list()
    fitted = fit_schema(SCHEMA, [frame])
    encoded = EncodedLog.of_frame(frame, fitted)
    assert encoded.item_lists["genres"].values.tolist() == [2, 1] * 5 + [2, 2]


WRONG = {
    "a null inside a list": (
        FRAME.with_columns(pl.Series("likes", [[1, None], [None], []])),
        r"feature 'likes': 2 of 3 values in lists are null; leave them out: a list may be empty",
    ),
    "one value per candidate": (
        FRAME.with_columns(pl.Series("genres", [["war"] * n for n in (2, 3, 1)])),
        r"column 'genres' must be a list of lists per request; "
        r"found List\(String\)",
    ),
    "one value per request": (
        FRAME.with_columns(pl.Series("likes", [1, 2, 3])),
        r"column 'likes' must be a list of values per row; found Int64",
    ),
    "several values per candidate of another feature": (
        FRAME.with_columns(pl.Series("film", [[[1], [2]], [[1]] * 3, [[1]]])),
        r"column 'film' must have one value per entry of its lists; "
        r"found List\(List\(Int64\)\); set multiple=true",
    ),
    "several values per request of another feature": (
        FRAME.with_columns(pl.Series("hour", [[1.0], [2.0], [3.0]])),
        r"column 'hour' must have one value per request; found List\(Float64\); set multiple=true",
    ),
    "numbers as categories": (
        FRAME.with_columns(pl.Series("likes", [[0.5], [], []])),
        r"column 'likes': expected integers; found Float64",
    ),
    "lists of another number of candidates": (
        FRAME.with_columns(pl.Series("genres", [[["war"]]] * 3)),
        r"candidates: lists of unequal length in 2 requests, first in request 0: film 2, genres 1",
    ),
}


@pytest.mark.parametrize(("frame", "message"), WRONG.values(), ids=WRONG)
def test_wrong_columns_are_refused(tmp_path, frame, message):
    with pytest.raises(DataError, match=message):
        write(tmp_path / "log", frame)


def test_frames_that_are_encoded_without_a_log_are_checked_too():
    fitted = fit_schema(SCHEMA, [FRAME])
    null = FRAME.with_columns(pl.Series("genres", [[["war", None], []], [[]] * 3, [None]]))
    with pytest.raises(DataError, match=r"'genres': 1 of 2 values in lists are null; leave them"):
        EncodedLog.of_frame(null, fitted)
    flat = FRAME.with_columns(pl.Series("genres", [["war"] * n for n in (2, 3, 1)]))
    for encode in (lambda: EncodedLog.of_frame(flat, fitted), lambda: fit_schema(SCHEMA, [flat])):
        with pytest.raises(SchemaError, match=r"'genres' has several values .* a list of lists"):
            encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "numeric"}, "needs a categorical feature; found a numeric one; set width"),
        ({"width": 2, "multiple": False}, "width needs a numeric feature; .* set multiple=true"),
        (
            {"role": "history"},
            "a feature of a history has one value per entry; found multiple=true",
        ),
        ({"multiple": False, "pooling": "max"}, "set multiple=true, or remove pooling"),
    ],
)
def test_impossible_features_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        Feature(**{"name": "x", "role": "item", "kind": "categorical", "multiple": True, **changes})


def test_a_model_refuses_a_log_with_one_value_instead(tmp_path):
    one = Feature(name="genres", role="item", kind="categorical")
    with pytest.raises(SchemaError, match="'genres' has multiple False and not True"):
        check_same_features(
            fit_schema(SCHEMA, [FRAME]),
            Schema(features=tuple(one if f.name == "genres" else f for f in SCHEMA.features)),
            where="shop",
        )


names = st.sampled_from(["war", "noir", "drama", "ünicode", ""])
genre_lists = st.none() | st.lists(names, max_size=4)
requests = st.lists(
    st.lists(st.tuples(st.integers(1, 9), genre_lists), min_size=1, max_size=5),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=12)
@given(requests, requests, st.integers(1, 3), st.integers(0, 3))
def test_batches_hold_the_values_of_each_candidate(first, second, rows_per_part, seed):
    """Vocabulary of the first frame; values of the second may be out of vocabulary."""
    frames = [frame_of(first), frame_of(second, first=len(first))]
    fitted = fit_schema(SCHEMA, frames[:1])
    vocabulary = fitted.vocabularies["genres"]
    assert vocabulary == tuple(sorted({g for r in first for _, gs in r for g in gs or []}))
    with tempfile.TemporaryDirectory() as name:
        log = write(Path(name) / "log", *frames, rows_per_part=rows_per_part)
        encoded = EncodedLog.build(
            log, fitted, target="label", folder=Path(name) / "columns", seed=seed
        )
        batch = RequestLoader(encoded, np.arange(encoded.requests), batch_size=99).collate(
            np.arange(encoded.requests)[::-1]
        )
    assert batch.items["genres"].dtype == batch.request["likes"].dtype == torch.int64
    assert batch.items["genres"].shape[:2] == batch.mask.shape
    assert (batch.items["genres"][~batch.mask] == -1).all()
    for row, request in enumerate(reversed(first + second)):
        expected = [
            (film % 2, [g if g in vocabulary else "?" for g in genres or []])
            for film, genres in request
        ]
        real = batch.mask[row]
        got = zip(
            batch.labels[row][real].tolist(),
            decoded(batch.items["genres"][row][real], vocabulary),
            strict=True,
        )
        assert sorted(expected) == sorted(got), "candidates are shuffled in the log"
        at = len(first) + len(second) - 1 - row
        likes = at if at < len(first) else at - len(first)
        assert (batch.request["likes"][row] >= 1).sum() == min(2, likes)


def test_columns_are_mapped_from_files(tmp_path):
    log = write(tmp_path / "log", FRAME, frame_of([films(5, 1)] * 3, first=3), rows_per_part=2)
    encoded, fitted = built(log, tmp_path / "columns")
    genres = encoded.item_lists["genres"]
    assert mapping_of(genres.values) is not None
    assert mapping_of(genres.offsets) is not None
    assert encoded.mapped_bytes >= genres.values.nbytes + genres.offsets.nbytes
    assert len(genres) == log.manifest.candidates
    assert fitted.vocabularies["genres"] == ("drama", "noir", "war")


def test_padding_is_at_least_one_value_wide():
    frame = frame_of([films(3), films(4)])
    log = EncodedLog.of_frame(frame, fit_schema(SCHEMA, [frame]))
    batch = RequestLoader(log, np.arange(2), batch_size=2).collate(np.arange(1))
    assert batch.items["genres"].tolist() == [[[-1]]]
    assert batch.request["likes"].tolist() == [[-1]]


def catalogue_of(requests, **options):
    fitted = fit_schema(SCHEMA, [FRAME])
    log = EncodedLog.of_frame(requests, fitted, target="label")
    train = np.arange(log.requests)
    return ItemCatalogue.build(log, fitted, item="film", train=train, **options), fitted, log


@pytest.mark.parametrize("listed", [False, True])
def test_the_catalogue_has_the_values_of_each_item(tmp_path, listed):
    items = pl.DataFrame(
        {"film": list(FILMS), "genres": list(FILMS.values())},
        schema_overrides={"genres": pl.List(pl.String)},
    )
    log = write(tmp_path / "log", FRAME, items=items)
    catalogue, fitted, _ = catalogue_of(FRAME, frame=log.catalogue() if listed else None)
    assert catalogue.unknown == ()
    batch = catalogue.batch(1, 9 if listed else 5)
    vocabulary = fitted.vocabularies["genres"]
    assert decoded(batch.items["genres"][0], vocabulary) == [FILMS[i] or [] for i in (2, 3, 4, 5)]


def test_values_that_differ_between_requests_are_not_those_of_the_item():
    swapped = frame_of([films(2), [(2, ["drama", "war"])]])
    assert catalogue_of(swapped)[0].unknown == ()
    for other in (["war"], ["war", "war"], ["war", "noir"], []):
        catalogue, *_ = catalogue_of(frame_of([films(2), [(2, other)]]))
        assert catalogue.unknown == ("genres",)
        assert "genres" not in catalogue.lists


def test_an_item_is_identified_by_one_value():
    fitted = fit_schema(SCHEMA, [FRAME])
    with pytest.raises(ConfigError, match="must be a categorical item feature with one value"):
        ItemCatalogue.build(
            EncodedLog.of_frame(FRAME, fitted), fitted, item="genres", train=np.arange(3)
        )


def test_a_wrong_catalogue_is_refused(tmp_path):
    items = pl.DataFrame({"film": [1], "genres": ["war"]})
    with pytest.raises(DataError, match=r"'genres' must be a list of values per row; found String"):
        write(tmp_path / "log", FRAME, items=items)


def test_random_candidates_have_their_own_values():
    catalogue, fitted, log = catalogue_of(FRAME)
    sampler = CandidateSampler(log, CandidateSettings(pool=6), catalogue=catalogue, seed=3)
    loader = RequestLoader(log, np.arange(3), batch_size=3, seed=0, sampler=sampler)
    random = 0
    for epoch in range(3):
        batch = next(loader.epoch(epoch))
        assert (batch.items["genres"][~batch.mask] == -1).all()
        codes = batch.items["film"][batch.mask].tolist()
        lists = decoded(batch.items["genres"][batch.mask], fitted.vocabularies["genres"])
        random += len(codes) - 6
        for code, genres in zip(codes, lists, strict=True):
            assert genres == (FILMS[fitted.vocabularies["film"][code - 1]] or [])
    assert random > 10


VECTORS = Schema(
    features=(
        Feature(name="film", role="item", kind="categorical"),
        Feature(name="text", role="item", kind="numeric", width=2, missing=True),
        Feature(name="query", role="request", kind="numeric", width=3, transform="none"),
    )
)
FRAME_OF_VECTORS = pl.DataFrame(
    {
        "request_id": [1, 2],
        "film": [[1, 2], [1]],
        "text": [[[1.0, 5.0], None], [[1.0, 5.0]]],
        "query": pl.Series([[1, 2, 3], [4, 5, 6]], dtype=pl.Array(pl.Int64, 3)),
        "label": [[1.0, 0.0], [1.0]],
    }
)


def test_vectors_reach_batches_with_one_mean_and_deviation(tmp_path):
    log = write(tmp_path / "log", FRAME_OF_VECTORS, schema=VECTORS)
    encoded, fitted = built(log, tmp_path / "columns")
    assert fitted.moments["text"].mean == 3.0
    assert fitted.moments["text"].deviation == 2.0
    batch = RequestLoader(encoded, np.arange(2), batch_size=2).collate(np.arange(2))
    assert batch.request["query"].tolist() == [[1, 2, 3], [4, 5, 6]]
    first, second = batch.items["text"]
    assert first.dtype == torch.float32
    assert sorted(first.nan_to_num(9).tolist()) == [[-1, 1], [9, 9]]
    assert second[0].tolist() == [-1, 1]
    assert second[1].isnan().all()
    catalogue = ItemCatalogue.build(encoded, fitted, item="film", train=np.arange(2))
    assert catalogue.unknown == ()
    assert catalogue.batch(0, 2).items["text"].nan_to_num(9).tolist() == [[[-1, 1], [9, 9]]]


def test_a_batch_of_missing_vectors_has_their_width(tmp_path):
    fitted = fit_schema(VECTORS, [FRAME_OF_VECTORS])
    nothing = FRAME_OF_VECTORS.with_columns(pl.Series("text", [[[], None], [None]]))
    log = EncodedLog.of_frame(nothing, fitted)
    batch = RequestLoader(log, np.arange(2), batch_size=2).collate(np.arange(2))
    assert batch.items["text"].shape == (2, 2, 2)
    assert batch.items["text"].isnan().all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"query": [[1, 2], [1, 2, 3]]},
            r"'query': expected 3 numbers in each list \(width=3\); found 2 in the first of 1 wrong "
            "lists, of 2$",
        ),
        ({"query": [[1, 2, 3], None]}, "found 0 in .* set missing=true if a vector may be missing"),
        ({"text": [[[1.0, None], []], [[]]]}, "'text': 1 of 2 .* null; leave the whole vector out"),
        (
            {"text": [[[1.0, float("nan")], []], [[]]]},
            r"text.* \(?1 of 2.*missing=true",
        ),
    ],
)
def test_wrong_vectors_are_refused(tmp_path, columns, message):
    frame = FRAME_OF_VECTORS.with_columns(**{n: pl.Series(v) for n, v in columns.items()})
    with pytest.raises(DataError, match=message):
        write(tmp_path / "log", frame, schema=VECTORS)
    fitted = fit_schema(VECTORS, [FRAME_OF_VECTORS])
    with pytest.raises(DataError, match=message):
        EncodedLog.of_frame(frame, fitted)


def test_another_process_opens_the_same_lists(tmp_path):
    log = write(tmp_path / "log", FRAME)
    encoded, fitted = built(log, tmp_path / "columns")
    rows = np.arange(1)
    data = RunData(
        log=log,
        split=Split(train=rows, validation=rows, test=rows),
        encoded=encoded,
        schema=fitted,
        folder=tmp_path / "columns",
        item="film",
        batch_size=2,
    )
    opened = open_shared(share(data))
    assert opened.schema == fitted
    for ours, theirs in (
        (encoded.item_lists["genres"], opened.encoded.item_lists["genres"]),
        (encoded.request_lists["likes"], opened.encoded.request_lists["likes"]),
    ):
        for name in (f.name for f in dataclasses.fields(ours)):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert opened.encoded.item_lists["genres"].width == 1
    assert mapping_of(opened.encoded.item_lists["genres"].values) is not None
