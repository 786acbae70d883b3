"""Limits of numbers and of memory: requested sizes are compared with them before any work."""

import math
import os
import sys
from pathlib import Path

from cascaderank.errors import ConfigError

LARGEST = 2**31 - 1
"""Largest count that an option or a setting accepts, such as a number of requests or candidates."""

LARGEST_FLOAT32 = float(2**128 - 2**104)
"""Largest finite number of float32, the type of labels, scores and weights."""

MOST_SEEDS = 10_000
"""Largest number of runs of one method with different seeds."""

MOST_JOBS = 1_024
"""Largest number of processes that train at the same time."""

_GROUPS, _OF_PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_GIB = 2**30


def check_not_negative(value: float, name: str) -> None:
    """Check that an option is a finite number of at least 0.

    Raises:
        ConfigError: if it is not.

    Examples:
        >>> check_not_negative(-1.0, "pointwise")
        Traceback (most recent call last):
        cascaderank.errors.ConfigError: pointwise must be a finite number of at least 0; got -1.0
    """
    if not 0 <= value < math.inf:
        raise ConfigError(f"{name} must be a finite number of at least 0; got {value}")


def check_fits(needed: float, what: str, remedy: str) -> None:
    """Check, before it is allocated, that something fits into the memory of the machine.

    Args:
        needed: a lower bound of the bytes that will be needed.
        what: what needs them, for the message.
        remedy: the numbers to reduce, for the message.

    Raises:
        ConfigError: if the machine has less memory in all; the message states both sizes.

    Examples:
        >>> check_fits(2**70, "a table of 2^68 rows", "reduce the number of rows")
        Traceback (most recent call last):
        cascaderank.errors.ConfigError: a table of 2^68 rows needs about 1,100,000,000,000 GiB of \
memory, ...
    """
    present = machine_memory()
    if present is not None and needed > present:
        raise ConfigError(
            f"{what} needs about {_rounded(needed / _GIB)} GiB of memory, and the machine has "
            f"{_rounded(present / _GIB)} GiB; {remedy}"
        )


def machine_memory() -> int | None:
    """Return the memory that this process may use, in bytes; ``None`` if it cannot be determined.

    The memory of the machine, or less if a control group (as of a container) or a resource limit
    (``ulimit -v``) allows less. Memory that other processes use counts as free.

    Examples:
        >>> machine_memory() > 2**28
        True
    """
    limits = [_physical(), _of_groups(), _address_space()]
    return min((limit for limit in limits if limit is not None), default=None)


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _of_groups() -> int | None:
    """Return the lowest limit of the control groups of this process, version 1 or 2."""
    try:
        lines = _OF_PROCESS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _GROUPS / "memory" if controllers else _GROUPS
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        group = root / path.lstrip("/")
        while group.is_relative_to(root):
            limits += _number_in(group / name)
            group = group.parent
    return min(limits, default=None)


def _number_in(file: Path) -> list[int]:
    try:
        return [int(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError):  # no such group here, or "max"
        return []


def _address_space() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def _rounded(number: float) -> str:
    """Return a number with two significant digits."""
    digits = 1 - math.floor(math.log10(number))
    return f"{round(number, digits):,.{max(digits, 0)}f}"
