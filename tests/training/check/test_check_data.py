"""`check` finds what is planted in a log, with a remedy, and nothing in a log without mistakes."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.data.sources import SOURCES
from cascaderank.data.split import split_requests
from cascaderank.schema import Schema
from cascaderank.settings.run import check_settings
from cascaderank.training.check.check_data import check_data
from cascaderank.training.check.sample import read_sample, sample_rows
from tests.command_line import cascaderank

REQUESTS, LENGTH = 200, 8
START = datetime(2024, 5, 1, tzinfo=UTC)


def columns(requests=REQUESTS, length=LENGTH):
    """Return a log without mistakes: two features that help, an id, and binary labels."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, requests, length))
    noise = generator.normal(size=(requests, length))
    best = np.argsort(np.argsort(-(x + y + noise))) < 2
    return {
        "request_id": [f"r{i}" for i in range(requests)],
        "x": x.tolist(),
        "y": y.tolist(),
        "item": [[int(j) for j in generator.permutation(40)[:length]] for _ in range(requests)],
        "user": generator.integers(0, 10, requests).tolist(),
        "label": best.astype(float).tolist(),
    }


KINDS = {
    "x": ("item", "numeric"),
    "y": ("item", "numeric"),
    "z": ("item", "numeric"),
    "when": ("request", "numeric"),
    "flag": ("item", "categorical"),
    "item": ("item", "categorical"),
    "user": ("request", "categorical"),
}


def write(path, frame, *, given=None, extra=None, levels=()):
    features = [
        {
            "name": name,
            "role": KINDS[name][0],
            "kind": KINDS[name][1],
            "missing": name == "z",
        }
        for name in frame
        if name in KINDS
    ]
    writer = RequestLogWriter(
        path, name="log", schema=Schema(features=features), extra=extra, level_names=levels
    )
    with writer:
        whole = pl.DataFrame(frame)
        if given is None:
            writer.write(whole)
        else:
            for part in given:
                which = np.array([p == part for p in given[part]])
                writer.write(whole.filter(pl.Series(which)), given=part)
    return path


def settings_of(path, **changes):
    settings = check_settings(
        {
            "data": {"path": str(path), "target": "label"},
            "relevance": {"threshold": 1},
            "stages": {
                "first": {"model": "linear", "quota": 4},
                "last": {"model": "linear", "quota": 3},
            },
            "objective": {"name": "bce"},
        }
    )
    return settings.changed({k.replace("__", "."): v for k, v in changes.items()})


@pytest.fixture
def findings(tmp_path):
    """Function that returns the findings about columns that replace those of a sound log."""

    def find(changes=None, *, frame=None, options=None, **settings):
        frame = {**(frame or columns()), **(changes or {})}
        path = write(tmp_path / f"log{len([*tmp_path.iterdir()])}", frame, **(options or {}))
        log = RequestLog.open(path)
        return check_data(log, settings_of(path, **settings)).findings

    return find


def found(findings, about):
    return [(f.severity.value, f.message) for f in findings if f.check == about]


def test_a_sound_log_has_no_findings(findings):
    assert findings() == ()


def test_the_synthetic_funnel_has_no_findings(tmp_path):
    SOURCES["synthetic"]((), tmp_path / "log", requests=2000, users=200, items=400)
    check = check_data(RequestLog.open(tmp_path / "log"))
    assert check.findings == ()
    assert check.read == 2000


def every_row(of):
    return [[of(i, j) for j in range(LENGTH)] for i in range(REQUESTS)]


LABELS = columns()["label"]
NOISE = np.random.default_rng(1).normal(size=(REQUESTS, LENGTH))
LEAKING = (np.array(LABELS) + 0.1 * NOISE).tolist()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_number_that_orders_like_the_labels(findings, sign):
    ((severity, message),) = found(findings({"z": (sign * np.array(LEAKING)).tolist()}), "leak")
    assert severity == "error"
    assert f"{'the negative of ' * (sign < 0)}feature 'z' alone orders the ground truth" in message
    assert 'Leave it out with "!z"' in message


