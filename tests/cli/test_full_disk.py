"""A full disk is reported in one line, harms nothing, and the repeated command ends as ever."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest
from tests.cli.writing_commands import COMMANDS, Example, contents

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a tmpfs"
)

KIB = 1024
QUICK = [4, 16]
"""Sizes of the disk in KiB: the first write fails, and one in the middle."""
SIZES = sorted({4 * int(1.25**i) for i in range(1, 28)})
"""Up to about 1.6 MB, so that each step of writing fails once."""


@contextlib.contextmanager
def small_disk(folder):
    """Mount a disk in a folder, and yield a function that sets its size in KiB."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted: {mounted.stderr.decode().strip()}")

    def resize(size):
        subprocess.run(["mount", "-o", f"remount,size={size}k", folder], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def failed(command, code, where):
    """Check that a command ended well, or with one line about the full disk."""
    output = command.output()
    if code == 0:
        return False
    last = output.splitlines()[-1]
    assert code == 2, f"{where}\n{output}"
    assert "Traceback" not in output, f"{where}\n{output}"
    assert "No space left on device" in last, f"{where}\n{output}"
    assert last.startswith("cascaderank "), f"{where}\n{output}"
    assert "free space or choose another place, and repeat the command" in last, where
    return True


def check_full(example, commands, folder, sizes):
    """Run a command on a disk of each size, then with enough space; return how many failed."""
    count = 0
    for size in sizes:
        place = folder / str(size)
        with small_disk(place) as resize:
            resize(KIB * KIB)
            target = place / "x"
            example.begin(target)
            used = sum(p.stat().st_blocks for p in place.rglob("*")) // 2
            resize(max(4, used + size))
            command = example.start(target)
            full = failed(command, command.wait(), f"{example.name}, {size} KiB")
            count += full
            if full:
                example.check_former(target)
                assert not [p for p in target.rglob("*") if p.suffix in (".partial", ".old")]
                resize(KIB * KIB)
                again = example.start(target)
                assert again.wait() == 0, again.output()
            assert contents(target) == example.expected, f"{example.name}, {size} KiB"
    return count


@pytest.mark.parametrize("example", ["prepare-overwrite", "train"], indirect=True)
def test_a_command_on_a_full_disk_can_be_repeated(example, commands, tmp_path):
    assert check_full(example, commands, tmp_path, QUICK) == len(QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("example", [*COMMANDS, "compare-jobs"], indirect=True)
def test_each_step_of_writing_fails_once(example, commands, tmp_path):
    sizes = SIZES if example.name != "compare-jobs" else SIZES[::4]
    count = check_full(example, commands, tmp_path, sizes)
    print(f"{example.name}: {count} of {len(sizes)} sizes are too small")
    assert count > len(sizes) / 4


@pytest.fixture(scope="module")
def trained(commands, inputs, tmp_path_factory):
    """Folder of a complete run."""
    return Example("train", inputs, commands, tmp_path_factory.mktemp("run")).whole / "run"


def words_of(name, trained, funnel, to):
    if name == "evaluate":
        return ["evaluate", trained, funnel]
    if name == "score-vectors":
        return ["score", trained, funnel, "--vectors", to / "v", "--stage", "retrieval"]
    return ["score", trained, funnel, "--to", to / name.partition("-")[2]]


READERS = ["evaluate", "score-s.parquet", "score-s.jsonl", "score-s.run", "score-vectors"]


@pytest.mark.parametrize(
    "name",
    [
        "evaluate",
        "score-s.parquet",
        *(pytest.param(n, marks=pytest.mark.slow) for n in READERS[2:]),
    ],
)
def test_a_full_tmpdir_is_an_error(trained, funnel, commands, tmp_path, name):
    (tmp_path / "to").mkdir()
    for size in (4, 32, 128):
        with small_disk(tmp_path / str(size)) as resize:
            resize(size)
            (tmp_path / str(size) / "ballast").write_bytes(b"x" * (size - 4) * KIB * (size > 4))
            words = words_of(name, trained, funnel, tmp_path / "to")
            command = commands.start(*words, tmp=tmp_path / str(size))
            assert failed(command, command.wait(), name)
            assert not list((tmp_path / "to").iterdir())
            left = {p.name for p in (tmp_path / str(size)).iterdir()}
            assert left <= {"ballast", "torchinductor_root"}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS[1:])
def test_a_file_of_scores_on_a_full_disk_is_an_error(trained, funnel, commands, tmp_path, name):
    (tmp_path / "whole").mkdir()
    commands.run(*words_of(name, trained, funnel, tmp_path / "whole"))
    count = 0
    for size in SIZES:
        with small_disk(tmp_path / str(size)) as resize:
            resize(size)
            words = words_of(name, trained, funnel, tmp_path / str(size))
            command = commands.start(*words)
            if failed(command, command.wait(), f"{name}, {size} KiB"):
                count += 1
                assert not list((tmp_path / str(size)).iterdir())
                resize(KIB * KIB)
                commands.run(*words)
            assert contents(tmp_path / str(size)) == contents(tmp_path / "whole")
    assert count > 1


@pytest.mark.slow
def test_a_full_tmpdir_of_a_simulation_is_an_error(inputs, commands, tmp_path):
    example = Example("simulate", inputs, commands, tmp_path / "of")
    for size in SIZES[::3]:
        target = tmp_path / f"x{size}"
        with small_disk(tmp_path / str(size)) as resize:
            resize(size)
            target.mkdir()
            command = commands.start(*example.words(target), tmp=tmp_path / str(size))
            if failed(command, command.wait(), f"TMPDIR of {size} KiB"):
                example.start(target).wait()
            assert contents(target) == example.expected
        shutil.rmtree(target)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["init", "profile"])
def test_a_small_file_on_a_full_disk_is_an_error(trained, funnel, commands, tmp_path, name):
    with small_disk(tmp_path / "disk") as resize:
        resize(4)
        (tmp_path / "disk" / "ballast").write_bytes(b"x" * 4 * KIB)
        to = tmp_path / "disk" / "file"
        words = {
            "init": ["init", funnel, "--to", to],
            "profile": ["profile", trained, "--seconds", 0.001, "--lists", 5, "--plot", to],
        }
        command = commands.start(*words[name])
        assert failed(command, command.wait(), name)
        assert [p.name for p in (tmp_path / "disk").iterdir()] == ["ballast"]
