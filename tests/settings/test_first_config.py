"""The config that `cascaderank init` writes: it trains without changes, by rules from the log."""

import random
import tomllib

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.data.sources import SOURCES
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Schema
from cascaderank.settings.first_config import first_config
from cascaderank.settings.run import check_settings, read_settings
from cascaderank.training.train_run import train_run
from tests.command_line import cascaderank
from tests.data.sources.recflow_files import history, row, write_day
from tests.data.sources.short_videos import write_rand, write_rec


def letor_lines(queries, grades=(0, 0, 1, 0, 2, 0, 3, 1)):
    chance = random.Random(0)
    return "".join(
        f"{grade} qid:{q} 1:{chance.random():.3f} 2:{grade + chance.random():.3f} # d{q}-{i}\n"
        for q in queries
        for i, grade in enumerate(grades)
    )


def letor(folder, to):
    (folder / "web.txt").write_text(letor_lines(range(12)))
    SOURCES["letor"](folder, to)


def letor_parts(folder, to):
    for i, part in enumerate(("train", "vali", "test")):
        (folder / f"{part}.txt").write_text(letor_lines(range(4 * i, 4 * i + 4)))
    SOURCES["letor"](folder, to)


def letor_folds(folder, to):
    for i in range(3):
        (folder / f"Fold{i + 1}").mkdir()
        (folder / f"Fold{i + 1}" / "test.txt").write_text(letor_lines(range(4 * i, 4 * i + 4)))
    SOURCES["letor"](folder, to)


def trec(folder, to):
    for system in ("bm25", "dense"):
        lines = [f"q{q} Q0 d{q + d} {d + 1} {9 - d} {system}" for q in range(12) for d in range(6)]
        (folder / f"{system}.run").write_text("\n".join(lines))
    grades = [f"q{q} 0 d{q + d} {d % 3}" for q in range(12) for d in range(5)]
    (folder / "qrels").write_text("\n".join(grades))
    SOURCES["trec"](folder, to)


def long(folder, to):
    """A log without levels, whose labels have many values."""
    chance = random.Random(0)
    rows = [
        {"request_id": r, "user": r % 3, "video": chance.randrange(40), "watched": chance.random()}
        for r in range(20)
        for _ in range(9)
    ]
    pl.DataFrame(rows).write_csv(folder / "rows.csv")
    SOURCES["long"](
        folder, to, label="watched", request_features=("user",), item_features=("video",)
    )


def recflow(folder, to):
    for day in range(12, 18):
        rows = [
            row(100 * day + r, 10 * r + i, level, i)
            for r in range(4)
            for i, level in enumerate(("rank_pos", "rank_neg", "coarse_neg", "prerank_neg") * 2)
        ]
        seen = history([(5, 6, 1, 2, 0, 1_700_000_000_000)])
        write_day(folder, f"2024-01-{day}", rows, {100 * day + r: seen for r in range(4)})
    SOURCES["recflow"](folder, to)


def kuairand(folder, to):
    write_rand(folder)
    SOURCES["kuairand"](folder, to)


def kuairec(folder, to):
    write_rec(folder)
    SOURCES["kuairec"](folder, to)


def synthetic(folder, to):
    SOURCES["synthetic"](None, to, requests=40, users=10, items=200, stages=3)


MAKERS = {
    "letor": letor,
    "letor parts": letor_parts,
    "letor folds": letor_folds,
    "trec": trec,
    "long": long,
    "recflow": recflow,
    "kuairand": kuairand,
    "kuairec": kuairec,
    "synthetic": synthetic,
}