def test_a_value_that_only_the_ground_truth_has(findings):
    z = every_row(lambda i, j: NOISE[i, j] if LABELS[i][j] else None)
    messages = found(findings({"z": z}), "leak")
    assert [severity for severity, _ in messages] == ["error"]


def test_a_category_that_tells_the_label(findings):
    flag = every_row(lambda i, j: "yes" if LABELS[i][j] else "no")
    ((_, message),) = found(findings({"flag": flag}), "leak")
    assert message.startswith("the category 'flag' alone orders the ground truth")


def test_the_identity_of_items_is_no_leak(findings):
    item = [sorted(range(8), key=lambda i: (-row[i], i)) for row in np.array(columns()["label"])]
    order = [[places.index(i) for i in range(8)] for places in item]  # 0 and 1 are relevant
    assert [w for w, _ in found(findings({"item": order}), "leak")] == ["error"]
    assert found(findings({"item": order}, options={"extra": {"item": "item"}}), "leak") == []


def test_a_strong_feature_is_no_leak(findings):
    strong = (np.array(LABELS) + 0.6 * NOISE).tolist()  # AUC of about .88
    assert found(findings({"z": strong}), "leak") == []


def test_constant_features(findings):
    constant = findings({"z": every_row(lambda i, j: 2.0), "when": [1.0] * REQUESTS})
    ((severity, message),) = found(constant, "constant")
    assert severity == "warning"
    assert "2 features with one value only in 160 training requests: z, when." in message


def test_item_features_that_do_not_differ_within_a_request(findings):
    ((severity, message),) = found(findings({"z": every_row(lambda i, j: i % 7)}), "constant")
    assert severity == "note"
    assert "1 item feature with equal values for all candidates of a request: z." in message


def test_missing_values(findings):
    z = every_row(lambda i, j: NOISE[i, j] if (i + j) % 4 == 0 else None)
    ((severity, message),) = found(findings({"z": z}), "missing")
    assert (severity, message.partition(" Expected")[0]) == (
        "note",
        "1 feature without a value for most candidates: z (75 %).",
    )


def test_requests_without_ground_truth(findings):
    few = [row if i % 10 < 7 else [0.0] * LENGTH for i, row in enumerate(LABELS)]
    ((severity, message),) = found(findings({"label": few}), "ground truth")
    assert severity == "warning"
    assert "of the training" in message
    assert "Lower relevance.threshold" in message


def test_no_test_request_with_ground_truth(findings):
    given = {"train": ["train"] * 160 + ["test"] * 40, "test": ["train"] * 160 + ["test"] * 40}
    labels = [row if i < 160 else [0.0] * LENGTH for i, row in enumerate(LABELS)]
    settings = {"data__split": {"by": "given"}}
    messages = found(
        findings({"label": labels}, options={"given": given}, **settings), "ground truth"
    )
    assert messages[0] == (
        "error",
        "no test request that was read has ground truth, so no metric is defined. Lower "
        "relevance.threshold, choose another data.target, or leave such requests out.",
    )


@pytest.mark.parametrize("named", [True, False])
def test_duplicated_candidates(findings, named):
    items = columns()["item"]
    for row in items[:50]:
        row[0] = row[1]
    options = {"extra": {"item": "item"}} if named else {}
    messages = found(findings({"item": items}, options=options), "duplicates")
    assert len(messages) == named  # without identity, other features tell candidates apart
    if named:
        assert "50 of 200 requests have a candidate twice, by 'item'" in messages[0][1]


def test_quotas_that_drop_nothing(findings):
    messages = found(findings(stages__first__quota=8), "quotas")
    assert "stage 'first' keeps 8 candidates, and 200 of 200 lists have no more" in messages[0][1]


def test_warnings_of_training_are_among_the_findings(findings):
    far = np.where(np.arange(REQUESTS * LENGTH).reshape(REQUESTS, LENGTH) == 3, 1e9, NOISE)
    warned = findings({"z": far.tolist()}, relevance={"top": 4})
    assert "relevance.top is 4 and the last quota 3" in found(warned, "settings")[0][1]
    assert found(warned, "numbers")[0][1].startswith("feature 'z': half of the values other than")


