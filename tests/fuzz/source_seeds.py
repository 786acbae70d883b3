"""Seeds of all sources of data sets."""

from pathlib import Path

import polars as pl

from tests.data.sources.recflow_files import history, row, write_day
from tests.data.sources.short_videos import histories, rand_exposures, write_rand, write_rec
from tests.fuzz.checks import (
    anything,
    has_the_rows_of,
    has_the_rows_of_letor,
    has_the_rows_of_trec,
    has_the_values_of,
    is_a_data_set,
)
from tests.fuzz.seed import Seed, prepare

LONG_OPTIONS = """\
request_id = "visit"
timestamp = "time"
label = "click"
request_features = ["user"]
item_features = ["video", "price"]
numeric = ["price"]
missing = ["price"]
min_candidates = 1
transform = "log1p"
"""
LONG = (
    "--set", "timestamp=timestamp", "--set", "label=label", "--set", "request_features=['user']",
    "--set", "item_features=['video','price']", "--set", "numeric=['price']", "--set", "missing=['price']",
)  # fmt: skip
USER_AND_VIDEO = {"request_id": "user_id", "video_id": "video_id"}
RECFLOW = {
    "request_id": "request_id",
    "video": "video_id",
    "user": "user_id",
    "device": "device_id",
    "age": "age",
    "gender": "gender",
    "province": "province",
    "author": "author_id",
    "category_one": "category_level_one",
    "category_two": "category_level_two",
    "upload_type": "upload_type",
}  # fmt: skip


def long_table(rows: int = 40) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "request_id": [f"r{i // 4}" for i in range(rows)],
            "timestamp": [f"2024-05-0{1 + i // 20}T10:0{i // 4 % 10}:00" for i in range(rows)],
            "user": [i // 4 % 3 for i in range(rows)],
            "video": [100 * (i % 7) for i in range(rows)],
            "price": [None if i % 9 == 0 else i / 8 for i in range(rows)],
            "label": [i % 3 for i in range(rows)],
        }
    )


def long_csv(folder: Path) -> Seed:
    long_table().write_csv(folder / "rows.csv")
    return Seed(
        prepare("long", "--from", "rows.csv", *LONG),
        ("rows.csv",),
        has_the_rows_of("rows.csv"),
        200,
    )


def long_quoted_csv(folder: Path) -> Seed:
    table = long_table(24).with_columns(video=pl.format('a, "{}"\n', "video"))
    table.write_csv(folder / "rows.csv", line_terminator="\r\n")
    return Seed(
        prepare("long", "--from", "rows.csv", *LONG), ("rows.csv",), has_the_rows_of("rows.csv")
    )


def long_tsv(folder: Path) -> Seed:
    for day in (1, 2):
        (folder / f"day=2024-05-0{day}").mkdir()
        rows = long_table()[20 * day - 20 : 20 * day]
        rows.write_csv(folder / f"day=2024-05-0{day}" / "rows.tsv", separator="\t")
    return Seed(
        prepare("long", "--from", ".", *LONG), ("day=*/rows.tsv",), has_the_rows_of("day=*/*.tsv")
    )


def long_gzip(folder: Path) -> Seed:
    long_table().write_csv(folder / "rows.csv.gz", compression="gzip")
    return Seed(
        prepare("long", "--from", "rows.csv.gz", *LONG),
        ("rows.csv.gz",),
        has_the_rows_of("rows.csv.gz"),
        60,
    )


def long_parquet(folder: Path) -> Seed:
    (folder / "rows").mkdir()
    table = long_table().with_columns(pl.col("timestamp").str.to_datetime(time_zone="UTC"))
    for part in (0, 1):
        table[20 * part : 20 * part + 20].write_parquet(folder / "rows" / f"part-{part}.parquet")
    return Seed(
        prepare("long", "--from", "rows", *LONG),
        ("rows/*",),
        has_the_rows_of("rows/*.parquet"),
        200,
    )


