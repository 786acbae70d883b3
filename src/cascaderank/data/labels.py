"""Training targets: each a pure function of what the log says about a candidate.

A function names the columns it needs by its parameters, takes them flat (all candidates one after
another), and returns float32 of the same length, higher is better.
"""

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from cascaderank.errors import ConfigError, DataError, did_you_mean

Numbers = NDArray[Any]
Labels = NDArray[np.float32]

_POSITIONS = 32768  # one more than the worst position that the format can hold


def funnel_target(level: Numbers, position: Numbers) -> Labels:
    r"""Order of the whole funnel: higher level first, then better position inside the level.

    .. math::
        y = 32768\,\ell + 32768 - p, \qquad p = 32768 \text{ where the position is unknown}

    Only the order means something. Candidates of one level whose position is unknown tie, after all
    those of a known one.

    Args:
        level: ``[n]``, 0 lowest.
        position: ``[n]``, 1 best, 0 unknown.

    Returns:
        ``[n]`` whole numbers, at least 0 and below 2^23, so that float32 holds them exactly.

    Examples:
        >>> funnel_target(np.array([1, 1, 0]), np.array([1, 0, 1])).tolist()
        [65535.0, 32768.0, 32767.0]

    Source: this project; the order is that of LCRON's labels.
    """
    level, position = level.astype(np.int64), position.astype(np.int64)
    known = np.where(position == 0, _POSITIONS, position)
    return (level * _POSITIONS + _POSITIONS - known).astype(np.float32)


def level_target(level: Numbers) -> Labels:
    """How far the candidate got; all of a level tie.

    Args:
        level: ``[n]``, 0 lowest.

    Returns:
        ``[n]``, at least 0.

    Examples:
        >>> level_target(np.array([2, 0], dtype=np.int8)).tolist()
        [2.0, 0.0]

    Source: this project.
    """
    return level.astype(np.float32)


def label_target(label: Numbers) -> Labels:
    """Return the explicit relevance, such as a grade that a person gave.

    Args:
        label: ``[n]``.

    Returns:
        ``[n]``.

    Examples:
        >>> label_target(np.array([3, 1])).tolist()
        [3.0, 1.0]

    Source: this project.
    """
    return label.astype(np.float32)


def feedback_target(feedback: Numbers) -> Labels:
    """Return what the user did with the candidate, such as 1 for a click.

    Args:
        feedback: ``[n]``; 0 where there was none.

    Returns:
        ``[n]``.

    Examples:
        >>> feedback_target(np.array([0, 1])).tolist()
        [0.0, 1.0]

    Source: this project.
    """
    return feedback.astype(np.float32)


TARGETS: dict[str, Callable[..., Labels]] = {
    "funnel": funnel_target,
    "level": level_target,
    "label": label_target,
    "feedback": feedback_target,
}
"""Targets by name."""


