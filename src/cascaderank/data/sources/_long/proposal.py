"""Options of the ``long`` source, inferred from a sample of the rows and written as TOML."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import polars as pl
from pydantic import JsonValue

from cascaderank.data.log.validation import CANDIDATE_COLUMNS, ITEM_KEY
from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT, REQUEST_WEIGHT
from cascaderank.data.sources import NOT_OPTIONS, SOURCES, Inputs, Proposal
from cascaderank.data.sources._long.column_facts import TIMES, ColumnFacts, column_facts
from cascaderank.data.sources._long.layout import Layout, opened_table
from cascaderank.data.sources._long.schema_inference import FeatureOptions, schema_of_options
from cascaderank.data.sources._shared.timestamps import check_time_zone
from cascaderank.errors import counted
from cascaderank.schema import Feature, Kind

_SAMPLE_ROWS = 100_000
_WEIGHTS = (REQUEST_WEIGHT, CANDIDATE_WEIGHT)
_ABOUT = {
    "timestamp": "column of the time of the request",
    "timestamp_unit": "s, ms, us, ns, yyyymmdd or iso",
    "time_zone": "zone in which days begin, and of times without a zone",
    "several_times": "rows of a request with different times: error or earliest",
    "level": "column of the funnel level that the candidate reached",
    "level_names": "lowest first",
    "null_level": "error, lowest or drop",
    "position": "column of the rank within the level, from 1; null is 0, unknown",
    "label": "column of the relevance",
    "null_label": "error, zero or drop",
    "feedback": "column of the user's response",
    "null_feedback": "error, zero or drop",
    "request_weight": "column of the weight of the request in training",
    "candidate_weight": "column of the weight of the candidate in training",
    "null_weight": "error, one or zero",
    "item_key": "column of the identity of the candidate",
    "repeated": "a candidate twice in one request: error, keep, first or last",
    "min_candidates": "requests with fewer candidates are left out",
}


def proposed_options(from_: Inputs, **options: Any) -> Proposal:
    """Infer options from the files and from the options that are given.

    Args:
        from_: files, folders or globs.
        options: options of the source. Without any feature, every usable column is proposed as one.

    Raises:
        ConfigError: if an option is invalid.
        DataError: if a file or a column is missing, or a file is damaged.
    """
    options = SOURCES.checked_options("long", options, finite=False)
    values = {name: p.default for name, p in SOURCES.options("long").items()} | options
    check_time_zone(values["time_zone"])
    table, layout = opened_table(
        from_,
        separator=values["separator"],
        decimal=values["decimal"],
        request_id=values["request_id"],
        timestamp=values["timestamp"],
        request_weight=values["request_weight"],
        candidates={what: values[what] for what in (*CANDIDATE_COLUMNS, CANDIDATE_WEIGHT)},
        item_key=values["item_key"],
    )
    chosen = FeatureOptions(**{f.name: values[f.name] for f in fields(FeatureOptions)})
    schema = None
    if chosen.are_given or chosen.schema is not None:
        schema, _ = schema_of_options(table, layout, chosen)
    sample = table.sample(_SAMPLE_ROWS)
    columns = column_facts(table, layout, sample, schema)
    settings, remarks = _settings(layout, sample, values, columns)
    lengths = sample.group_by(layout.request_id).len()["len"]
    counts: dict[str, JsonValue] = {
        "files": len(table.files),
        "rows": table.rows,
        "sample_rows": sample.height,
        "sample_requests": len(lengths),
        "sample_list_length": [int(lengths.to_numpy().min()), int(lengths.to_numpy().max())],
    }
    features: list[JsonValue] = [c.feature.model_dump(mode="json") for c in columns if c.is_used]
    facts: dict[str, JsonValue] = {
        **counts,
        "options": {**settings, "schema": {"features": features}},
        "columns": [c.as_json() for c in columns],
    }
    return Proposal("\n".join(_lines(settings, remarks, columns, counts)) + "\n", facts)


def _settings(
    layout: Layout,
    sample: pl.DataFrame,
    values: Mapping[str, Any],
    columns: list[ColumnFacts],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the options other than those of features, and remarks on some of them."""
    by_purpose = {c.purpose: c for c in columns if c.purpose}
    settings: dict[str, Any] = {"request_id": layout.request_id}
    remarks = {what: column.described() for what, column in by_purpose.items()}
    if layout.item_key:
        key = next(c for c in columns if c.name == layout.item_key)
        remarks["item_key"] = key.described()
    settings |= {what: column for column, what in layout.taken.items() if what != ITEM_KEY}
    settings |= {ITEM_KEY: layout.item_key} if layout.item_key else {}
    if layout.timestamp:
        settings["time_zone"] = values["time_zone"]
        unit = values["timestamp_unit"] or _guessed_unit(sample[layout.timestamp])
        if unit:
            settings["timestamp_unit"] = unit
        settings["several_times"] = values["several_times"]
        times = sample.group_by(layout.request_id).agg(pl.col(layout.timestamp).n_unique() > 1)
        differ = int(times[layout.timestamp].sum())
        remarks["several_times"] = f"{differ:,} requests; {_ABOUT['several_times']}"
    if layout.candidates.get("level"):
        remarks["level_names"] = "lowest first"
        if names := values["level_names"]:
            settings["level_names"] = list(names)
        else:
            settings |= _numbered_levels(sample[layout.candidates["level"]])
    for what in ("level", "label", "feedback"):
        if what in layout.candidates:
            settings[f"null_{what}"] = values[f"null_{what}"]
            share = by_purpose[what].null_share
            remarks[f"null_{what}"] = f"{share:.1%} null; {_ABOUT[f'null_{what}']}"
    shares = {w: by_purpose[w].null_share for w in _WEIGHTS if w in by_purpose}
    if shares:
        settings["null_weight"] = values["null_weight"]
        remarks["null_weight"] = f"{max(shares.values()):.1%} null; {_ABOUT['null_weight']}"
    if layout.item_key:
        settings["repeated"] = values["repeated"] or "error"
        keys = sample.select(layout.request_id, layout.item_key)
        repeats = keys.height - keys.n_unique()
        remarks["repeated"] = f"{repeats:,} of {keys.height:,} rows; {_ABOUT['repeated']}"
    settings["min_candidates"] = values["min_candidates"]
    features = [f.name for f in fields(FeatureOptions)]
    for option, default in SOURCES.options("long").items():
        if option in settings or option in NOT_OPTIONS or option in features:
            continue
        if values[option] != default.default:
            settings[option] = values[option]
    return settings, remarks


