"""Settings that depend on the log: the default target is resolved and recorded; notices."""

import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.errors import DataError
from cascaderank.experiments.compare import compare
from cascaderank.runs.data import run_data
from cascaderank.runs.log_defaults import notices, resolved
from cascaderank.settings.run import check_settings, read_settings
from cascaderank.training.train_run import train_run
from tests.command_line import cascaderank

GRADES = (0, 1, 2, 0)


def lines(queries):
    return "".join(
        f"{grade} qid:{q} 1:{grade}.{q} 2:{i}\n" for q in queries for i, grade in enumerate(GRADES)
    )


@pytest.fixture(scope="module")
def grades(tmp_path_factory):
    """A log of LETOR files, which has labels and no levels."""
    folder = tmp_path_factory.mktemp("grades")
    (folder / "web.txt").write_text(lines(range(12)))
    SOURCES["letor"](folder / "web.txt", folder / "log")
    return folder / "log"


def settings_of(path, **split):
    return check_settings(
        {
            "data": {"path": str(path), "split": split or {"by": "request"}},
            "relevance": {"threshold": 1},
            "stages": {"ranking": {"model": "linear", "quota": 2}},
            "train": {"epochs": 1},
            "evaluation": {"bootstrap": 2},
            "compare": {"objectives": ["bce"], "seeds": 1, "baselines": []},
        }
    )


def test_without_levels_the_labels_are_the_target_and_the_run_records_it(grades, tmp_path):
    train_run(settings_of(grades), tmp_path / "run")
    assert read_settings(tmp_path / "run" / "config.toml").data.target == "label"
    compare(settings_of(grades), tmp_path / "all")
    (config,) = (tmp_path / "all").rglob("config.toml")
    assert read_settings(config).data.target == "label"
    with run_data(settings_of(grades)) as data:
        assert sorted(data.encoded.labels.tolist()) == sorted([*GRADES] * 12)


def test_a_funnel_is_still_the_target_of_a_log_with_levels(funnel):
    assert resolved(settings_of(funnel), RequestLog.open(funnel)).data.target == "funnel"


def test_a_target_of_the_config_is_kept_and_refused_if_it_is_impossible(grades, funnel):
    settings = settings_of(funnel).changed({"data.target": "level"})
    assert resolved(settings, RequestLog.open(funnel)) == settings
    with (
        pytest.raises(DataError, match=r"has no column 'level'.*can be computed: label"),
        run_data(settings_of(grades).changed({"data.target": "funnel"})),
    ):
        pass


def test_a_run_that_recorded_the_target_of_version_2_is_found_again(funnel, settings_for, tmp_path):
    settings = settings_for(funnel, train__epochs=1)
    first = train_run(settings.changed({"data.target": "funnel"}), tmp_path / "run")
    again = train_run(settings, tmp_path / "run")
    assert again.test.metrics == first.test.metrics


def test_the_commands_say_which_target_a_log_without_levels_has(grades, tmp_path):
    config = tmp_path / "mine.toml"
    config.write_text(settings_of(grades).to_toml())
    for command in ("train", "compare"):
        done = cascaderank(command, config, "--run", tmp_path / command, "--json")
        assert done.returncode == 0, done.stderr
        assert " ".join(done.stderr.split()).startswith(
            f'data.target is "label", by default for {grades}, which has no levels'
        )


@pytest.mark.parametrize("by", ["fold", "request", "given"])
def test_official_parts_that_are_not_used_are_pointed_out(tmp_path, by):
    for i in range(3):
        (tmp_path / f"Fold{i + 1}").mkdir()
        (tmp_path / f"Fold{i + 1}" / "test.txt").write_text(lines(range(4 * i, 4 * i + 4)))
    SOURCES["letor"](tmp_path, tmp_path / "log")
    settings = settings_of(tmp_path / "log", by=by).changed({"data.target": "label"})
    found = list(notices(settings, RequestLog.open(tmp_path / "log")))
    if by == "given":
        assert not found
    else:
        assert found == [
            f'data.split.by = "{by}" assigns requests at random, but {tmp_path / "log"} comes with '
            '3 official folds; to use them, set data.split = { by = "given" }'
        ]


def test_there_is_no_notice_without_official_parts_or_for_a_funnel(grades, funnel):
    settings = settings_of(grades, by="fold").changed({"data.target": "label"})
    assert not list(notices(settings, RequestLog.open(grades)))
    assert not list(notices(settings_of(funnel), RequestLog.open(funnel)))
