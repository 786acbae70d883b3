"""Domains of candidates in an entire-chain model: click, unclicked, unexposed and dropped."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict
from torch import Tensor

from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.hashing import seeded
from cascaderank.errors import ConfigError, DataError

DOMAINS = ("click", "unclicked", "unexposed", "dropped")
"""Names of the domains by index: clicked; exposed and not clicked; not exposed; and dropped before
or by pre-ranking, which is a separate domain only if the level of pre-ranking is set."""

_RESOLUTION = 2**24  # number of distinct sampling rates
_CHUNK = 2**22  # candidates that are counted at a time


def domains_of(
    levels: Tensor,
    feedback: Tensor | None,
    *,
    exposed_level: int,
    preranked_level: int | None = None,
) -> Tensor:
    """Return the domain of each candidate, as an index into :data:`DOMAINS`.

    Feedback on candidates that were not exposed is ignored.

    Args:
        levels: integers of any shape: the funnel level that each candidate reached, 0 lowest.
        feedback: feedback of the same shape, above 0 for a click; ``None`` if the log has no
            feedback, and then no candidate is in the domain of clicks.
        exposed_level: lowest level of exposed candidates, at least 1.
        preranked_level: lowest level of candidates that passed pre-ranking, in
            [1, ``exposed_level``]; default: all candidates that were not exposed are one domain.

    Returns:
        int64 of the same shape, 0 to 2, or 0 to 3 with ``preranked_level``.

    Raises:
        ConfigError: if a level is below 1, or ``preranked_level`` is above ``exposed_level``.

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
    """Check the levels at which domains begin.

    Args:
        exposed_level: lowest level of exposed candidates.
        preranked_level: lowest level of candidates that passed pre-ranking; ``None`` if unused.

    Raises:
        ConfigError: if a level is below 1, or ``preranked_level`` is above ``exposed_level``.
    """
    lowest = 1 if preranked_level is None else preranked_level
    if not 1 <= lowest <= exposed_level:
        raise ConfigError(
            "preranked_level and exposed_level must be at least 1, and preranked_level at most "
            f"exposed_level; got {preranked_level} and {exposed_level}"
        )


@final
@dataclass(frozen=True, kw_only=True)
class DomainSampling:
    """Random subsampling of the candidates of each domain for training.

    In a TOML file it is a table: ``sampling = { rates = [1, 0.4, 0.01, 0.001] }``. Whether a
    candidate is sampled depends on ``seed``, the row of its request and its place in the list only,
    so it is the same in every epoch and batch.

    Args:
        rates: sampling rate of each domain, in [2^-24, 1]; three rates, or four if candidates
            dropped by pre-ranking are a separate domain.
        seed: seed of the sampling.
        reweighted: whether a sampled candidate has the weight 1 / rate, so that the loss is an
            unbiased estimate of the loss over all candidates. Default: ``False``; weights are 1,
            and domains with high rates have more influence.

    Raises:
        ConfigError: if there are not three or four rates, or a rate is out of range.

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
            math.isfinite(r) and 1 / _RESOLUTION <= r <= 1 for r in self.rates
        ):
            raise ConfigError(
                "rates must be three or four numbers above 0 and up to 1, one per domain "
                f"({', '.join(DOMAINS)}); a domain without samples cannot be trained on; "
                f"got {list(self.rates)}"
            )

    def weights(self, domains: Tensor, rows: Tensor) -> Tensor:
        """Return the weight of each candidate in the loss; 0 if it is not sampled.

        Args:
            domains: ``[batch, list]`` domain indices, see :func:`domains_of`.
            rows: ``[batch]`` int64 row numbers of the requests in their data set.

        Returns:
            ``[batch, list]`` float32 weights, at least 0.
        """
        rates = torch.tensor(self.rates, dtype=torch.float32, device=domains.device)[domains]
        draws = _random_integers(rows, domains.shape[-1], self.seed)
        weights = 1 / rates if self.reweighted else torch.ones_like(rates)
        return weights.masked_fill(draws >= (rates * _RESOLUTION).round(), 0.0)


def count_domains(
    log: EncodedLog, *, exposed_level: int, preranked_level: int | None = None
) -> dict[str, int]:
    """Count the candidates of each domain in a log.

    Args:
        log: the encoded requests.
        exposed_level: lowest level of exposed candidates, at least 1.
        preranked_level: lowest level of candidates that passed pre-ranking; default: dropped
            candidates are not a separate domain.

    Returns:
        Number of candidates by the names of :data:`DOMAINS`.

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
    for first in range(0, len(log.levels), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        feedback = None if log.feedback is None else _tensor(log.feedback[chunk])
        domains = domains_of(
            _tensor(log.levels[chunk]),
            feedback,
            exposed_level=exposed_level,
            preranked_level=preranked_level,
        )
        counts += np.bincount(domains.numpy(), minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def no_levels(where: str) -> str:
    """Return the error message for a log or batch without levels.

    Args:
        where: name of the log or batch.
    """
    return (
        f"{where} has no levels, which identify the exposed candidates; prepare the log with a "
        "column of levels, or train with another objective, such as 'bce'"
    )


def no_feedback(where: str, why: str) -> str:
    """Return the error message for a log or batch without feedback.

    Args:
        where: name of the log or batch.
        why: clause that names what needs the feedback.
    """
    return (
        f"{where} has no feedback, which identifies the clicked candidates, and {why}; prepare the "
        "log with a column of feedback, or train stages of one score, such as 'cold', on exposures "
        "with event = 'exposure'"
    )


def _tensor(values: NDArray[np.int8] | NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(values))


def _random_integers(rows: Tensor, length: int, seed: int) -> Tensor:
    """Return uniform integers in [0, 2^24) by row and place only, ``[batch, length]``."""
    key = int(seeded(seed).astype(np.int64))
    places = torch.arange(length, device=rows.device)
    return _shifted(_mix(_mix(rows ^ key).unsqueeze(-1) ^ places), 40)


def _mix(z: Tensor) -> Tensor:
    """Mix as :func:`~cascaderank.data.encoding.hashing.mix`; int64 wraps around like uint64."""
    z = z + _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Return the logical right shift of int64, whose ``>>`` is arithmetic."""
    lowest = (1 << (64 - bits)) - 1
    return (z >> bits) & lowest


def _signed(number: int) -> int:
    """Return the int64 with the bits of an unsigned 64-bit number."""
    return number - 2**64 if number >= 2**63 else number
