"""Options proposed for a long table: what they are, and that the edited file prepares the log."""

import tomllib
from datetime import date
from functools import partial

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES, propose
from cascaderank.errors import CascadeRankError
from cascaderank.schema import Role

PROPOSE = partial(propose, "long")
ROWS = pl.DataFrame(
    {
        "visit": ["a", "b", "a", "b", "a"],
        "ts": [1_767_225_600_000] * 5,
        "when": ["2026-01-01 00:00:00"] * 5,
        "age": [30, 41, 30, 41, 30],
        "video": ["v1", "v2", "v3", "v1", "v1"],
        "price": [0.5, None, 2.5, 3.5, float("nan")],
        "stage": ["recalled", "seen", "recalled", None, "seen"],
        "click": [None, 1.0, None, 0.0, 1.0],
        "seen": [[1], [1, 2], [1], [1, 2], [1]],
        "tags": [["x"], ["y"], [], ["x", "y"], ["x"]],
        "struct": [{"x": 1}] * 5,
        "version": ['3 \n\x7f "quoted" é'] * 5,
        "nothing": pl.Series([None] * 5, dtype=pl.Int64),
        "label": [1, 2, 3, 4, 5],
    }
)
ROLES = {
    "request_id": "visit",
    "timestamp": "ts",
    "level": "stage",
    "label": "click",
    "item_key": "video",
}


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "logs/day=2026-01-01"
    folder.mkdir(parents=True)
    ROWS.write_parquet(folder / "rows.parquet")
    return tmp_path / "logs"


def features(proposal):
    return {f["name"]: f for f in tomllib.loads(proposal.toml)["schema"]["features"]}


def test_usable_columns_are_proposed_with_role_kind_and_missing_values(files):
    found = features(PROPOSE(files, **ROLES))
    assert {name: (f["role"], f["kind"], f.get("missing", False)) for name, f in found.items()} == {
        "age": ("request", "categorical", False),
        "video": ("item", "categorical", False),
        "price": ("item", "numeric", True),
        "seen": ("history", "categorical", False),
        "tags": ("item", "categorical", False),
    }
    assert found["tags"]["multiple"]


def test_other_columns_are_comments_with_the_reason(files):
    reasons = {
        column["name"]: column["not_used_because"]
        for column in PROPOSE(files, **ROLES).facts["columns"]
        if not column["used"]
    }
    assert reasons == {
        "when": "times, see timestamp",
        "struct": "Struct({'x': Int64}) is neither numbers nor text",
        "version": "one value in the sample",
        "nothing": "null in the sample",
        "label_feature": "called 'label' in the files, a reserved name",
        "day": "times, see timestamp",
    }
    text = PROPOSE(files, **ROLES).toml
    for name, reason in reasons.items():
        (line,) = (line for line in text.splitlines() if f'{{ name = "{name}"' in line)
        assert line.startswith("  # {")
        assert f"# not used, {reason}" in line


def test_options_follow_from_the_columns_and_open_decisions_are_comments(files):
    proposal = PROPOSE(files, **ROLES)
    options = tomllib.loads(proposal.toml)
    assert {k: v for k, v in options.items() if k != "schema"} == {
        **ROLES,
        "timestamp_unit": "ms",
        "time_zone": "UTC",
        "several_times": "error",
        "null_level": "error",
        "null_label": "error",
        "repeated": "error",
        "min_candidates": 1,
    }
    assert proposal.facts["options"] == {
        **options,
        "schema": {"features": proposal.facts["options"]["schema"]["features"]},
    }
    lines = {line.partition("  #")[0].rstrip(): line for line in proposal.toml.splitlines()}
    assert '# level_names = ["recalled", "seen"]' in lines  # in an order that has to be checked
    assert '# position = ""' in lines
    assert "20.0% null" in lines['null_level = "error"']
    assert "1 of 5 rows" in lines['repeated = "error"']
    price = next(line for line in lines.values() if 'name = "price"' in line)
    assert price.endswith("# Float64, 40.0% null, 3 distinct: 0.5, 2.5, 3.5")
    assert "5 rows in 1 file." in proposal.toml
    assert "2 requests of 2 to 3 rows.\n" in proposal.toml