@pytest.fixture(scope="module")
def log_of(tmp_path_factory):
    """Returns the small log of a maker; made once."""
    made = {}

    def path(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("input")
            made[name] = tmp_path_factory.mktemp("logs") / "log"
            MAKERS[name](folder, made[name])
        return made[name]

    return path


def test_every_source_has_a_log():
    assert {name.split()[0] for name in MAKERS} == set(SOURCES)


@pytest.mark.parametrize("name", MAKERS)
def test_the_config_of_every_source_trains_without_changes(log_of, tmp_path, name):
    config = tmp_path / "configs" / "mine.toml"
    done = cascaderank("init", log_of(name), "--to", config)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"wrote {config}\n")
    assert f"cascaderank train {config}\n" in config.read_text()
    lines = [line for line in config.read_text().splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= 100
    quick = ["train.epochs=1", "evaluation.bootstrap=2"]  # as fast as possible; nothing else
    result = train_run(read_settings(config, quick), tmp_path / "run")
    assert 0 <= result.test.metrics["joint_recall"].mean <= 1


def config_of(log):
    return tomllib.loads(first_config(RequestLog.open(log), to="mine.toml"))


@pytest.mark.parametrize(
    ("name", "target", "relevance", "split", "quotas", "models"),
    [
        ("letor", "label", {"threshold": 2}, "request", [4, 2], ["linear", "mlp"]),
        ("letor parts", "label", {"threshold": 2}, "given", [4, 2], ["linear", "mlp"]),
        ("letor folds", "label", {"threshold": 2}, "given", [4, 2], ["linear", "mlp"]),
        ("trec", "label", {"threshold": 1}, "request", None, ["linear", "mlp"]),
        ("long", "label", {"top": 1}, "request", [4, 2], ["two_tower", "mlp"]),
        ("recflow", "funnel", {"top": 2}, "day", [4, 2], ["two_tower", "mlp"]),
        ("kuairand", "feedback", {"threshold": 1}, "request", None, ["two_tower", "mlp"]),
        ("synthetic", "funnel", {"top": 10}, "day", [40, 30, 20], ["two_tower", "mlp", "mlp"]),
    ],
)
def test_settings_follow_from_the_log(log_of, name, target, relevance, split, quotas, models):
    config = config_of(log_of(name))
    assert config["data"]["path"] == log_of(name).as_posix()
    assert config["data"]["target"] == target
    assert config["relevance"] == relevance
    assert config["data"]["split"]["by"] == split
    stages = list(config["stages"].values())
    assert [stage["model"] for stage in stages] == models
    if quotas:
        assert [stage["quota"] for stage in stages] == quotas


def test_a_synthetic_funnel_has_the_features_that_its_ceiling_is_for(log_of):
    log = RequestLog.open(log_of("synthetic"))
    planted = log.manifest.extra["planted"]
    for own, stage in zip(planted["stages"], config_of(log.path)["stages"].values(), strict=True):
        assert [f.name for f in log.schema.select(stage["features"])] == own["features"]


def test_with_a_table_of_items_the_first_stage_can_search_it(log_of):
    config = config_of(log_of("kuairand"))
    assert config["catalogue"] == {"item": "video_id"}
    assert "catalogue" not in config_of(log_of("long"))


def labelled(tmp_path, labels, name="price", **columns):
    schema = Schema(features=(Feature(name=name, role="item", kind="numeric"),))
    frame = pl.DataFrame(
        {
            "request_id": range(len(labels)),
            name: [[float(i) for i in range(len(own))] for own in labels],
            "label": labels,
            **columns,
        }
    )
    with RequestLogWriter(tmp_path / "log", name="x", schema=schema, overwrite=True) as writer:
        writer.write(frame)
    return tmp_path / "log"


@pytest.mark.parametrize(
    ("labels", "threshold"),
    [
        ([[0.0, 1.0]] * 5, 1),
        ([[0.0, 2.0, 1.0]] * 5, 1),  # 2 is rare among grades 0 to 2
        ([[0.0, 2.0, 4.0]] * 5, 2),
        ([[0.0, 1.0, 0.0]] * 4 + [[0.0, 1.0, 4.0]] * 3, 1),  # fewer than half have a 2 or better
        ([[0.0, 1.0, 0.0]] * 3 + [[0.0, 1.0, 4.0]] * 4, 4),
        ([[0.0, 0.5, 0.25]] * 5, 0.25),
    ],
)
def test_the_threshold_is_a_label_that_most_requests_have(tmp_path, labels, threshold):
    assert config_of(labelled(tmp_path, labels))["relevance"] == {"threshold": threshold}


def test_lists_that_no_stage_cuts_are_pointed_out(tmp_path):
    def text(labels):
        return first_config(RequestLog.open(labelled(tmp_path, labels)), to="mine.toml")

    assert "In 40% of the requests the list is not longer than" in text(
        [[0.0, 1.0, 0.0]] * 3 + [[1.0]] * 2
    )
    assert "not longer than" not in text([[0.0, 1.0]] * 5)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([[0.0, 0.0]] * 5, "expected labels above 0 by target 'label', found none"),
        ([[1.0]] * 5, "found one candidate in every request"),
        ([[0.0, 1.0]] * 2, "2 requests are too few"),
    ],
)
def test_a_log_that_cannot_be_trained_is_refused(tmp_path, labels, expected):
    with pytest.raises(DataError, match=expected):
        first_config(RequestLog.open(labelled(tmp_path, labels)), to="mine.toml")


