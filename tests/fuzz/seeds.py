"""Small valid inputs of every kind, each with the commands that read it and what they must yield."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from cascaderank.settings.run import read_settings
from cascaderank.training.train_run import train_run
from tests.data.shops import shop_frame, write_shop
from tests.data.sources.recflow_files import history, row, write_day
from tests.data.sources.short_videos import histories, rand_exposures, write_rand, write_rec
from tests.fuzz import slow_reading as slow
from tests.training.test_resume import StopAfter, StoppedError

CONFIG = """\
[data]
path = "log"
target = "label"
split = { by = "request", seed = 1 }

[relevance]
top = 1

[stages.retrieval]
model = "two_tower"
quota = 2
hidden = [8, 4]
features = ["user", "hour", "video", "watched"]

[stages.ranking]
model = "mlp"
quota = 1
hidden = [8]
dropout = 0.1
features = ["*", "!query"]

[objective]
name = "lcron"
temperature = 50.0

[train]
epochs = 2
batch_size = 8
learning_rate = 0.01
checkpoint_every = 2

[evaluation]
bootstrap = 20
metrics = ["ndcg@2"]
"""
SHORT = ("--set", "train.epochs=1", "--set", "evaluation.bootstrap=20")
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
    "request_id": "request_id", "user": "user_id", "device": "device_id", "age": "age", "gender": "gender",
    "province": "province", "video": "video_id", "author": "author_id", "category_one": "category_level_one",
    "category_two": "category_level_two", "upload_type": "upload_type",
}  # fmt: skip

Check = Callable[[Path, Path], None]
"""Asserts that the output ``out`` in the first folder is right; in the second is that of the intact
files."""


@dataclass(frozen=True)
class Seed:
    """An input in a folder that is the working folder of its commands; ``out`` is for results."""

    commands: tuple[tuple[str, ...], ...]
    damaged: tuple[str, ...]
    """Patterns of the files to mutate."""
    check: Check
    cases: int = 100
    """Number of cases of the slow test."""
    changes: tuple[str, ...] = ("out",)
    """Files and folders that the commands may write."""


def prepare(source: str, *words: str) -> tuple[tuple[str, ...], ...]:
    return (("prepare", source, *words, "--to", "out/log"),)


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


def is_a_data_set(case: Path, intact: Path) -> None:
    slow.candidates_of(case / "out" / "log")


def has_the_rows_of(*patterns: str) -> Check:
    """Compare a data set with all rows of the files."""

    def check(case: Path, intact: Path) -> None:
        found = slow.candidates_of(case / "out/log")
        slow.same_rows(found, rows_of_all(case, patterns))

    return check


def rows_of_all(case: Path, patterns: Iterable[str]) -> list[dict[str, object]]:
    """Return the rows of files, or those of the intact files where Arrow cannot read them.

    Polars reads some files that Arrow refuses; what it reads must then be right.
    """
    try:
        return slow.rows_of_all(case, patterns)
    except (pa.ArrowException, OSError, MemoryError):
        return slow.rows_of_all(case.parents[1] / "seed", patterns)


def has_the_rows_of_letor(case: Path, intact: Path) -> None:
    slow.same_rows(slow.candidates_of(case / "out/log"), slow.letor_rows(case, "letor.txt"))


def has_the_rows_of_trec(case: Path, intact: Path) -> None:
    slow.same_rows(slow.candidates_of(case / "out/log"), slow.trec_rows(case, "files/*"))


def has_the_values_of(pattern: str, names: Mapping[str, str], day: str = "") -> Check:
    """Compare columns of a data set with those of a table of other names, without repeated rows.

    Args:
        pattern: files of the table.
        names: column of the table by column of the data set.
        day: column of the table; rows without a value in it are left out.
    """

    def check(case: Path, intact: Path) -> None:
        found = slow.candidates_of(case / "out/log")
        rows = [row for row in rows_of_all(case, [pattern]) if not day or row[day]]
        own = {tuple(str(row[name]).split("-")[0].strip() for name in names) for row in found}
        other = {tuple(str(row[name]).strip() for name in names.values()) for row in rows}
        assert own == other, f"{[*(own - other)][:3]} and not {[*(other - own)][:3]}"

    return check


def is_that_of_the_intact_files(folder: str) -> Check:
    """Compare all that was written and printed, except for durations and versions."""

    def check(case: Path, intact: Path) -> None:
        for path in sorted(p for p in (intact / folder).rglob("*") if p.is_file()):
            name = path.relative_to(intact)
            if path.name in ("environment.json", "checksums.sha256", ".lock"):
                continue
            own = case / name
            assert own.is_file(), f"no {name}"
            assert timeless(own) == timeless(path), f"{name} differs from that of the intact files"

    return check


def timeless(path: Path) -> object:
    content = path.read_bytes()
    if path.name in ("report.json", "stdout"):
        try:
            report = json.loads(content)
        except ValueError:
            return content
        for name in ("seconds", "peak_memory_bytes"):
            report.pop(name, None)
            report.get("training", {}).pop(name, None)
        return report
    return content


def anything(case: Path, intact: Path) -> None:
    """Accept any result, since a changed setting is another setting."""


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


def write_log(folder: Path) -> None:
    write_shop(folder / "log", [shop_frame(40, days=3)], rows_per_part=11)
    (folder / "config.toml").write_text(CONFIG)


def write_run(folder: Path, stop: int = 0) -> None:
    """Train a run in ``folder/run``, with paths relative to the folder."""
    write_log(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        if stop:
            with pytest.raises(StoppedError):
                train_run(read_settings(Path("config.toml")), "run", progress=StopAfter(stop))
        else:
            train_run(read_settings(Path("config.toml")), "run")
    finally:
        os.chdir(before)


def data_set(folder: Path) -> Seed:
    write_run(folder)
    commands = (
        ("score", "run", "log", "--to", "out/scores.jsonl"),
        ("score", "run", "log", "--to", "out/scores.run", "--vectors", "out/vectors", "--item", "video"),
        ("evaluate", "run", "log", "--json"),
        ("init", "log", "--to", "out/first.toml"),
        ("train", "config.toml", "--run", "out/run", *SHORT),
    )
    return Seed(commands, ("log/manifest.json", "log/requests/*/*"), is_that_of_the_intact_files("out"), 200)


def complete_run(folder: Path) -> Seed:
    write_run(folder)
    commands = (
        ("score", "run", "log", "--to", "out/scores.jsonl"),
        ("evaluate", "run", "log", "--json"),
        ("train", "config.toml", "--run", "run", "--json"),
    )
    return Seed(commands, ("run/*",), is_that_of_the_intact_files("out"), 200, ("out", "run/.lock"))


def interrupted_run(folder: Path) -> Seed:
    write_run(folder, stop=7)
    commands = (("train", "config.toml", "--run", "run"),)
    return Seed(commands, ("run/*",), is_that_of_the_intact_files("run"), 150, ("out", "run"))


def config(folder: Path) -> Seed:
    write_log(folder)
    words = ("train", "config.toml", "--run", "out/run", *SHORT)
    return Seed((words,), ("config.toml",), anything, 200)


def comparison(folder: Path) -> Seed:
    write_log(folder)
    text = CONFIG + (
        '\n[compare]\nobjectives = ["bce", "cold"]\nseeds = 1\nbaselines = ["random"]\n'
        '[compare.variants.cold]\nobjective.name = "lcron"\nobjective.temperature = 9.0\n'
        "[compare.grid.bce]\ntrain.learning_rate = [0.01]\n"
    )
    (folder / "config.toml").write_text(text)
    words = ("compare", "config.toml", "--run", "out/runs", *SHORT)
    return Seed((words,), ("config.toml",), anything, 80)


def arguments(folder: Path) -> Seed:
    """All commands but ``demo``, which takes long; their words are mutated, not files."""
    write_run(folder)
    long_table().write_csv(folder / "rows.csv")
    commands = (
        *prepare("long", "--from", "rows.csv", *LONG),
        *prepare("synthetic", "--set", "requests=8", "--set", "users=4", "--set", "items=100"),
        ("score", "run", "log", "--to", "out/scores.jsonl", "--item", "video", "--part", "all"),
        ("evaluate", "run", "log", "--target", "label", "--threshold", "1"),
        ("importance", "run", "log", "--repeats", "1", "--seed", "3"),
        ("init", "log", "--to", "out/first.toml"),
        ("init", "--list"),
        ("ls", "stages", "mlp"),
        ("train", "config.toml", "--run", "out/run", *SHORT),
        ("profile", "config.toml", "--seconds", "0.1", "--lists", "4"),
        ("compare", "config.toml", "--run", "out/runs", "--objectives", "bce", "--seeds", "1", *SHORT),
        ("heatmap", "config.toml", "--run", "out/runs", "--losses", "bce", "--m", "1", "--k", "1", *SHORT),
    )
    return Seed(commands, (), anything, 250)


SEEDS: dict[str, Callable[[Path], Seed]] = {
    maker.__name__: maker
    for maker in (
        long_csv, long_quoted_csv, long_tsv, long_gzip, long_parquet, long_proposal, options, letor,
        letor_beside, trec, recflow, kuairand, kuairand_official, kuairec, data_set, complete_run,
        interrupted_run, config, comparison, arguments,
    )
}  # fmt: skip
"""Makers of seeds, by name: each writes files into a folder."""