def test_lists_of_a_part_of_the_rows_are_those_of_the_sample(files, monkeypatch):
    monkeypatch.setattr("cascaderank.data.sources._long.proposal._SAMPLE_ROWS", 4)
    assert "rows in the sample.\n" in PROPOSE(files, **ROLES).toml


def test_the_edited_file_prepares_the_log_and_nothing_else_is_written(files, tmp_path):
    proposal = PROPOSE(files, **ROLES)
    assert [p.name for p in tmp_path.iterdir()] == ["logs"]
    text = proposal.toml.replace("# level_names", "level_names")
    for old, new in (
        ('null_level = "error"', 'null_level = "lowest"'),
        ('null_label = "error"', 'null_label = "zero"'),
        ('repeated = "error"', 'repeated = "last"'),
        (
            '"age", role = "request", kind = "categorical"',
            '"age", role = "request", kind = "numeric"',
        ),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    SOURCES["long"](files, tmp_path / "log", **tomllib.loads(text))
    log = RequestLog.open(tmp_path / "log")
    assert [f.name for f in log.schema.of(Role.REQUEST)] == ["age"]
    assert log.schema["age"].kind == "numeric"
    frame = pl.concat(log.frames())
    assert frame["item_key"].to_list() == [["v2", "v1"], ["v3", "v1"]]
    assert frame["level"].to_list() == [[1, 0], [0, 1]]
    assert frame["price"].to_list() == [[None, 3.5], [2.5, None]]
    assert log.manifest.parts[0].day == date(2026, 1, 1)


CHOSEN = {
    "request_features": ("age",),
    "item_features": ("video", "price", "tags"),
    "history_features": ("seen",),
    "missing": ("price",),
    "numeric": ("age",),
    "vocabulary": {"tags": "video"},
    "buckets": {"seen": 50, "video": 9},
    "min_count": {"seen": 2},
    "transform": "log1p",
}


def test_features_that_were_chosen_are_proposed_unchanged(files, tmp_path):
    options = {
        **ROLES,
        "timestamp_unit": "ms",
        "level_names": ("recalled", "seen"),
        "null_level": "drop",
        "null_label": "zero",
        "repeated": "keep",
        "name": 'shop "é"',
        "rows_at_once": 2,
        "min_candidates": 2,
        "time_zone": "Europe/Paris",
    }
    SOURCES["long"](files, tmp_path / "log", **options, **CHOSEN)
    proposal = PROPOSE(files, **options, **CHOSEN)
    SOURCES["long"](files, tmp_path / "again", **tomllib.loads(proposal.toml))
    log, again = (RequestLog.open(tmp_path / name) for name in ("log", "again"))
    assert again.schema == log.schema
    assert again.fingerprint == log.fingerprint
    assert again.manifest.name == 'shop "é"'
    twice = PROPOSE(files, **tomllib.loads(proposal.toml))
    assert twice.toml == proposal.toml


def test_a_schema_of_a_file_is_proposed_too(files, tmp_path):
    features = '{name = "price", role = "item", kind = "numeric", missing = true}'
    (tmp_path / "schema.toml").write_text(f"features = [{features}]")
    proposal = PROPOSE(files, **ROLES, schema=tmp_path / "schema.toml")
    assert tomllib.loads(proposal.toml)["schema"]["features"] == [
        {"name": "price", "role": "item", "kind": "numeric", "missing": True}
    ]
    assert '# { name = "age", role = "request", kind = "categorical" },' in proposal.toml


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([1_767_225_600] * 5, "s"),
        ([1_767_225_600_000_000] * 5, "us"),
        ([20260101] * 5, "yyyymmdd"),
        ([7] * 5, None),
        ([date(2026, 1, 1)] * 5, None),
    ],
)
def test_the_unit_of_times_is_guessed_from_their_size(files, values, unit):
    path = files / "day=2026-01-01/rows.parquet"
    ROWS.with_columns(ts=pl.Series(values)).write_parquet(path)
    assert tomllib.loads(PROPOSE(files, **ROLES).toml).get("timestamp_unit") == unit


def test_levels_that_are_numbers_get_names_in_their_order(files):
    path = files / "day=2026-01-01/rows.parquet"
    ROWS.with_columns(stage=pl.Series([0, 2, None, 1, 0])).write_parquet(path)
    options = tomllib.loads(PROPOSE(files, **ROLES).toml)
    assert options["level_names"] == ["level_0", "level_1", "level_2"]


