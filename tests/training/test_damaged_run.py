"""Every file of a run that is damaged is refused and named, or its damage changes no result."""

import json
from random import Random
from shutil import copytree

import pytest
import torch

from cascaderank.data.sources import SOURCES
from cascaderank.errors import RunError
from cascaderank.runs.data import run_data
from cascaderank.runs.load import load_run
from cascaderank.training.checkpoint import load_checkpoint
from cascaderank.training.run_result import read_result
from cascaderank.training.train_run import train_run
from tests.training.test_resume import StopAfter, StoppedError, bits_of

FILES = (
    "config.toml", "environment.json", "metrics.jsonl", "per_request.parquet", "report.json",
    "schema.json", "weights.safetensors",
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("logs") / "funnel"
    SOURCES["synthetic"](None, path, requests=60, users=20, items=100, seed=3)
    return path


@pytest.fixture
def settings(log, settings_for):
    return settings_for(log, train__epochs=2, train__batch_size=16, evaluation__bootstrap=1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def whole(settings, folders):
    """Folder of a complete run; read-only."""
    train_run(settings, folders / "whole")
    return folders / "whole"


@pytest.fixture
def complete(whole, tmp_path):
    return copytree(whole, tmp_path / "run")


@pytest.fixture
def stopped(settings, folders, tmp_path):
    """Folder of a run that ended in its second epoch, with two checkpoints."""
    if not (folders / "stopped").exists():
        with pytest.raises(StoppedError):
            train_run(settings, folders / "stopped", progress=StopAfter(5))
    return copytree(folders / "stopped", tmp_path / "run")


def damaged(content, seed, flips=15, cuts=3):
    """Yield copies of the content with one flipped bit each, truncated, empty and doubled."""
    random = Random(seed)
    for _ in range(flips):
        place, bit = random.randrange(len(content)), 1 << random.randrange(8)
        yield content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
    for _ in range(cuts):
        yield content[: random.randrange(len(content))]
    yield b""
    yield content * 2


def test_the_checksums_are_those_of_sha256sum(whole):
    lines = (whole / "checksums.sha256").read_text().splitlines()
    assert sorted(line[66:] for line in lines) == list(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_complete_run_is_named(settings, complete, name):
    file = complete / name
    good = file.read_bytes()
    for content in damaged(good, name):
        file.write_bytes(content)
        message = rf"{name}: changed since the run was completed: expected sha256 .*; restore"
        with pytest.raises(RunError, match=message):
            load_run(complete)
    with pytest.raises(RunError, match=message):
        train_run(settings, complete)
    file.write_bytes(good)
    assert read_result(train_run(settings, complete).folder).test.requests > 0


def test_damaged_checksums_are_refused_or_harmless(complete):
    file = complete / "checksums.sha256"
    good = file.read_bytes()
    refused = 0
    for content in damaged(good, 0, flips=60):
        file.write_bytes(content)
        try:
            load_run(complete)
        except RunError:
            refused += 1
    assert refused >= 62, "only the end of the file may change"


def test_a_user_may_add_files_and_accept_changes_of_their_own(complete):
    (complete / "notes.md").write_text("ours")
    load_run(complete)
    with (complete / "config.toml").open("a") as config:
        config.write("# moved\n")
    with pytest.raises(RunError, match=r"config\.toml: .* remove its line from checksums\.sha256"):
        load_run(complete)
    sums = complete / "checksums.sha256"
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(line for line in lines if "config.toml" not in line))
    load_run(complete)


def test_a_run_without_checksums_is_read_and_its_report_is_checked(settings, complete):
    (complete / "checksums.sha256").unlink()
    before = read_result(load_run(complete).folder)
    assert before.test.requests > 0
    for name, content, message in [
        ("report.json", b"{", "not JSON"),
        ("report.json", b"[]", "expected an object, found list"),
        ("report.json", b"\xff\xfe", "not JSON"),
        ("report.json", b'{"test": {}}', "training: Field required"),
        ("report.json", b'{"test": {}, "training": {"validation": 1, "seconds": 1}}', "requests"),
        ("per_request.parquet", b"PAR1", "cannot be read"),
    ]:
        file = complete / name
        good = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(RunError, match=rf"{name}: .*{message}.*restore the file from a copy"):
            train_run(settings, complete)
        file.write_bytes(good)


def test_a_damaged_checkpoint_is_refused(stopped):
    file = stopped / "checkpoint.pt"
    good = file.read_bytes()
    for content in damaged(good, 1, flips=60, cuts=10):
        file.write_bytes(content)
        with pytest.raises(RunError, match=r"checkpoint\.pt: cannot resume .* remove the file"):
            load_checkpoint(file, modules={}, device=CPU)
    file.write_bytes(good)
    load_checkpoint(file, modules={}, device=CPU)


def with_shape(saved):
    name = next(iter(saved["best_weights"]))
    saved["best_weights"][name] = torch.zeros(1, 2, 3)


MISTAKES = {
    r"best_weights: expected a tensor": lambda s: s.update(best_weights={}),
    r"best_weights: expected tensors by name, found list": lambda s: s.update(best_weights=[]),
    r"best_weights: expected .* of shape .*, found \[1, 2, 3\]": with_shape,
    r"expected a step of 2 epochs": lambda s: s["state"].update(epoch=10**12),
    r"state\.epoch: Input should be greater": lambda s: s["state"].update(epoch=-1),
    r"state\.step: Input should be a valid integer": lambda s: s["state"].update(step="4"),
    r"expected a step of .* found step 5": lambda s: s["state"].update(step=5),
    r"random: expected a tensor 'cpu'": lambda s: s.update(random={}),
}


def test_a_checkpoint_with_other_content_is_refused(settings, stopped):
    """Without a checksum, as in version 0.3; the content is checked by itself."""
    file = stopped / "checkpoint.pt"
    (stopped / "checkpoint-previous.pt").unlink()
    payload = file.read_bytes().partition(b"\n")[2]
    with run_data(settings) as data:
        for message, change in MISTAKES.items():
            file.write_bytes(payload)
            saved = torch.load(file, weights_only=True)
            change(saved)
            torch.save(saved, file)
            with pytest.raises(RunError, match=rf"checkpoint\.pt: cannot resume .*{message}"):
                train_run(settings, stopped, data=data)


def test_a_checkpoint_of_version_0_3_is_resumed(settings, stopped, whole):
    file = stopped / "checkpoint.pt"
    file.write_bytes(file.read_bytes().partition(b"\n")[2])
    saved = torch.load(file, weights_only=True)
    del saved["state"]["metrics_sha256"]
    torch.save(saved, file)
    train_run(settings, stopped)
    assert bits_of(stopped) == bits_of(whole)


def test_damaged_metrics_of_an_unfinished_run_are_refused(settings, stopped):
    metrics = stopped / "metrics.jsonl"
    good = metrics.read_bytes()
    assert json.loads(good)["epoch"] == 0
    for content in (b"", good[:-5], good.replace(b'"epoch"', b'"epocj"')):
        metrics.write_bytes(content)
        with (
            pytest.warns(UserWarning, match=r"metrics\.jsonl: changed since checkpoint\.pt"),
            pytest.raises(RunError, match=r"metrics\.jsonl: changed since checkpoint-previous"),
        ):
            train_run(settings, stopped)


def test_damaged_settings_of_an_unfinished_run_are_refused(settings, stopped):
    config = stopped / "config.toml"
    good = config.read_bytes()
    for size in (0, 40, len(good) // 2, len(good) - 30):
        config.write_bytes(good[:size])
        with pytest.raises(RunError, match=r"cannot be read: .*restore|other settings"):
            train_run(settings, stopped)
