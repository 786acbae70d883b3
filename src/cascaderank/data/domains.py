"""Domains: how far a candidate got in the whole chain, from matched to clicked."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict
from torch import Tensor

from cascaderank.data.columns import EncodedLog
from cascaderank.data.hashing import seeded
from cascaderank.errors import ConfigError, DataError

DOMAINS = ("click", "unclicked", "unexposed", "dropped")
"""Names of the domains by number: clicked; exposed and not clicked; not exposed; and, where they
are told apart, those that not even pre-ranking let pass."""

_CHANCES = 2**24  # what a sampling rate is told apart by
_ROWS = 2**22  # candidates that are counted in one go


def domains_of(
    levels: Tensor,
    feedback: Tensor | None,
    *,
    exposed_level: int,
    preranked_level: int | None = None,
) -> Tensor:
    """Return the domain of each candidate, as a number into :data:`DOMAINS`.

    Feedback on a candidate that was not exposed counts for nothing.

    Args:
        levels: integers, 0 lowest: how far the logged system let a candidate get.
        feedback: of the same shape, above 0 for a click; ``None`` if the log does not say, and then
            nothing is known to be clicked.
        exposed_level: the lowest level of what the user saw.
        preranked_level: the lowest level of what passed pre-ranking; not given, all that was not
            exposed is one domain.

    Returns:
        int64 of the same shape, 0 to 2, or 0 to 3 with ``preranked_level``.

    Raises:
        ConfigError: if a level is not positive, or they are not in this order.

    Examples:
        >>> levels, feedback = torch.tensor([0, 1, 3, 3]), torch.tensor([0.0, 0.0, 0.0, 1.0])
        >>> domains_of(levels, feedback, exposed_level=3).tolist()
        [2, 2, 1, 0]
        >>> domains_of(levels, feedback, exposed_level=3, preranked_level=1).tolist()
        [3, 2, 1, 0]

    Source: ECM (arXiv 2310.08039), table 1.
    """
    check_levels(exposed_level, preranked_level)
    exposed = levels >= exposed_level
    domains = torch.full_like(levels, 2, dtype=torch.int64).masked_fill(exposed, 1)
    if feedback is not None:
        domains = domains.masked_fill(exposed & (feedback > 0), 0)
    if preranked_level is not None:
        domains = domains.masked_fill(levels < preranked_level, 3)
    return domains


def check_levels(exposed_level: int, preranked_level: int | None) -> None:
    """Check where domains begin.

    Raises:
        ConfigError: if a level is not positive, or they are not in this order.
    """
    lowest = 1 if preranked_level is None else preranked_level
    if not 1 <= lowest <= exposed_level:
        raise ConfigError(
            "preranked_level and exposed_level must be at least 1, and pre-ranked no higher than "
            f"exposed; got {preranked_level} and {exposed_level}"
        )


@final
@dataclass(frozen=True, kw_only=True)
class DomainSampling:
    """Which candidates of each domain are learnt from.

    In a TOML file it is a table: ``sampling = { rates = [1, 0.4, 0.01, 0.001] }``. A candidate is
    in or out by chance that ``seed``, the row of its request and its place in the list decide: in
    every epoch and every batch alike.

    Args:
        rates: of each domain, in (0, 1]; three, or four where those that pre-ranking dropped are a
            domain of their own.
        seed: of the chance.
        reweighted: let each candidate that is in weigh one over its rate, so that the loss of all
            candidates is estimated, only from fewer. Not so, rare domains count for more.

    Raises:
        ConfigError: if there are not three or four rates, or one is out of range.

    Examples:
        >>> sampling = DomainSampling(rates=(1.0, 0.4, 0.01))
        >>> sampling.weights(torch.tensor([[0, 2, 0, 2]]), torch.tensor([7]))
        tensor([[1., 0., 1., 0.]])

    Source: ECM (arXiv 2310.08039), table 1; weights, this project.
    """

    rates: tuple[float, ...]
    seed: int = 0
    reweighted: bool = False
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if len(self.rates) not in (3, 4) or not all(
            math.isfinite(r) and 1 / _CHANCES <= r <= 1 for r in self.rates
        ):
            raise ConfigError(
                "rates must be three or four numbers above 0 and up to 1, one per domain "
                f"({', '.join(DOMAINS)}); a domain without a sample cannot be learnt; "
                f"got {list(self.rates)}"
            )

    def weights(self, domains: Tensor, rows: Tensor) -> Tensor:
        """Return what each candidate weighs; 0 for one that is out.

        Args:
            domains: ``[batch, list]``, as :func:`domains_of` gives them.
            rows: ``[batch]`` int64, where in its data set each request is.

        Returns:
            ``[batch, list]`` float32, at least 0.
        """
        rates = torch.tensor(self.rates, dtype=torch.float32, device=domains.device)[domains]
        chance = _chance(rows, domains.shape[-1], self.seed)
        weights = 1 / rates if self.reweighted else torch.ones_like(rates)
        return weights.masked_fill(chance >= (rates * _CHANCES).round(), 0.0)


def count_domains(
    log: EncodedLog, *, exposed_level: int, preranked_level: int | None = None
) -> dict[str, int]:
    """Count the candidates of each domain in a log.

    Args:
        log: the encoded requests.
        exposed_level: the lowest level of what the user saw.
        preranked_level: the lowest level of what passed pre-ranking, if it is told apart.

    Returns:
        Counts by the names of :data:`DOMAINS`.

    Raises:
        DataError: if the log has no levels.

    Examples:
        >>> import polars as pl
        >>> from cascaderank.schema import FittedSchema
        >>> fitted = FittedSchema(
        ...     features=({"name": "price", "role": "item", "kind": "numeric"},),
        ...     moments={"price": {"mean": 0.0, "deviation": 1.0}},
        ... )
        >>> frame = pl.DataFrame({"price": [[1.0, 2.0]], "level": [[0, 1]], "feedback": [[0, 1]]})
        >>> count_domains(EncodedLog.of_frame(frame, fitted), exposed_level=1)
        {'click': 1, 'unclicked': 0, 'unexposed': 1}
    """
    names = DOMAINS[: 3 if preranked_level is None else 4]
    if log.levels is None:
        raise DataError(no_levels("the log"))
    counts = np.zeros(len(names), dtype=np.int64)
    for first in range(0, len(log.levels), _ROWS):
        rows = slice(first, first + _ROWS)
        feedback = None if log.feedback is None else _tensor(log.feedback[rows])
        domains = domains_of(
            _tensor(log.levels[rows]),
            feedback,
            exposed_level=exposed_level,
            preranked_level=preranked_level,
        )
        counts += np.bincount(domains.numpy(), minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def no_levels(where: str) -> str:
    """Say that there are no levels, and what to do."""
    return (
        f"{where} has no levels, which say who was exposed; prepare the log with a column of "
        "levels, or train by another objective, such as 'bce'"
    )


def no_feedback(where: str, why: str) -> str:
    """Say that there is no feedback, who needs it, and what to do."""
    return (
        f"{where} has no feedback, which says who was clicked, and {why}; prepare the log with a "
        "column of feedback, or have stages of one score, such as 'cold', learn exposures by "
        "event = 'exposure'"
    )


def _tensor(values: NDArray[np.int8] | NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(values))


def _chance(rows: Tensor, length: int, seed: int) -> Tensor:
    """Whole numbers from 0 to 2^24 - 1, ``[batch, list]``: by request and place alone."""
    key = int(seeded(seed).astype(np.int64))
    places = torch.arange(length, device=rows.device)
    return _shifted(_mix(_mix(rows ^ key).unsqueeze(-1) ^ places), 40)


def _mix(z: Tensor) -> Tensor:
    """Mix as :func:`cascaderank.data.hashing.mix` does; int64 wraps around as uint64 does."""
    z = z + _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    lowest = (1 << (64 - bits)) - 1
    return (z >> bits) & lowest


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