def test_csv_is_sampled_from_every_file(tmp_path):
    for i in range(3):
        lines = "".join(f"r{i},{j % 2},{j}\n" for j in range(2_000))
        (tmp_path / f"{i}.csv").write_text("request_id;shop;row\n" + lines.replace(",", ";"))
    proposal = PROPOSE(tmp_path, separator=";")
    assert proposal.facts["sample_requests"] == 3
    assert tomllib.loads(proposal.toml)["separator"] == ";"
    assert list(features(proposal)) == ["shop", "row"]
    (tmp_path / "log").mkdir()
    SOURCES["long"](tmp_path, tmp_path / "log", **tomllib.loads(proposal.toml))
    assert RequestLog.open(tmp_path / "log").manifest.requests == 3


def test_columns_with_another_value_in_every_row_are_not_proposed_unless_they_are_the_key(tmp_path):
    ids = [f"i{j}" for j in range(1_000)]
    frame = pl.DataFrame({"request_id": [j // 10 for j in range(1_000)], "id": ids, "row": ids})
    frame.write_parquet(tmp_path / "rows.parquet")
    assert list(features(PROPOSE(tmp_path, item_key="row"))) == ["row"]


def test_names_and_values_of_any_characters_stay_valid_toml(tmp_path):
    name, level = 'odd "name"\x7f\n\\', "a\x7f"
    frame = pl.DataFrame({"request_id": [1, 1], name: [1, 2], "level": [level, "b\n#"]})
    frame.write_parquet(tmp_path / "rows.parquet")
    proposal = PROPOSE(tmp_path)
    assert list(features(proposal)) == [name]
    edited = tomllib.loads(proposal.toml.replace("# level_names", "level_names"))
    assert edited["level_names"] == [level, "b\n#"]


def test_columns_of_requests_with_one_row_are_of_the_item(tmp_path):
    frame = pl.DataFrame({"request_id": [1, 2, 3], "id": [7, 8, 7]})
    frame.write_parquet(tmp_path / "rows.parquet")
    assert features(PROPOSE(tmp_path))["id"]["role"] == "item"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"expected a column 'request_id', found visit, ts, .*; set request_id to the column"),
        (ROLES | {"levle": "stage"}, r"no option 'levle' \(did you mean 'level'"),
        (ROLES | {"level": "stag"}, r"expected a column 'stag' \(level\) \(did you mean 'stage'"),
        (ROLES | {"time_zone": "Mars"}, "expected the name of a time zone"),
        (
            ROLES | {"schema": {"features": [{"name": "age", "role": "x", "kind": "numeric"}]}},
            r"schema: features.0.role \('age'\): Input should be 'request', 'item' or 'history'",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(files, options, message):
    with pytest.raises(CascadeRankError, match=message):
        PROPOSE(files, **options)


def test_files_of_a_schema_that_cannot_be_parsed_are_refused_by_format(files, tmp_path):
    for name, message in (("s.toml", "expected TOML: "), ("s.json", r"expected JSON \(or TOML")):
        (tmp_path / name).write_text("features = {")
        with pytest.raises(CascadeRankError, match=rf"schema=.*{name}: {message}"):
            PROPOSE(files, **ROLES, schema=tmp_path / name)


def test_columns_of_weights_are_proposed_with_a_rule_for_nulls(tmp_path):
    pl.DataFrame(
        {
            "request_id": [1, 1, 2, 2],
            "video": [3, 4, 3, 5],
            "candidate_weight": [1.0, None, 0.5, 0.0],
            "of_request": [2.0, 2.0, 1.0, 1.0],
        }
    ).write_parquet(tmp_path / "rows.parquet")
    proposal = PROPOSE(tmp_path / "rows.parquet", request_weight="of_request")
    options = tomllib.loads(proposal.toml)
    assert options["request_weight"] == "of_request"
    assert options["candidate_weight"] == "candidate_weight"
    assert options["null_weight"] == "error"
    assert [f["name"] for f in options["schema"]["features"]] == ["video"]
    assert "# 25.0% null; error, one or zero" in proposal.toml
