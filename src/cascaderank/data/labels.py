"""Training targets: pure functions of the logged columns of the candidates.

The parameters of a target function are the names of the columns that it needs, and, by keyword
only, ``levels``: the number of levels of the log. Columns are flat (the candidates of all requests,
concatenated). The result has dtype float32 and the same length;
higher is better.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field, Tag, model_validator

from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.settings.base import Real, Settings

Numbers = NDArray[Any]
Labels = NDArray[np.float32]

_POSITIONS = 32768  # one more than the largest position that the format can store


def funnel_target(level: Numbers, position: Numbers) -> Labels:
    r"""Return targets in the order of the whole funnel: by level, then by position in the level.

    .. math::
        y = 32768\,\ell + 32768 - p, \qquad p = 32768 \text{ where the position is unknown}

    Only the order of the targets is meaningful. Candidates of one level with unknown positions are
    tied, after all candidates of the level with known positions.

    Args:
        level: ``[n]`` funnel levels, 0 lowest.
        position: ``[n]`` positions inside the level, 1 best, 0 unknown.

    Returns:
        ``[n]`` whole numbers in [0, 2^23), which float32 represents exactly.

    Examples:
        >>> funnel_target(np.array([1, 1, 0]), np.array([1, 0, 1])).tolist()
        [65535.0, 32768.0, 32767.0]

    Source: this project; the order is that of LCRON's labels.
    """
    level, position = level.astype(np.int64), position.astype(np.int64)
    known = np.where(position == 0, _POSITIONS, position)
    return (level * _POSITIONS + _POSITIONS - known).astype(np.float32)


def level_target(level: Numbers) -> Labels:
    """Return the funnel level of each candidate; candidates of one level are tied.

    Args:
        level: ``[n]`` funnel levels, 0 lowest.

    Returns:
        ``[n]`` levels, at least 0.

    Examples:
        >>> level_target(np.array([2, 0], dtype=np.int8)).tolist()
        [2.0, 0.0]

    Source: this project.
    """
    return level.astype(np.float32)


def label_target(label: Numbers) -> Labels:
    """Return the explicit relevance label, such as the grade of a human assessor.

    Args:
        label: ``[n]`` labels.

    Returns:
        ``[n]`` labels.

    Examples:
        >>> label_target(np.array([3, 1])).tolist()
        [3.0, 1.0]

    Source: this project.
    """
    return label.astype(np.float32)


def feedback_target(feedback: Numbers) -> Labels:
    """Return the user feedback on each candidate, such as 1 for a click.

    Args:
        feedback: ``[n]`` feedback values, 0 without feedback.

    Returns:
        ``[n]`` feedback values.

    Examples:
        >>> feedback_target(np.array([0, 1])).tolist()
        [0.0, 1.0]

    Source: this project.
    """
    return feedback.astype(np.float32)


_BELOW_TOP = {4: (5, 6, 7), 5: (5, 6, 7, 7)}
"""By number of levels: released labels of the levels below the highest, lowest level first."""


def released_target(level: Numbers, position: Numbers, *, levels: int) -> Labels:
    r"""Return the labels of the released code of LCRON, for the views of RecFlow.

    .. math::
        y = 30 - p \text{ in the highest level}, \qquad y = 7, 7, 6, 5 \text{ in those below}

    The levels below are ``rerank_neg`` (with three stages), ``rank_neg``, ``coarse_neg`` and
    ``prerank_neg``. Labels of the highest level are meant for positions up to 22: further ones are
    not above those of the other levels, as in the released code, and are at least 0. Candidates of
    the highest level whose position is unknown have label 8, above all other levels.

    Args:
        level: ``[n]`` funnel levels, 0 lowest.
        position: ``[n]`` positions inside the level, 1 best, 0 unknown.
        levels: number of levels of the log, 4 or 5.

    Returns:
        ``[n]`` whole numbers from 0 to 29.

    Raises:
        ConfigError: if ``levels`` is another number, or a candidate has a level above them.

    Examples:
        >>> level, position = np.array([4, 4, 3, 2, 1, 0]), np.array([1, 10, 1, 1, 0, 0])
        >>> released_target(level, position, levels=5).tolist()
        [29.0, 20.0, 7.0, 7.0, 6.0, 5.0]

    Source: the released code of LCRON (arXiv 2503.09492).
    """
    if levels not in _BELOW_TOP:
        raise ConfigError(
            f"target 'released' is defined for the 4 or 5 levels of RecFlow; got {levels} levels; "
            "use target 'funnel', or a table with z"
        )
    if len(level) and level.max() >= levels:
        raise ConfigError(
            f"target 'released' of a log of {levels} levels is defined for levels from 0 to "
            f"{levels - 1}; the data set has a candidate of level {level.max()}"
        )
    shown = np.where(position == 0, 8, 30 - position.astype(np.int64)).clip(min=0)
    below = np.array([*_BELOW_TOP[levels], 0])[level]
    return np.where(level == levels - 1, shown, below).astype(np.float32)


TARGETS: dict[str, Callable[..., Labels]] = {
    "funnel": funnel_target,
    "level": level_target,
    "label": label_target,
    "feedback": feedback_target,
    "released": released_target,
}
"""Target functions by name."""


class Relabelling(Settings):
    r"""Target that maps each funnel level to a chosen value, as in FS-LTR.

    .. math::
        y_j = z_{\ell_j}, \qquad 0 \le z_0 \le z_1 \le \dots

    With ``by="level"``, ``z`` has one value per level of the log. With ``by="feedback"``, it has
    one value more: the second-to-last is for the top level without feedback, and the last for the
    top level with feedback above 0.

    Examples:
        >>> Relabelling(z=(0, 1, 4)).labels({"level": np.array([2, 0, 1])}).tolist()
        [4.0, 0.0, 1.0]
        >>> columns = {"level": np.array([1, 1, 0]), "feedback": np.array([0.0, 1.0, 0.0])}
        >>> Relabelling(by="feedback", z=(0, 1, 4)).labels(columns).tolist()
        [1.0, 4.0, 0.0]

    Source: FS-LTR, equation 9.
    """

    by: Literal["level", "feedback"] = "level"
    z: tuple[Real, ...] = Field(min_length=1, max_length=1_000)
    """Values per level, lowest level first; finite, at least 0 and non-decreasing."""

    @model_validator(mode="after")
    def _is_non_decreasing(self) -> Self:
        if min(self.z) < 0 or any(a > b for a, b in pairwise(self.z)):
            raise ValueError(f"z must be non-decreasing numbers of at least 0; got {[*self.z]}")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the labels are computed from."""
        return ("level", "feedback") if self.by == "feedback" else ("level",)

    @property
    def levels(self) -> int:
        """Number of levels that ``z`` has values for."""
        return len(self.z) - (self.by == "feedback")

    def check_levels(self, levels: int, *, where: str) -> None:
        """Check that ``z`` has one value per level of a log.

        Args:
            levels: number of levels of the log.
            where: name of the log in the message.

        Raises:
            ConfigError: if ``z`` has another number of values.
        """
        if levels != self.levels:
            more = ", and one for feedback" if self.by == "feedback" else ""
            raise ConfigError(
                f"{where} has {levels} levels, so z of the target must have {levels} values{more}; "
                f"got {[*self.z]}"
            )

    def labels(self, columns: Mapping[str, Numbers]) -> Labels:
        """Return the labels of all candidates.

        Args:
            columns: the columns of :attr:`columns` by name, ``[n]`` each.

        Returns:
            ``[n]`` labels, at least 0.

        Raises:
            ConfigError: if a candidate has a level without a value in ``z``.
        """
        level = columns["level"].astype(np.int64)
        if len(level) and level.max() >= self.levels:
            self.check_levels(int(level.max()) + 1, where="the data set")
        if self.by == "feedback":
            level = level + ((level == self.levels - 1) & (columns["feedback"] > 0))
        return np.array(self.z, dtype=np.float32)[level]