def _guessed_unit(times: pl.Series) -> str:
    """Return the unit that fits the size of the numbers; empty if none does."""
    if not times.dtype.is_numeric() or times.null_count() == len(times):
        return ""
    middle = float(times.cast(pl.Float64).median() or 0.0)  # type: ignore[arg-type]
    ranges = {"yyyymmdd": 19_700_101, "s": 6e8, "ms": 6e11, "us": 6e14, "ns": 6e17}
    return next((unit for unit, least in reversed(ranges.items()) if middle >= least), "")


def _numbered_levels(levels: pl.Series) -> dict[str, Any]:
    """Return names of levels that are numbers; the order of levels that are text is not in it."""
    if not levels.dtype.is_numeric():
        return {}
    highest = int(levels.drop_nulls().drop_nans().cast(pl.Float64).max() or 0)  # type: ignore[arg-type]
    return {"level_names": [f"level_{i}" for i in range(max(highest, 0) + 1)]}


def _lines(
    settings: Mapping[str, Any],
    remarks: Mapping[str, str],
    columns: list[ColumnFacts],
    counts: Mapping[str, Any],
) -> list[str]:
    shortest, longest = counts["sample_list_length"]
    lines = [
        "# Options of `cascaderank prepare long`, inferred from the files. Edit them, and run",
        "#   cascaderank prepare long --from FILES --to FOLDER --options THIS_FILE",
        f"# {counts['rows']:,} rows in {counted(counts['files'], 'file')}. Figures are those of "
        f"a sample of {counts['sample_rows']:,} rows",
        f"# with {counts['sample_requests']:,} requests of {shortest:,} to {longest:,} rows"
        + (" in the sample." if counts["sample_rows"] < counts["rows"] else "."),
        "# Remove features that are known only after the ranking, such as clicks or watch time.",
        "",
    ]
    level = next((c for c in columns if c.purpose == "level"), None)
    options = ["request_id", *_ABOUT, *(o for o in settings if o not in _ABOUT)]
    written = []
    for option in dict.fromkeys(options):
        remark = remarks.get(option, _ABOUT.get(option, ""))
        if option in settings:
            written.append((f"{option} = {_toml(settings[option])}", remark))
        elif option == "level_names" and level is not None:
            remark = "put them in order, lowest first, and remove the # before level_names"
            written.append((f"# level_names = {_toml(level.by_frequency)}", remark))
        elif option == "timestamp":
            times = (c.name for c in columns if c.problem == TIMES)
            written.append((f"# timestamp = {_toml(next(times, ''))}", remark))
        elif not option.startswith(
            ("null_", "timestamp_", "time_zone", "level_", "repeated", "several_")
        ):
            written.append((f'# {option} = ""', remark))
    lines += _commented(written)
    lines += ["", "[schema]", "features = ["]
    entries = []
    for column in columns:
        if not column.purpose:
            off = "" if column.is_used else "# "
            entries.append((f"  {off}{_entry(column.feature)},", column.described()))
    return [*lines, *_commented(entries), "]"]


def _commented(lines: list[tuple[str, str]]) -> list[str]:
    """Return lines with their remarks in one column, except behind long lines."""
    width = max((len(text) for text, _ in lines if len(text) <= 72), default=0)
    return [f"{text:<{width}}  # {remark}" if remark else text for text, remark in lines]


def _entry(feature: Feature) -> str:
    shown = {"name": feature.name, "role": feature.role.value, "kind": feature.kind.value}
    fields = feature.model_dump(mode="json", exclude_defaults=True, exclude=set(shown))
    if feature.kind is Kind.CATEGORICAL and feature.vocabulary == feature.name:
        fields.pop("vocabulary", None)
    return f"{{ {', '.join(f'{k} = {_toml(v)}' for k, v in (shown | fields).items())} }}"


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    text = json.dumps(value if isinstance(value, int | float) else str(value), ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")