def test_levels_that_do_not_fit_the_stages(findings):
    level = every_row(lambda i, j: int(LABELS[i][j]))
    settings = {"data__target": "level", "objective__entry_levels": [0, 1]}
    with_levels = findings({"level": level}, options={"levels": ("seen", "won")}, **settings)
    assert any(
        f.message.startswith("stage 'last' is trained on candidates of level 1 and higher")
        for f in with_levels
    )


def times(days):
    return [START + timedelta(days=days * i / REQUESTS) for i in range(REQUESTS)]


@pytest.mark.parametrize(("days", "severity"), [(9.9, "warning"), (1.9, "note"), (0.9, None)])
def test_a_random_split_of_a_log_with_times(findings, days, severity):
    messages = found(findings({"timestamp": times(days)}), "time")
    assert [s for s, _ in messages] == [severity] * (severity is not None)
    if severity:
        assert 'data.split.by = "request" tests on requests of' in messages[0][1]


def test_a_given_split_that_tests_on_the_past(findings):
    parts = ["test" if i < 40 else "train" for i in range(REQUESTS)]
    given = {"train": parts, "test": parts}
    messages = found(
        findings({"timestamp": times(9.9)}, options={"given": given},
                 data__split={"by": "given"}), "time"
    )  # fmt: skip
    assert messages[0][0] == "error"
    assert (
        "most test requests are earlier than most training requests (2024-05-01" in (messages[0][1])
    )


def test_features_that_grow_with_time(findings):
    frame = {"timestamp": times(9.9), "when": [float(i) for i in range(REQUESTS)]}
    messages = [m for _, m in found(findings(frame, data__split={"by": "day"}), "time")]
    assert messages[0].startswith("features that follow the time (rank correlation): when (1.00).")
    assert messages[1].startswith(
        "features whose test values are outside the range of all training values: when (100 %)."
    )


def test_ids_that_training_does_not_have(findings):
    frame = {"timestamp": times(9.9), "user": [i // 5 for i in range(REQUESTS)]}
    ((severity, message),) = found(findings(frame, data__split={"by": "day"}), "unknown ids")
    assert (severity, message.partition(". ")[0]) == (
        "warning",
        "values of test requests that training requests do not have: user (100 %)",
    )


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"name": "lcron", "temperature": 0.1}, "only candidates next to a cut have a gradient"),
        ({"name": "lcron", "temperature": 500.0}, "all candidates are about as likely"),
        ({"name": "lcron", "temperature": 10.0}, None),
        ({"name": "lcron"}, None),
        ({"name": "cut_likelihood", "temperature": 0.25}, None),
        ({"name": "cut_likelihood", "temperature": 50.0}, "0.1 to 1 is usual"),
        ({"name": "bce", "score_temperature": 0.001}, "0.1 to 1 is usual"),
        ({"name": "dftopk", "temperature": {"start": 500.0, "end": 1.0}}, "is 500 for lists of 8"),
    ],
)
def test_temperatures_out_of_proportion(findings, objective, message):
    messages = found(findings(objective=objective), "temperature")
    assert len(messages) == (message is not None)
    if message:
        assert message in messages[0][1]


@pytest.mark.parametrize(("rate", "about"), [(0.01, []), (1e-6, ["learning rate"]),
                                             (0.5, ["learning rate"]), (2.0, ["numbers"])])  # fmt: skip
def test_learning_rates(findings, rate, about):
    assert [f.check for f in findings(train__learning_rate=rate)] == about


