"""Files and folders that appear complete or not at all, and removal of what a kill left.

What is not complete has a hidden name beside its target, ``.NAME.HEX.partial``. Its process holds a
lock on it, which ends with the process. A partial file without a lock was left by a process that
was killed; the next writer of the same target removes it.
"""

import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from cascaderank.errors import CascadeRankError, RunError

try:
    import fcntl
except ImportError:  # Windows has no fcntl: files of killed processes stay
    fcntl = None  # type: ignore[assignment]
_HAS_LOCKS = fcntl is not None

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@contextmanager
def writing(
    path: str | os.PathLike[str], kind: type[CascadeRankError] = RunError
) -> Iterator[None]:
    """Raise an :class:`OSError` of the block, such as a full disk, as an error that names a file.

    Args:
        path: file or folder that the block writes.
        kind: class of the error.

    Raises:
        CascadeRankError: of this class, with the path, the reason, and what to do.

    Examples:
        >>> with writing("scores.txt"):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
            ...
        cascaderank.errors.RunError: scores.txt: cannot be written: No space left on device; free \
space or choose another place, and repeat the command
    """
    try:
        yield
    except OSError as error:
        reason, remedy = error.strerror or str(error), "choose another place"
        if error.errno in _FULL or "No space left" in reason:  # polars sets no errno
            remedy = "free space or choose another place, and repeat the command"
        raise kind(f"{path}: cannot be written: {reason}; {remedy}") from None


@contextmanager
def parents_of(path: str | os.PathLike[str]) -> Iterator[None]:
    """Create the parent folders of a path, and remove those that are still empty at exit.

    Args:
        path: file or folder to write.

    Raises:
        OSError: if a folder cannot be created.
    """
    path = Path(path)
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with suppress(OSError):
            for parent in missing:
                parent.rmdir()


