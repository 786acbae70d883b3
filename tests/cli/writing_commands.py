"""Commands that write, on small inputs, and what they write if nothing interrupts them."""

import json
import re
import shutil

import polars as pl
from tests.conftest import ROOT
from tests.data.sources.recflow_files import history, row, write_day
from tests.data.sources.short_videos import rand_exposures, rand_videos, users, write_rand

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES

OF_A_PROCESS = re.compile(r"second|peak_memory|started")


def changes(*settings):
    return [word for change in settings for word in ("--set", change)]


def write_inputs(folder, funnel):
    """Write the inputs of all commands into a folder."""
    rows = pl.DataFrame(
        {
            "request_id": [i // 5 for i in range(6_000)],
            "video": [i * 7 % 100 for i in range(6_000)],
            "label": [i % 3 // 2 for i in range(6_000)],
            "timestamp": [1_700_000_000 + i // 5 * 600 for i in range(6_000)],
        }
    )
    rows.write_csv(folder / "rows.csv")
    for day in range(13, 19):
        date = f"2024-01-{day}"
        seen = history([(5, 6, 1, 2, 0, 1_700_000_000_000)])
        requests = [day * 10_000 + i for i in range(60)]
        shown = [row(r, r % 50 + i, "rank_pos", i + 1) for r in requests for i in range(3)]
        write_day(folder / "recflow", date, shown, dict.fromkeys(requests, seen))
    exposures = rand_exposures(2, rows=300, user_ids=list(range(1, 9)), video_ids=range(60))
    people, videos = users(list(range(1, 9))), rand_videos(range(60))
    write_rand(folder / "kuairand", exposures, people=people, videos=videos)
    SOURCES["kuairand"]((folder / "kuairand",), folder / "watched", history_length=3)
    (folder / "run.toml").write_text(
        f"""
        data = {{ path = "{funnel}", split = {{ by = "request", seed = 1 }} }}
        relevance.top = 10
        objective.name = "lcron"
        train = {{ epochs = 3, batch_size = 32, checkpoint_every = 2 }}
        evaluation.bootstrap = 50
        [stages]
        retrieval = {{ model = "two_tower", quota = 30, hidden = [8, 4], features = ["*", "!match_*", "!gap_*"] }}
        ranking = {{ model = "mlp", quota = 20, hidden = [8], dropout = 0.1 }}
        [compare]
        objectives = ["bce", "lcron"]
        seeds = 2
        baselines = ["random"]
        """
    )


def command_of(name, inputs):
    """Return the words of a command, in which {} stands for the folder that it writes into."""
    if name.startswith("prepare"):
        source, options = "long", changes("item_features=['video']", "timestamp_unit=s")
        from_ = inputs / "rows.csv"
        if name == "prepare-steps":
            source, from_, options = "recflow", inputs / "recflow", []
        overwrite = ["--overwrite"] * (name == "prepare-overwrite")
        return ["prepare", source, "--from", from_, "--to", "{}/log", *options, *overwrite]
    if name == "simulate":
        config = ROOT / "configs" / "simulation" / "kuairand.toml"
        small = [
            "funnel.candidates=20", "funnel.pool=3", "funnel.requests=1", "funnel.users=6",
            "stages.prerank.keep=8", "stages.prerank.negatives=6", "stages.prerank.hidden=[4]",
            "stages.rank.keep=4", "stages.rank.negatives=2", "stages.rank.hidden=[4]",
            "truth.hidden=[4]", "data.split.test_days=1", f"data.path={inputs / 'watched'}",
            "train.epochs=2", "train.checkpoint_every=2",
        ]  # fmt: skip
        return ["simulate", config, "--to", "{}/log", "--runs", "{}/runs", *changes(*small)]
    jobs = ["--jobs", "2"] * (name == "compare-jobs")
    return [name.partition("-")[0], inputs / "run.toml", "--run", "{}/run", *jobs]


COMMANDS = ["prepare", "prepare-overwrite", "prepare-steps", "train", "compare", "simulate"]


class Example:
    """A command with what it writes if nothing interrupts it."""

    def __init__(self, name, inputs, commands, folder):
        self.name, self._commands = name, commands
        self._words = command_of(name, inputs)
        self._former = None
        if name == "prepare-overwrite":
            self._former = folder / "former"
            commands.run("prepare", "synthetic", "--to", self._former / "log",
                         *changes("requests=60", "users=20", "items=100"))  # fmt: skip
        self.whole = folder / "whole"
        self.begin(self.whole)
        self.seconds = commands.run(*self.words(self.whole)).seconds
        self.expected = contents(self.whole)

    def words(self, folder):
        return [str(word).replace("{}", str(folder)) for word in self._words]

    def begin(self, folder):
        """Make the folder that the command writes into, with what was there before."""
        folder.mkdir()
        if self._former:
            shutil.copytree(self._former, folder, dirs_exist_ok=True)

    def start(self, folder):
        return self._commands.start(*self.words(folder))

    def check_former(self, folder):
        """The data set that is replaced is there at any time: the former or the new one."""
        if self._former:
            log = RequestLog.open(folder / "log")
            assert sum(log.read(part).height for part in log.manifest.parts) in (60, 1_200)


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not OF_A_PROCESS.search(k)}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def contents(folder):
    """Contents of all files of a folder, without times and what depends on them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[name] = None
        elif path.suffix == ".json":
            value = without_times(json.loads(path.read_text()))
            value.pop("checksum", None)
            found[name] = value
        elif path.name.startswith("comparison."):
            found[name] = "tables and plots have times"
        else:
            lines = path.read_bytes().splitlines()
            times = (b"  report.json", b"  environment.json")
            found[name] = [line for line in lines if not line.endswith(times)]
    return found