Target = str | Relabelling
"""Definition of the labels: a name in :data:`TARGETS`, or a relabelling."""

TargetSettings = Annotated[
    Annotated[str, Tag("name")] | Annotated[Relabelling, Tag("table")],
    Discriminator(lambda target: "name" if isinstance(target, str) else "table"),
]
"""A :data:`Target` as a settings field."""


def default_target(columns: Collection[str], suggested: object = None) -> str:
    """Return the target of a log for which a config names none.

    This is the suggestion of the source of the log or, without one, the first of ``funnel``,
    ``level``, ``label`` and ``feedback`` that can be computed. It is ``funnel`` if none can be
    computed.

    Args:
        columns: names of the columns of the log.
        suggested: target that the source suggests; ignored if it cannot be computed.

    Examples:
        >>> default_target(["label"]), default_target(["level", "position", "label"])
        ('label', 'funnel')
        >>> default_target(["level", "position", "label"], suggested="label")
        'label'
    """
    names = [*(name for name in TARGETS if name == suggested), *TARGETS]
    return next((n for n in names if all(c in columns for c in _parameters(n))), "funnel")


def needs(
    target: Target, columns: Collection[str], *, where: str = "the data set"
) -> tuple[str, ...]:
    """Return the columns that a target is computed from, and check that they exist.

    Args:
        target: a name in :data:`TARGETS`, or a relabelling.
        columns: names of the available columns.
        where: name of the data set in the message.

    Raises:
        ConfigError: if the target does not exist.
        DataError: if a column is missing; the message lists the targets that can be computed.

    Examples:
        >>> needs("funnel", ["price", "level", "position"])
        ('level', 'position')
    """
    if isinstance(target, str) and target not in TARGETS:
        raise ConfigError(
            f"no target called '{target}'{did_you_mean(target, TARGETS)}; "
            f"there are {', '.join(TARGETS)}"
        )
    parameters = _parameters(target)
    missing = [c for c in parameters if c not in columns]
    if missing:
        usable = [t for t in TARGETS if all(c in columns for c in _parameters(t))]
        raise DataError(
            f"{where} has no column {' and no column '.join(repr(c) for c in missing)}, which "
            f"{_description(target)} needs; {_usable(usable)}"
        )
    return parameters


