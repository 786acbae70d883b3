"""Mutations of the place of a file: what stands there instead, and which files are exchanged."""

import os
import shutil
from pathlib import Path
from random import Random


def becomes_a_folder(random: Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def becomes_a_full_folder(random: Random, path: Path) -> None:
    content = path.read_bytes()
    becomes_a_folder(random, path)
    (path / path.name).write_bytes(content)


def becomes_a_fifo(random: Random, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def becomes_a_link_to(random: Random, path: Path) -> None:
    path.unlink()
    path.symlink_to(random.choice(["/dev/zero", "/dev/null", "nowhere", path.name, "."]))


def is_missing(random: Random, path: Path) -> None:
    path.unlink()


def is_renamed(random: Random, path: Path) -> None:
    path.rename(
        path.with_name(random.choice([f"{path.name}.bak", f"x-{path.name}", f".{path.name}"]))
    )


def is_doubled(random: Random, path: Path) -> None:
    shutil.copyfile(path, path.with_name(f"{path.stem}-copy{path.suffix}"))


def is_exchanged(random: Random, path: Path) -> None:
    """Exchange the file with one beside it, or in its neighbouring folder."""
    others = sorted(
        p for p in path.parent.parent.rglob("*") if p.is_file() and p.suffix == path.suffix
    )
    other = random.choice(others)
    content, of_other = path.read_bytes(), other.read_bytes()
    path.write_bytes(of_other)
    other.write_bytes(content)


PLACES = (
    becomes_a_folder, becomes_a_full_folder, becomes_a_fifo, becomes_a_link_to, becomes_a_link_to,
    is_missing, is_renamed, is_doubled, is_exchanged,
)  # fmt: skip
