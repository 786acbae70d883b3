"""Files that the user did not ask to replace are as they were, whatever a command writes."""

import os

import pytest
from tests.cli.writing_commands import Example, command_of, contents
from tests.command_line import cascaderank
from tests.data.shops import tree


def refused(*words, cwd=None):
    done = cascaderank(*words, cwd=cwd)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_config_of_the_user_in_the_folder_of_a_run_is_not_replaced(inputs, tmp_path):
    own = tmp_path / "experiment"
    own.mkdir()
    (own / "config.toml").write_text((inputs / "run.toml").read_text())
    before = tree(tmp_path)
    for config in (inputs / "run.toml", own / "config.toml"):
        error = refused("train", config, "--run", own, "--set", "train.epochs=1")
        assert "config.toml: exists, and was not written by cascaderank; choose another" in error
        assert tree(tmp_path) == before


def test_a_run_that_was_killed_before_its_first_checkpoint_is_begun_again(inputs, tmp_path):
    for mark in ("", "cascaderank\n"):
        run = tmp_path / f"run{len(mark)}"
        run.mkdir()
        (run / ".lock").write_text(mark)  # empty in version 0.3 and earlier
        (run / "config.toml").write_text("half = ")
        words = ["train", inputs / "run.toml", "--run", run, "--set", "train.epochs=1"]
        assert cascaderank(*words).returncode == 0
        assert cascaderank(*words).returncode == 0


@pytest.mark.parametrize(
    ("command", "name"),
    [("compare", "comparison.json"), ("compare", "comparison.md"), ("heatmap", "heatmap.png")],
)
def test_files_of_the_user_in_the_folder_of_a_comparison_are_not_replaced(
    inputs, tmp_path, command, name
):
    (tmp_path / name).write_text("mine")
    config = tmp_path / "one.toml"
    text = (inputs / "run.toml").read_text()
    if command == "heatmap":
        text = "\n".join(line for line in text.splitlines() if "retrieval =" not in line)
    config.write_text(text)
    before = tree(tmp_path)
    assert f"{name}: exists, and was not written" in refused(command, config, "--run", tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("to", ["{}", "{}/..", "{}/rows.csv"])
def test_an_input_is_not_replaced_by_the_output(inputs, tmp_path, to):
    source = tmp_path / "source"
    source.mkdir()
    (source / "rows.csv").write_text((inputs / "rows.csv").read_text())
    before = tree(tmp_path)
    words = ["prepare", "long", "--from", source / "rows.csv", "--set", "item_features=['video']"]
    error = refused(*words, "--to", to.replace("{}", str(source)), "--overwrite")
    assert "contains, the input" in error
    assert tree(tmp_path) == before


def test_a_part_of_a_data_set_is_not_replaced_by_the_data_set(funnel, tmp_path):
    part = next(funnel.rglob("*.parquet"))
    before = tree(funnel)
    error = refused("prepare", "long", "--from", part, "--to", funnel, "--overwrite")
    assert "is, or contains, the input" in error
    assert tree(funnel) == before


def test_a_data_set_is_not_replaced_by_its_simulation(inputs, tmp_path):
    before = tree(inputs)
    words = [str(word).replace("{}/runs", str(tmp_path)) for word in command_of("simulate", inputs)]
    words = [word.replace("{}/log", str(inputs / "watched")) for word in words]
    assert "is, or contains, the input" in refused(*words, "--overwrite")
    assert tree(inputs) == before
    assert not list(tmp_path.iterdir())


def test_a_data_set_beside_notes_is_not_replaced(tmp_path):
    small = ["--set", "requests=60", "--set", "users=20", "--set", "items=100"]
    words = ["prepare", "synthetic", "--to", tmp_path / "log", *small, "--overwrite"]
    assert cascaderank(*words).returncode == 0
    (tmp_path / "log" / "README.md").write_text("mine")
    before = tree(tmp_path)
    assert "do not belong to the data set: README.md; move them" in refused(*words)
    assert tree(tmp_path) == before
    assert "the working folder" in refused(*words[:3], ".", *words[4:], cwd=tmp_path / "log")
    assert "inside the data set" in refused(*words[:3], "inner", *words[4:], cwd=tmp_path / "log")
    assert tree(tmp_path) == before


def test_a_link_stands_for_its_file(funnel, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.toml").symlink_to("disk/config.toml")
    assert cascaderank("init", funnel, "--to", tmp_path / "link.toml").returncode == 0
    assert (tmp_path / "disk" / "config.toml").is_file()
    assert (tmp_path / "link.toml").is_symlink()
    assert "exists; choose" in refused("init", funnel, "--to", tmp_path / "link.toml")


def test_a_device_or_pipe_is_not_replaced(funnel, tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe")
    words = ["init", funnel, "--to", tmp_path / "pipe"]
    for overwrite in ([], ["--overwrite"]):
        assert "expected a file, found a device or a pipe" in refused(*words, *overwrite)
    assert (tmp_path / "pipe").is_fifo()


# Two processes with one target.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train", "in use by another process; wait for it or choose another folder"),
        pytest.param("compare", "in use by another process; wait", marks=pytest.mark.slow),
        ("prepare-steps", "another process writes this data set; wait for it"),
    ],
)
def test_a_second_process_is_refused(inputs, commands, tmp_path, name, message):
    example = Example(name, inputs, commands, tmp_path)
    first = example.start(tmp_path / "x")
    while not list(tmp_path.glob("x/*/.lock")) + list(tmp_path.glob("x/.log.unfinished")):
        assert not first.cpu()[1], first.output()
    second = example.start(tmp_path / "x")
    codes = second.wait(), first.wait()
    assert codes[1] == 0, first.output()
    if codes[0]:  # otherwise, the first has ended before
        assert codes[0] == 2
        assert message in second.output()
    assert contents(tmp_path / "x") == example.expected


@pytest.mark.parametrize("name", ["prepare", "prepare-overwrite"])
def test_two_processes_write_one_data_set(inputs, commands, tmp_path, name):
    example = Example(name, inputs, commands, tmp_path)
    for i in range(3):
        folder = tmp_path / f"x{i}"
        example.begin(folder)
        started = [example.start(folder) for _ in range(2)]
        codes = sorted(command.wait() for command in started)
        assert codes in ([0, 0], [0, 2]), [command.output() for command in started]
        assert contents(folder) == example.expected
