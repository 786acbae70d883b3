"""Interface between what serves and what logs: one record per answer, and feedback later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, final

from cascaderank.serving.answer import Answer
from cascaderank.serving.exploration import Exploration
from cascaderank.serving.logged_candidates import Sampling


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Served:
    """A request and its answer."""

    request_id: str
    """Unique id of the request; feedback refers to it."""
    request: Mapping[str, Any]
    """Raw values of the request."""
    answer: Answer
    """Answer of ``Ranker.rank`` with ``sampling``, so that it has the candidates to log."""
    time: datetime
    """Time of the answer, with a time zone."""
    bundle: str
    """Name of the bundle."""
    variant: str = ""
    """Name of the variant of an experiment; empty without one."""
    teams: Sequence[str] | None = None
    """Variant of each item of an interleaved list, whose ``answer.logged`` is the result of
    :func:`~cascaderank.serving.logged_candidates.interleaved`; ``None`` for any other list."""


class ServedSink(Protocol):
    """Receives what was served, and feedback to it. Calls return at once and raise no errors."""

    @property
    def sampling(self) -> Sampling:
        """Argument ``sampling`` of ``Ranker.rank`` for each request."""

    @property
    def exploration(self) -> Exploration | None:
        """Argument ``exploration`` of ``Ranker.rank`` for each request."""

    def record(self, served: Served, /) -> bool:
        """Take a request and its answer; return whether it was accepted."""

    def feedback(self, request_id: str, item: Any, value: float, /) -> bool:
        """Take the response to an item of an earlier answer; return whether it was accepted."""
