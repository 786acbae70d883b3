"""Off-policy estimates on the Open Bandit Dataset, which the package ``obp`` contains."""

import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from cascaderank.evaluation import ExposureLog, off_policy_value
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

OF_OBP = {
    "all": (0.0023596395168460037, 0.002333713893161806, 0.002312981004081143),
    "men": (0.003008626327256482, 0.0031894231622774027, 0.003399762309586772),
    "women": (0.00743757754192316, 0.0023730461434477677, -0.0023796965542050882),
}
"""IPW, SNIPW and DR of obp 0.4.1: the random policy from the log of bts, with the mean click rate
as the predicted reward."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of ``obp``, which is not installed: only its data are read."""
    folder = tmp_path_factory.mktemp("obp")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "--dest", str(folder), "obp==0.4.1"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("obp 0.4.1 cannot be downloaded")
    return str(next(folder.glob("obp-*.whl")))


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import open_bandit

    return open_bandit


@pytest.mark.parametrize("campaign", list(OF_OBP))
def test_estimates_are_those_of_obp(campaign, wheel, example):
    feedback = example.read(wheel, campaign)["bts"]
    exposed = feedback.item[:, None] == np.arange(feedback.items)
    shape = exposed.shape
    log = ExposureLog(
        rewards=exposed * feedback.click[:, None],
        exposed=exposed,
        propensities=np.where(exposed, feedback.propensity[:, None], 0.5),
    )
    got = off_policy_value(
        log,
        np.full(shape, 1 / feedback.items),
        predicted=np.full(shape, feedback.click.mean()),
        resamples=0,
    )
    means = [got.estimates[name].mean for name in ("ips", "snips", "dr")]
    assert means == pytest.approx(list(OF_OBP[campaign]), rel=1e-12)


def test_policies_may_expose_different_items(tmp_path, example, capsys):
    header, wheel = "item_id,position,click,propensity_score\n", tmp_path / "small.whl"
    with zipfile.ZipFile(wheel, "w") as files:
        for campaign in ("all", "men", "women"):
            for policy, items in (("random", 4), ("bts", 3)):
                rows = [f"{i % items},{i % 3 + 1},{i % 2},{1 / items}\n" for i in range(60)]
                name = f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv"
                files.writestr(name, header + "".join(rows))
    assert [x.items for x in example.read(str(wheel), "men").values()] == [4, 4]
    example.main(str(wheel))
    assert capsys.readouterr().out.count("on-policy difference") == 6


def test_the_example_finds_what_both_policies_earned(wheel, example):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "open_bandit.py"), wheel],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = re.split(r"─+ (\w+): (\w+) from the log of (\w+) ─+\n", done.stdout)[1:]
    verdicts = {}
    for campaign, target, logging, text in zip(*(parts[i::4] for i in range(4)), strict=True):
        true = example.read(wheel, campaign)[target].click.mean()
        rows = re.findall(r"^(IPS|SNIPS|β-IPS|DR) +\S+ +(\S+) to (\S+)", text, re.MULTILINE)
        assert len(rows) == 4
        for name, low, high in rows:
            assert float(low) <= true <= float(high), (campaign, target, name)
        verdicts[campaign, logging] = re.search(r"SNIPS: (\w+)", text)[1]
    # bts rarely exposes some items, so its log does not support the random policy
    assert verdicts["all", "bts"] == verdicts["women", "bts"] == "unsupported"
    # on-policy, bts is better in the campaign "men" (.0069 against .0046)
    assert verdicts["men", "bts"] == "second"
    assert {verdicts[campaign, "random"] for campaign in OF_OBP} == {"undecided"}
