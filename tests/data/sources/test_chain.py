"""A synthetic funnel of which every candidate is logged, and the truth about it."""

import numpy as np
import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.errors import ConfigError

SIZES = {"requests": 1500, "users": 100, "items": 500}


def written(path, **options):
    SOURCES["synthetic"]([], path, **{**SIZES, **options})
    log = RequestLog.open(path)
    return log, pl.concat(list(log.frames()))


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    return {of: written(folder / of, chain=of) for of in ("exposure", "click")}


def flat(frame, name):
    return frame[name].explode().to_numpy()


@pytest.mark.parametrize("of", ["exposure", "click"])
def test_the_label_is_how_likely_each_candidate_was(logs, of):
    _, frame = logs[of]
    happened = flat(frame, "level") == 3 if of == "exposure" else flat(frame, "feedback") > 0
    truth = flat(frame, "label")
    assert ((truth >= 0) & (truth <= 1)).all()
    assert frame["label"].list.len().unique().to_list() == [80]
    edges = np.array([0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.01])
    bins = np.digitize(truth, edges)
    judged = 0
    for b in np.unique(bins):
        some = bins == b
        if some.sum() < 300:
            continue
        judged += 1
        deviation = np.sqrt(truth[some].mean() * (1 - truth[some].mean()) / some.sum())
        # The cut is halfway between two scores of the list itself: not quite that of the others.
        assert happened[some].mean() == pytest.approx(truth[some].mean(), abs=4 * deviation + 0.02)
    assert judged >= 5


def test_clicks_are_on_what_was_shown_and_change_nothing_else(logs, tmp_path):
    _, frame = logs["exposure"]
    _, clicks = logs["click"]
    shown, clicked = flat(frame, "level") == 3, flat(frame, "feedback") > 0
    assert not (clicked & ~shown).any()
    assert 0.2 < clicked[shown].mean() < 0.8
    assert frame.drop("label").equals(clicks.drop("label"))
    # Users and their requests are those of the log without all that.
    _, plain = written(tmp_path / "plain")
    same = ["request_id", "timestamp", "user_id", "history_item"]
    assert plain.select(same).equals(frame.select(same))
    assert "feedback" not in plain.columns


def test_options_that_do_not_go_together_are_told(tmp_path):
    with pytest.raises(ConfigError, match="chain='clicks': Input should be 'exposure' or 'click'"):
        written(tmp_path / "a", chain="clicks")
    with pytest.raises(ConfigError, match="chain logs all candidates and ragged only some"):
        written(tmp_path / "b", chain="click", ragged=True)