def test_few_steps(findings):
    ((_, message),) = found(findings(train__epochs=1, train__batch_size=100), "steps")
    assert message.startswith("training takes 2 steps at most.")
    ((_, message),) = found(findings(train__epochs=1, train__batch_size=100_000), "steps")
    assert message.startswith("training takes 1 step at most.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages__first__features": ["price"]}, "stages.first.features: no feature 'price'"),
        ({"relevance__threshold": 9}, "no candidate is ground truth: relevance.threshold = 9"),
        ({"data__split": {"by": "day"}}, "a split by day needs timestamps"),
        ({"data__target": "funnel"}, "level"),
    ],
)
def test_what_training_refuses_is_an_error(findings, changes, message):
    messages = [m for s, m in found(findings(**changes), "refused") if s == "error"]
    assert any(message in m for m in messages), messages


def test_errors_come_first(findings):
    leaking = findings({"z": LEAKING}, train__epochs=1, train__batch_size=100)
    assert [f.severity.value for f in leaking] == ["error", "warning"]


def test_a_large_log_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "cascaderank.training.check.sample._SIZES", {"train": 60, "validation": 5, "test": 10}
    )
    monkeypatch.setattr("cascaderank.training.check.sample._FEWEST", 5)
    path = write(tmp_path / "log", {**columns(), "z": LEAKING, "timestamp": times(9.9)})
    log, settings = RequestLog.open(path), settings_of(path, data__split={"by": "day"})
    split = split_requests(log, settings.data.split)
    rows, again = (sample_rows(log, split) for _ in range(2))
    assert [len(rows.train), len(rows.validation), len(rows.test)] == [60, 5, 10]
    for part in ("train", "validation", "test"):
        assert np.isin(getattr(rows, part), getattr(split, part)).all()
        assert (getattr(rows, part) == getattr(again, part)).all()
    check = check_data(log, settings)
    assert (check.read, check.requests, check.failed) == (75, 200, True)


def test_parts_of_a_sample_are_those_of_the_split(tmp_path):
    """The source defines its days, so the sample, whose days are in UTC, has another order."""
    frame = pl.DataFrame({**columns(), "timestamp": times(4)})
    features = [{"name": n, "role": r, "kind": k} for n, (r, k) in KINDS.items() if n in frame]
    with RequestLogWriter(tmp_path / "log", name="log", schema=Schema(features=features)) as writer:
        for day in range(4):
            rows = frame[50 * day : 50 * (day + 1)]
            writer.write(rows, day=(START - timedelta(days=day)).date())
    log = RequestLog.open(tmp_path / "log")
    settings = settings_of(tmp_path / "log", data__split={"by": "day"})
    split = split_requests(log, settings.data.split)
    ids = pl.concat([f["request_id"] for f in log.frames(["request_id"])])
    schema = fit_schema(log.schema, log.frames(rows=split.train))
    with read_sample(settings, log, split, schema) as sample:
        assert sample.whole
        for part in ("train", "validation", "test"):
            found = sample.part(getattr(sample.data.split, part))["request_id"]
            assert set(found) == set(ids[getattr(split, part)])
            encoded = sample.data.encoded.request_ids[getattr(sample.data.split, part)]
            assert encoded.to_list() == found.to_list()


def test_the_command(tmp_path):
    path = write(tmp_path / "log", {**columns(), "z": LEAKING})
    plain = cascaderank("check", path)
    assert plain.returncode == 0
    assert "log: 1 finding; read all 200 requests" in plain.stdout
    assert all(len(line) <= 80 for line in plain.stdout.splitlines())
    assert "settings that `cascaderank init` would write" in plain.stderr
    strict = cascaderank("check", path, "--strict", "--json")
    assert strict.returncode == 1
    shown = json.loads(strict.stdout)
    assert [f["check"] for f in shown["findings"]] == ["leak"]
    (tmp_path / "run.toml").write_text(settings_of(path).to_toml())
    with_config = cascaderank(
        "check", path, tmp_path / "run.toml", "--set", 'stages.first.features=["x"]', "--strict"
    )
    assert with_config.returncode == 1  # a leak in the data is one, whichever stage reads it
    missing = cascaderank("check", tmp_path / "nowhere")
    assert missing.returncode == 2
    assert "no such folder" in missing.stderr