@contextmanager
def partial_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Create a hidden file beside a target, and rename it to the target at exit.

    After an error or an interrupt, the hidden file is removed and the target is unchanged. The
    permissions are those of any new file of the user: the umask applies.

    Args:
        path: file to write; a file of that name is replaced. Its folder must exist.

    Raises:
        OSError: if the file cannot be written.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with partial_file(Path(folder) / "scores.txt") as hidden:
        ...         _ = hidden.write_text("complete")
        ...     (Path(folder) / "scores.txt").read_text()
        'complete'
    """
    path = Path(path)
    with _partial(path, lambda hidden: hidden.open("xb").close(), Path.unlink) as hidden:
        yield hidden
        with hidden.open("rb+") as file:
            os.fsync(file.fileno())
        hidden.replace(path)


@contextmanager
def partial_folder(path: str | os.PathLike[str], mode: int = 0o777) -> Iterator[Path]:
    """Create a hidden folder beside a target, and remove it at exit if it is still there.

    Args:
        path: folder to write; :func:`move_folder` moves the hidden one there. Its parent must
            exist.
        mode: permissions of the folder; the umask applies.

    Raises:
        OSError: if the folder cannot be created.
    """
    create = partial(Path.mkdir, mode=mode)
    with _partial(Path(path), create, partial(shutil.rmtree, ignore_errors=True)) as hidden:
        yield hidden


@contextmanager
def _partial(
    path: Path, create: Callable[[Path], None], remove: Callable[[Path], None]
) -> Iterator[Path]:
    remove_partials(path)
    hidden, handle = _hidden(path), None
    try:
        while handle is None:
            hidden = _hidden(path)
            create(hidden)
            handle = _locked(hidden)
        yield hidden
    finally:
        with suppress(OSError):
            remove(hidden)
        if handle is not None:
            os.close(handle)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _locked(hidden: Path) -> int | None:
    """Lock a new file or folder, and return its handle; ``None`` if another process removed it."""
    if not _HAS_LOCKS:
        return os.open(os.devnull, os.O_RDONLY)
    try:
        handle = os.open(hidden, _FLAGS)
    except FileNotFoundError:
        return None
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.samestat(os.fstat(handle), hidden.lstat()):
            return handle
    except FileNotFoundError:
        pass
    os.close(handle)
    return None


def is_partial(name: str, target: str | None = None) -> bool:
    """Return whether a name is that of a partial file or folder.

    Args:
        name: name to check, without its folder.
        target: name of the file or folder that it is written for; default: any.

    Examples:
        >>> is_partial(".scores.txt.01234567.partial"), is_partial(".scores.txt.partial")
        (True, False)
    """
    of = r".+" if target is None else re.escape(target)
    return re.fullmatch(rf"\.{of}\.[0-9a-f]+\.partial", name) is not None


def remove_partials(path: str | os.PathLike[str]) -> None:
    """Remove the partial files and folders of a target that killed processes left.

    Args:
        path: file or folder that they were written for.
    """
    path = Path(path)
    _remove_abandoned(path.parent, path.name)


def remove_all_partials(folder: str | os.PathLike[str]) -> None:
    """Remove all partial files and folders that killed processes left in a folder.

    Args:
        folder: folder of this program, such as that of a run.
    """
    _remove_abandoned(Path(folder))


def _remove_abandoned(folder: Path, name: str | None = None) -> None:
    with suppress(OSError):
        for found in [p for p in folder.iterdir() if is_partial(p.name, name)]:
            remove_abandoned(found)


def remove_abandoned(path: str | os.PathLike[str]) -> None:
    """Remove a file or folder of this user, unless a process holds a lock on it."""
    if not _HAS_LOCKS:
        return
    path = Path(path)
    with suppress(OSError):
        handle = os.open(path, _FLAGS)
        try:
            found = os.fstat(handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if found.st_uid != os.geteuid():
                return
            if stat.S_ISDIR(found.st_mode):
                shutil.rmtree(path, ignore_errors=True)
            elif stat.S_ISREG(found.st_mode):
                path.unlink(missing_ok=True)
        finally:
            os.close(handle)


def lock_folder(folder: str | os.PathLike[str]) -> int | None:
    """Lock a folder for this process; the lock ends with the process, or when it is closed.

    Args:
        folder: folder that exists.

    Returns:
        Handle to close; ``None`` where the system has no locks.

    Raises:
        BlockingIOError: if another process has locked it.
    """
    if not _HAS_LOCKS:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:  # a file system without locks
        pass
    return handle


def move_folder(folder: str | os.PathLike[str], to: str | os.PathLike[str]) -> None:
    """Rename a complete folder to its final path, and remove what was there.

    Where the system can exchange two folders in one step, a kill never leaves ``to`` empty. Where
    it cannot, a kill between two renames leaves the former folder at ``.NAME.HEX.old``, and
    :func:`restore_folder` renames it back.

    Args:
        folder: complete folder, in the same parent as ``to``.
        to: final path.

    Raises:
        OSError: if it cannot be renamed; files in ``to`` are unchanged.
    """
    folder, to = Path(folder), Path(to)
    if not to.exists() or not any(to.iterdir()):
        with suppress(FileNotFoundError):
            to.rmdir()  # Windows does not rename onto an empty folder
        folder.rename(to)
        return
    if exchange(folder, to):
        former = folder
    else:
        former = to.with_name(f".{to.name}.{secrets.token_hex(4)}.old")
        try:
            to.rename(former)
            folder.rename(to)
        except BaseException:
            if not to.exists() and former.exists():
                former.rename(to)
            raise
    try:
        shutil.rmtree(former, ignore_errors=True)
    except BaseException:  # an interrupt
        shutil.rmtree(former, ignore_errors=True)
        raise


def former_folders(path: str | os.PathLike[str]) -> list[Path]:
    """Return the folders that :func:`move_folder` has renamed and not removed."""
    path = Path(path)
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.old")
    with suppress(OSError):
        return sorted(p for p in path.parent.iterdir() if name.fullmatch(p.name) and p.is_dir())
    return []


def exchange(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> bool:
    """Exchange two files or folders in one step.

    Returns:
        Whether the system could; otherwise, nothing is changed.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2  # Linux, glibc 2.28 and later
    except (AttributeError, OSError, TypeError):
        return False
    paths = os.fsencode(first), os.fsencode(second)
    return bool(renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0)