def long_proposal(folder: Path) -> Seed:
    long_table().write_csv(folder / "rows.csv")
    return Seed(
        (("prepare", "long", "--from", "rows.csv", "--dry-run"),), ("rows.csv",), anything, 60
    )


def options(folder: Path) -> Seed:
    table = long_table().rename({"request_id": "visit", "timestamp": "time", "label": "click"})
    table.write_csv(folder / "rows.csv")
    (folder / "options.toml").write_text(LONG_OPTIONS)
    words = prepare("long", "--from", "rows.csv", "--options", "options.toml")
    return Seed(words, ("options.toml",), is_a_data_set)


def letor(folder: Path) -> Seed:
    lines = [
        f"{i % 3} qid:{i // 5} 1:{i / 4} 2:{i % 2} 4:{-i}e-2 # docid = d{i}\n" for i in range(30)
    ]
    (folder / "letor.txt").write_text("".join(lines))
    return Seed(prepare("letor", "--from", "letor.txt"), ("letor.txt",), has_the_rows_of_letor, 200)


def letor_beside(folder: Path) -> Seed:
    lines = [f"{i % 3} 1:{i / 4} 3:{i}\n" for i in range(20)]
    for name in ("train", "test"):
        (folder / f"rank.{name}").write_text("".join(lines))
        (folder / f"rank.{name}.query").write_text("5\n10\n5\n")
        (folder / f"rank.{name}.weight").write_text("0.5\n" * 20)
        (folder / f"rank.{name}.init").write_text("0.25\n" * 20)
    return Seed(prepare("letor", "--from", "."), ("rank.*",), is_a_data_set)


def trec(folder: Path) -> Seed:
    (folder / "files").mkdir()
    for system in ("bm25", "dense"):
        lines = [
            f"q{i // 6} Q0 d{i % 9} {i % 6 + 1} {9 - i % 6 + len(system)}.5 {system}\n"
            for i in range(24)
        ]
        (folder / "files" / f"{system}.run").write_text("".join(lines))
    lines = [f"q{i // 5} 0 d{i % 9} {i % 4}\n" for i in range(20)]
    (folder / "files" / "qrels.txt").write_text("".join(lines))
    return Seed(prepare("trec", "--from", "files"), ("files/*",), has_the_rows_of_trec, 200)


def recflow(folder: Path) -> Seed:
    seen = history([(5, 6, 1, 2, 0, 1_700_000_000_000)])
    for day in ("2024-01-13", "2024-01-14"):
        first = 1 if day.endswith("13") else 10
        requests = range(first, first + 6)
        rows = [
            row(request, 10 * request + i, "rank_pos" if i % 2 else "rank_neg", i)
            for request in requests
            for i in range(4)
        ]
        write_day(folder, day, rows, dict.fromkeys(requests, seen))
    check = has_the_values_of("all_stage/*.feather", RECFLOW)
    return Seed(prepare("recflow", "--from", "."), ("all_stage/*", "seq_*/*"), check, 150)


def kuairand(folder: Path) -> Seed:
    write_rand(folder / "files", rand_exposures(rows=40), before=histories())
    check = has_the_values_of("files/exposures.parquet", USER_AND_VIDEO)
    return Seed(prepare("kuairand", "--from", "files"), ("files/*",), check)


def kuairand_official(folder: Path) -> Seed:
    write_rand(folder / "files", rand_exposures(rows=40), official=True)
    check = has_the_values_of("files/log_standard_*.csv", USER_AND_VIDEO)
    return Seed(prepare("kuairand", "--from", "files"), ("files/[luv]*[!c]_pure.csv",), check)


def kuairec(folder: Path) -> Seed:
    write_rec(folder / "files")
    check = has_the_values_of("files/big_matrix.csv", USER_AND_VIDEO, "timestamp")
    return Seed(prepare("kuairec", "--from", "files"), ("files/[biu]*",), check)
