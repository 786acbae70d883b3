"""Facts about a request log that the first settings for it are derived from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascaderank.data.labels import Target, labels_of, needs
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.ragged import flattened, lengths_of

_MOST_CANDIDATES = 5_000_000  # after this number, no more files are read
_MOST_GRADES = 12


@dataclass(frozen=True, kw_only=True)
class LogFacts:
    """Lengths and labels of the lists of a log."""

    lengths: NDArray[np.int64]
    """Number of candidates of each request that was read."""
    labels: NDArray[np.float32]
    """Labels of all candidates of these requests, concatenated."""
    grades: tuple[float, ...] | None
    """Distinct labels, ascending; ``None`` if there are more than 12."""
    at_top_level: NDArray[np.int64] | None
    """Number of candidates of each request at the highest level; ``None`` without levels."""

    @property
    def median_length(self) -> int:
        """Median number of candidates, rounded down."""
        return int(np.median(self.lengths))

    def reaching(self, threshold: float) -> NDArray[np.int64]:
        """Return the number of candidates of each request with a label of at least a threshold."""
        starts = np.cumsum(self.lengths) - self.lengths
        return np.add.reduceat(self.labels >= threshold, starts, dtype=np.int64)

    def share_with(self, threshold: float) -> float:
        """Return the fraction of requests that have a label of at least a threshold."""
        return float((self.reaching(threshold) > 0).mean())


def facts_of(log: RequestLog, target: Target) -> LogFacts:
    """Read the labels of a log; of a large log, those of its first files.

    Args:
        log: request log.
        target: definition of the labels.

    Raises:
        DataError: if the log does not have the columns of the target, or a file is damaged.
    """
    columns = needs(target, log.manifest.columns, where=str(log.path))
    lengths: list[NDArray[np.int64]] = []
    read: list[NDArray[np.float32]] = []
    top: list[NDArray[np.int64]] = []
    grades: set[float] = set()
    for frame in log.frames(columns):
        own = lengths_of(frame[columns[0]])
        starts = np.cumsum(own) - own
        flat = {name: flattened(frame[name]).to_numpy() for name in columns}
        labels = labels_of(target, flat, levels=len(log.manifest.level_names))
        lengths.append(own)
        read.append(labels)
        if "level" in flat:
            is_top = (flat["level"] == len(log.manifest.level_names) - 1).astype(np.int64)
            top.append(np.add.reduceat(is_top, starts))
        if len(grades) <= _MOST_GRADES:
            grades |= set(np.unique(labels).tolist())
        if sum(map(len, read)) >= _MOST_CANDIDATES:
            break
    return LogFacts(
        lengths=np.concatenate(lengths),
        labels=np.concatenate(read),
        grades=tuple(sorted(grades)) if len(grades) <= _MOST_GRADES else None,
        at_top_level=np.concatenate(top) if top else None,
    )