def labels_of(
    target: Target, columns: Mapping[str, Numbers], *, levels: int | None = None
) -> Labels:
    """Return the labels of all candidates.

    Args:
        target: a name in :data:`TARGETS`, or a relabelling.
        columns: columns by name, ``[n]`` each.
        levels: number of levels of the log; only ``released`` requires it.

    Returns:
        ``[n]`` float32 labels, higher is better.

    Raises:
        ConfigError: if the target does not exist, a relabelling has no value for a level, or the
            target is not defined for the number of levels.
        DataError: if a column of the target is missing.

    Examples:
        >>> labels_of("level", {"level": np.array([1, 0])}).tolist()
        [1.0, 0.0]
    """
    parameters = needs(target, columns)
    if isinstance(target, Relabelling):
        return target.labels(columns)
    function = TARGETS[target]
    takes_levels = "levels" in inspect.signature(function).parameters
    by_keyword = {"levels": levels or 0} if takes_levels else {}
    return function(*(columns[c] for c in parameters), **by_keyword)


def _description(target: Target) -> str:
    return f"target '{target}'" if isinstance(target, str) else f"a target by {target.by}"


def _parameters(target: Target) -> tuple[str, ...]:
    if isinstance(target, Relabelling):
        return target.columns
    parameters = inspect.signature(TARGETS[target]).parameters.values()
    return tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)


def _usable(targets: list[str]) -> str:
    if not targets:
        return "no target can be computed without one of the columns level, label and feedback"
    return f"targets that can be computed: {', '.join(targets)}"
