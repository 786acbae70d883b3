"""Protocol of a source of item features that change between two exports of a bundle."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final, Protocol, runtime_checkable


class Absent(Enum):
    """Type of :data:`ABSENT`."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""Value of an item that a source has none for; that of the catalogue then counts. ``None`` is a
value: a missing one."""


@runtime_checkable
class FeatureSource(Protocol):
    """Values of item features at the time of a request, such as prices in a key-value store.

    The catalogue of the bundle is the default. A source provides some features instead of it, or
    features of request and item together, which no catalogue has. It is called once per stage that
    reads one of its features, with the candidates that this stage receives.

    A source that cannot answer raises an :class:`OSError`, such as ``ConnectionError``. The values
    of the catalogue then count, and the answer names the features in ``stale``.
    """

    features: tuple[str, ...]
    """Names of the features that the source provides."""

    def values(
        self, request: Mapping[str, Any], keys: Sequence[Any], features: Sequence[str]
    ) -> Mapping[str, Sequence[Any]]:
        """Return raw values by feature, one per item; :data:`ABSENT` for that of the catalogue.

        Args:
            request: raw values of the request.
            keys: keys of the items.
            features: names of the features to return, some of :attr:`features`.
        """
