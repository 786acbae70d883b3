"""The folder of a run is written atomically, by one process at a time."""

import json
import os

import pytest
import torch

from cascaderank.errors import ConfigError, RunError
from cascaderank.runs.folder import (
    RunFolder,
    locked,
    read_json,
    scratch,
    write_atomically,
    write_json,
)
from cascaderank.runs.seeding import deterministic, pick_device
from cascaderank.training.checkpoint import TrainState, load_checkpoint, save_checkpoint


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError, match="file: cannot be written: disk full; choose"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"], "no temporary file is left"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_files_have_the_permissions_of_the_users_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "report.json", b"{}")
        (tmp_path / "report.json").chmod(0o600)
        write_atomically(tmp_path / "report.json", b"{}")  # as from an earlier version
    finally:
        os.umask(before)
    assert (tmp_path / "report.json").stat().st_mode & 0o777 == mode


def test_json_with_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"x": float("nan")})
    assert not (tmp_path / "file.json").exists()


@pytest.mark.parametrize("content", [None, "{"])
def test_json_that_cannot_be_read_is_an_error(tmp_path, content):
    if content:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(RunError, match=r"report\.json: (missing|not JSON)"):
        read_json(tmp_path / "report.json")


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(RunError, match="in use by another process"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_temporary_folders_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".cascaderank-killed").mkdir()
    (tmp_path / ".cascaderank-killed" / "column").write_bytes(b"large")
    with scratch(tmp_path) as place:
        assert [p.name for p in tmp_path.iterdir()] == [place.name]
    assert not list(tmp_path.iterdir())


def test_a_temporary_folder_in_tmpdir_is_private_and_cleared_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / ".cascaderank-0.3").mkdir()  # perhaps of a living process of version 0.3
    with scratch(None) as first:
        (first / "column").write_bytes(b"large")
        first.rename(first.with_name(".cascaderank-scratch.00aa.partial"))
    (tmp_path / ".cascaderank-scratch.00aa.partial" / "column").write_bytes(b"large")
    with scratch(None) as one, scratch(None) as two:
        assert {p.name for p in tmp_path.iterdir()} == {".cascaderank-0.3", one.name, two.name}
        assert one.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in tmp_path.iterdir()] == [".cascaderank-0.3"]


def test_a_tmpdir_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(RunError, match="TMPDIR: cannot be written: Not a directory"), scratch(None):
        pass


@pytest.mark.parametrize("name", ["config.toml", "metrics.jsonl", "schema.json"])
def test_files_of_others_are_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with (
        pytest.raises(RunError, match=f"{name}: exists, and was not written by cascaderank"),
        locked(tmp_path, writes=["config.toml", "metrics.jsonl", "schema.json"]),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("kind", ["text", "link", "folder"])
def test_a_lock_of_another_program_is_not_touched(tmp_path, kind):
    target = tmp_path / "target"
    target.write_text("mine")
    lock = tmp_path / "run" / ".lock"
    lock.parent.mkdir()
    if kind == "text":
        lock.write_text("pid 7")
    elif kind == "link":
        lock.symlink_to(target)
    else:
        lock.mkdir()
    with pytest.raises(RunError, match=r"\.lock: exists, and was not written"), locked(lock.parent):
        pass
    assert target.read_text() == "mine"
    assert kind != "text" or lock.read_text() == "pid 7"


@pytest.mark.parametrize("mark", [b"", b"cascaderank\n"])
def test_a_folder_that_was_locked_before_may_be_written(tmp_path, mark):
    (tmp_path / ".lock").write_bytes(mark)
    (tmp_path / "config.toml").write_text("of a run that failed before its first checkpoint")
    with locked(tmp_path, writes=["config.toml"]):
        pass
    assert (tmp_path / ".lock").read_bytes() == b"cascaderank\n"


@pytest.mark.parametrize("name", ["comparison", "heatmap"])
def test_a_copy_without_hidden_files_may_be_written(tmp_path, name):
    results = {"dataset": "shop", "requests": 5, "folds": 1, "seeds": 1, "losses": []}
    (tmp_path / f"{name}.md").write_text("of this program")
    for wrong in ("mine", "[]", '{"dataset": "shop", "requests": 5}'):
        (tmp_path / f"{name}.json").write_text(wrong)
        with (
            pytest.raises(RunError, match="was not written by"),
            locked(tmp_path, writes=[f"{name}.md"]),
        ):
            pass
    (tmp_path / f"{name}.json").write_text(json.dumps(results))
    with locked(tmp_path, writes=[f"{name}.json", f"{name}.md"]):
        pass


def test_a_folder_with_the_remains_of_a_kill_is_accepted(tmp_path):
    for name in (".lock", ".config.toml.01234567.partial", ".config.toml.01234567"):
        (tmp_path / name).touch()
    (tmp_path / ".cascaderank-scratch.0a.partial").mkdir()
    RunFolder(tmp_path)
    write_atomically(tmp_path / "config.toml", b"")
    assert not (tmp_path / ".config.toml.01234567.partial").exists()


def test_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match="expected the folder of a run, found a file"):
        RunFolder(tmp_path / "run")


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(RunError, match=r"found files and no config\.toml"):
        RunFolder(tmp_path)


def test_a_checkpoint_restores_all_state(tmp_path):
    torch.manual_seed(0)
    module = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = TrainState(epoch=2, batch=1, step=9, sums={"loss": 0.1 + 0.2}, best=0.5)
    best = {"weight": torch.ones(3)}
    random = {"cpu": torch.get_rng_state()}
    modules = {"module": module, "optimizer": optimizer}
    save_checkpoint(tmp_path / "c.pt", state, modules=modules, best_weights=best, random=random)
    other = torch.nn.Linear(2, 1)
    other_optimizer = torch.optim.AdamW(other.parameters())
    found, found_best, found_random = load_checkpoint(
        tmp_path / "c.pt",
        modules={"module": other, "optimizer": other_optimizer},
        device=torch.device("cpu"),
    )
    assert found == state
    assert torch.equal(found_best["weight"], best["weight"])
    assert torch.equal(found_random["cpu"], random["cpu"])
    assert torch.equal(other.weight, module.weight)
    assert json.dumps(other_optimizer.state_dict()["param_groups"]) == json.dumps(
        optimizer.state_dict()["param_groups"]
    )


def test_seeding_leaves_the_generators_of_others_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with deterministic(0, torch.device("cpu")):
        first = torch.rand(2)
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(0, torch.device("cpu")):
        assert torch.equal(torch.rand(2), first)


def test_an_unknown_device_is_an_error():
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
    with pytest.raises(ConfigError, match="device 'tpu' is not available here; use auto"):
        pick_device("tpu")