@pytest.mark.parametrize("name", ["pr*ce", "[price]", "!price", 'a "price"', "prix_é"])
def test_any_name_of_a_feature_is_written_as_a_pattern_that_matches_it_alone(tmp_path, name):
    log = RequestLog.open(labelled(tmp_path, [[0.0, 1.0]] * 5, name=name))
    planted = {
        "quotas": [1],
        "ground_truth": 1,
        "stages": [{"name": "only", "features": [name]}],
    }
    from cascaderank.settings import first_config as module

    patterns = module._patterns(log, planted["stages"][0]["features"])
    assert [f.name for f in log.schema.select(patterns)] == [name]
    assert log.schema.select([module._pattern(name)])[0].name == name
    assert check_settings(config_of(log.path)).quotas == (2, 1)


@pytest.mark.parametrize(
    ("labels", "quotas"),
    [
        ([0.0] * 38 + [1.0] * 2, (20, 10)),
        ([0.0] * 20 + [1.0] * 20, (30, 20)),  # room for the ground truth, and for half of the rest
        ([0.0, 1.0, 1.0], (3, 2)),
        ([1.0, 1.0, 1.0], (3, 2)),  # never the whole list
    ],
)
def test_the_last_quota_has_room_for_the_ground_truth(tmp_path, labels, quotas):
    assert check_settings(config_of(labelled(tmp_path, [labels] * 5))).quotas == quotas


def test_the_targets_of_a_log_are_explained_with_their_ground_truth(tmp_path):
    frame = {
        "level": [[0, 1, 1, 0]] * 10,
        "feedback": [[0.0, 0.0, 1.0, 0.0]] * 10,
        "position": [[2, 2, 1, 1]] * 10,
    }
    schema = Schema(features=(Feature(name="price", role="item", kind="numeric"),))
    with RequestLogWriter(
        tmp_path / "log", name="x", schema=schema, level_names=("lost", "shown")
    ) as writer:
        prices = [[1.0, 2.0, 3.0, 4.0]] * 10
        writer.write(pl.DataFrame({"request_id": range(10), "price": prices, **frame}))
    text = first_config(RequestLog.open(tmp_path / "log"), to="mine.toml")
    config = tomllib.loads(text)
    assert config["data"]["target"] == "funnel"
    assert config["relevance"] == {"top": 2}
    assert '#   "feedback": the response of the user' in text
    others = [line for line in text.splitlines() if line.startswith("#   ") and ": t" in line]
    relabelled = '{ by = "feedback", z = [0, 1, 2] }'
    assert [line.removeprefix("#   ") for line in others if "threshold" in line] == [
        '"level": threshold = 1',
        '"feedback": threshold = 1',
        f"{relabelled}: threshold = 2",
    ]
    for target in ("level", "feedback", {"by": "feedback", "z": [0, 1, 2]}):
        check_settings({**config, "data": {**config["data"], "target": target}})