class Relabelling(BaseModel):
    r"""A target that gives each level a number of its choice: FS-LTR's.

    .. math::
        y_j = z_{\ell_j}, \qquad 0 \le z_0 \le z_1 \le \dots

    By ``"level"`` there is one number for each level of the log. By ``"feedback"`` there is one
    more: the last but one is for the top level without feedback, the last for the top level with
    feedback above 0.

    Examples:
        >>> Relabelling(z=(0, 1, 4)).labels({"level": np.array([2, 0, 1])}).tolist()
        [4.0, 0.0, 1.0]
        >>> seen = {"level": np.array([1, 1, 0]), "feedback": np.array([0.0, 1.0, 0.0])}
        >>> Relabelling(by="feedback", z=(0, 1, 4)).labels(seen).tolist()
        [1.0, 4.0, 0.0]

    Source: FS-LTR, equation 9.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["level", "feedback"] = "level"
    z: tuple[float, ...] = Field(min_length=1)
    """Of the lowest level first; never falls."""

    @model_validator(mode="after")
    def _never_falls(self) -> Self:
        finite = all(map(math.isfinite, self.z))
        if not finite or min(self.z) < 0 or any(a > b for a, b in pairwise(self.z)):
            raise ValueError(f"z must be numbers of at least 0 that never fall; got {[*self.z]}")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """What the labels are made of."""
        return ("level", "feedback") if self.by == "feedback" else ("level",)

    @property
    def levels(self) -> int:
        """Of so many levels there are numbers."""
        return len(self.z) - (self.by == "feedback")

    def check_levels(self, levels: int, *, where: str) -> None:
        """Check that there is a number for each of the levels of a log.

        Raises:
            ConfigError: if not.
        """
        if levels != self.levels:
            more = ", and one for feedback" if self.by == "feedback" else ""
            raise ConfigError(
                f"{where} has {levels} levels, so z of the target must be {levels} numbers{more}; "
                f"got {[*self.z]}"
            )

    def labels(self, columns: Mapping[str, Numbers]) -> Labels:
        """Return the labels of all candidates, ``[n]``.

        Raises:
            ConfigError: if a candidate has a level that there is no number for.
        """
        level = columns["level"].astype(np.int64)
        if len(level) and level.max() >= self.levels:
            self.check_levels(int(level.max()) + 1, where="the data set")
        if self.by == "feedback":
            level = level + ((level == self.levels - 1) & (columns["feedback"] > 0))
        return np.array(self.z, dtype=np.float32)[level]


Target = str | Relabelling
"""What labels are made of: a name in :data:`TARGETS`, or a relabelling."""

TargetSettings = Annotated[
    Annotated[str, Tag("name")] | Annotated[Relabelling, Tag("table")],
    Discriminator(lambda target: "name" if isinstance(target, str) else "table"),
]
"""The same, as it is read from settings."""


def needs(
    target: Target, columns: Collection[str], *, where: str = "the data set"
) -> tuple[str, ...]:
    """Return the columns that a target is made of, having checked that they are there.

    Args:
        target: one of :data:`TARGETS`, or a relabelling.
        columns: those that there are.
        where: what has them, for the message.

    Raises:
        ConfigError: if there is no such target.
        DataError: if a column is missing; the targets that could be used are named.

    Examples:
        >>> needs("funnel", ["price", "level", "position"])
        ('level', 'position')
    """
    if isinstance(target, str) and target not in TARGETS:
        raise ConfigError(
            f"no target called '{target}'{did_you_mean(target, TARGETS)}; "
            f"there are {', '.join(TARGETS)}"
        )
    wanted = _parameters(target)
    missing = [c for c in wanted if c not in columns]
    if missing:
        usable = [t for t in TARGETS if all(c in columns for c in _parameters(t))]
        raise DataError(
            f"{where} has no column {' and no column '.join(repr(c) for c in missing)}, which "
            f"{_called(target)} is made of; {_usable(usable)}"
        )
    return wanted


def labels_of(target: Target, columns: Mapping[str, Numbers]) -> Labels:
    """Return the labels of all candidates.

    Args:
        target: one of :data:`TARGETS`, or a relabelling.
        columns: by name, each ``[n]``.

    Returns:
        ``[n]`` float32, higher is better.

    Raises:
        ConfigError: if there is no such target, or none for a level.
        DataError: if a column that it is made of is missing.

    Examples:
        >>> labels_of("level", {"level": np.array([1, 0])}).tolist()
        [1.0, 0.0]
    """
    wanted = needs(target, columns)
    if isinstance(target, Relabelling):
        return target.labels(columns)
    return TARGETS[target](*(columns[c] for c in wanted))


def _called(target: Target) -> str:
    return f"target '{target}'" if isinstance(target, str) else f"a target by {target.by}"


def _parameters(target: Target) -> tuple[str, ...]:
    if isinstance(target, Relabelling):
        return target.columns
    return tuple(inspect.signature(TARGETS[target]).parameters)


def _usable(targets: list[str]) -> str:
    if not targets:
        return "no target can be used: it has none of the columns level, label, feedback"
    return f"targets that could be used: {', '.join(targets)}"
