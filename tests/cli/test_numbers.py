"""Numbers without sense on the command line end it with one line and exit code 2."""

import pytest
from tests.cli.test_commands import refused

from cascaderank.cli.shell import finite, numbers
from cascaderank.errors import ConfigError, shown


def short(value):
    """The name of a case."""
    return shown(value)[:30]


LONG = "9" * 5000
DEEP = "[" * 10_000 + "]" * 10_000


@pytest.fixture
def config(funnel, settings_for, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(settings_for(funnel, train__epochs=1).to_toml())
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.epochs=true", "train.epochs: Input should be a valid integer; got true"),
        ("train.seed=1e3", "train.seed: Input should be a valid integer; got 1000.0"),
        ("train.seed=-1", "train.seed: Input should be greater than or equal to 0"),
        (f"train.seed={LONG}", "--set train.seed: an integer has more than 128 bits"),
        (f"train.seed=0x{LONG}", "--set train.seed: an integer has more than 128 bits"),
        ("relevance.threshold=nan", "relevance.threshold: Input should be a finite number"),
        ("train.learning_rate=10", "train.learning_rate: Input should be less than 10"),
        (
            "train.prefetch=1000000000",
            "train.prefetch: Input should be less than or equal to 10000",
        ),
        ("data.history_length=1000000000000", "data.history_length: Input should be less than or"),
        ("evaluation.bootstrap=1000000000", "evaluation.bootstrap: Input should be less than or"),
        (f"stages.ranking.dim={2**63}", "dim=9223372036854775808: expected integers from -9223372"),
        ("stages.ranking.hidden=[1000000000000]", "GiB of memory, and the machine has"),
        ("stages.ranking.hidden=[1000000000]", "GiB of memory, and the machine has"),
        (
            f"data.target={DEEP}",
            "--set data.target: tables and lists are nested more than 100 deep",
        ),
        ("a." * 10_000 + "a=1", "--set: tables and lists are nested more than 100 deep"),
        ("train.seed", "--set: expected name=value, such as train.seed=3; got 'train.seed'"),
    ],
    ids=short,
)
def test_a_setting_without_sense(config, tmp_path, change, message):
    assert message in refused("train", config, "--run", tmp_path / "run", "--set", change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"x = {DEEP}", "tables and lists are nested more than 100 deep"),
        (f"[{'a.' * 10_000}a]", "a key has more than 100 parts"),
        (f"x = {'{a=' * 10_000}1{'}' * 10_000}", "tables and lists are nested more than 100 deep"),
        (f"x = {LONG}", "an integer has more than 128 bits"),
        ("x = [", "not a TOML file"),
    ],
    ids=short,
)
def test_a_file_that_is_nested_or_has_long_integers(tmp_path, text, message):
    path = tmp_path / "config.toml"
    path.write_text(text)
    for command in ("train", "compare"):
        assert f"{path}: {message}" in refused(command, path)
    assert f"{path}: {message}" in refused("simulate", path, "--to", tmp_path / "log")
    found = refused("prepare", "synthetic", "--to", tmp_path / "log", "--options", path)
    assert message.removeprefix("not a TOML file") in found


def test_a_schema_that_is_nested_is_refused(tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("visit,video,click\n1,7,0\n1,8,1\n")
    for name, text in (("s.json", "[" * 100_000), ("s.toml", f"x = {DEEP}"), ("t.json", LONG)):
        (tmp_path / name).write_text(text)
        words = ["--set", "request_id=visit", "--set", f"schema={tmp_path / name}"]
        found = refused("prepare", "long", "--from", rows, "--to", tmp_path / "log", *words)
        assert "nested more than 100 deep" in found or "more than 128 bits" in found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "c.toml", "--seeds", "1000000000"], "--seeds"),
        (["compare", "c.toml", "--jobs", "1000000"], "--jobs"),
        (["compare", "c.toml", "--seeds", LONG], "--seeds"),
        (["heatmap", "c.toml", "--seeds", "1000000000"], "--seeds"),
        (["importance", "run", "log", "--repeats", "1000000000"], "--repeats"),
        (["importance", "run", "log", "--seed", str(2**63)], "--seed"),
        (["explain", "run", "--lost", "--top", "0"], "--top"),
        (["evaluate", "run", "log", "--threshold", "nan"], "nan is not a finite number"),
        (["evaluate", "run", "log", "--threshold", "1e300"], "1e+300 is not a finite number"),
        (["profile", "run", "--seconds", "nan"], "--seconds"),
        (["profile", "run", "--seconds", "inf"], "--seconds"),
        (["profile", "run", "--batch", "99999999999"], "--batch"),
        (
            ["profile", "run", "--lists", "2000000000000"],
            "--lists takes integers from 1 to 2147483",
        ),
        (["profile", "run", "--lists", LONG], "--lists takes integers separated by commas"),
        (["fields", "run", "--to", "c.toml", "--keep", "nan"], "--keep"),
        (["demo", "--requests", "1000000000000"], "--requests"),
    ],
    ids=short,
)
def test_an_option_without_sense(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("requests=true", "requests=true: expected an integer; got true"),
        ("requests=1e3", "requests=1000.0: expected an integer, such as 1000"),
        ("requests=1000000000000", "requests must be at most 2,147,483,647; got 1,000"),
        ("requests=nan", "requests takes finite numbers; got nan"),
        (f"requests={LONG}", "--set requests: an integer has more than 128 bits"),
        ("stages=50000", "stages must be at most 100; got 50,000"),
        ("items=2147483647", "GiB of memory, and the machine has"),
        ("seed=99999999999999999999", "expected integers from -9223372036854775807"),
        ("noise=1e300", "noise=1e+300: expected numbers in the range of float32"),
    ],
    ids=short,
)
def test_an_option_of_a_source_without_sense(tmp_path, change, message):
    found = refused("prepare", "synthetic", "--to", tmp_path / "log", "--set", change)
    assert message in found
    assert not (tmp_path / "log").exists()


def test_numbers_of_an_option():
    assert numbers("--lists", "10, 20") == [10, 20]
    for text in ("ten", "1e3", "0", "-1", "2147483648", LONG, "nan"):
        with pytest.raises(ConfigError, match="--lists takes integers"):
            numbers("--lists", text)


def test_finite_numbers_pass():
    assert [finite(x) for x in (None, 0.5, -3e38)] == [None, 0.5, -3e38]
