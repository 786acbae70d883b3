"""Item features that change between two exports of a bundle, in Redis."""

import json
import math
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, final

from cascaderank.errors import ConfigError, DataError, shown
from cascaderank.extras import require
from cascaderank.serving.feature_source import ABSENT


@final
class RedisSource:
    """Values of item features in Redis, one key per item.

    The key of an item is ``prefix`` followed by the key of the item in the catalogue. Its value is
    a JSON object of raw values by feature. All candidates of a stage are read by one ``MGET``.

    An item without a value has that of the catalogue. If Redis does not answer in time, the values
    of the catalogue count for all items, and the next attempt is made after ``pause_ms``: requests
    do not wait for a server that is gone.

    Args:
        url: address, such as ``redis://localhost:6379/0``, ``rediss://`` with TLS, or ``unix://``.
        features: names of the features that Redis has.
        prefix: beginning of the keys.
        timeout_ms: time in which Redis has to accept a connection, and to send each part of an
            answer.
        pause_ms: time without attempts after one that failed.

    Raises:
        ConfigError: if the address is not one of Redis, there is no feature, or a time is not
            positive.
        MissingExtraError: if the package ``redis`` is not installed.

    Examples:
        >>> source = RedisSource("redis://localhost:6379/0", features=["price"])
        >>> source.key(17)
        'item:17'
    """

    def __init__(
        self,
        url: str,
        *,
        features: Sequence[str],
        prefix: str = "item:",
        timeout_ms: float = 20.0,
        pause_ms: float = 1000.0,
    ) -> None:
        redis: Any = require("redis", extra="redis")
        if isinstance(features, str) or not features:
            raise ConfigError(f"expected the names of some features; got {shown(features)}")
        for name, value in (("timeout_ms", timeout_ms), ("pause_ms", pause_ms)):
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be a positive number; got {shown(value)}")
        self.features = tuple(features)
        self._prefix, self._pause = prefix, pause_ms / 1000
        self._error = redis.RedisError
        self._again = -math.inf  # time of the next attempt; one float, so that threads can share it
        try:
            self._client = redis.Redis.from_url(
                url,
                socket_timeout=timeout_ms / 1000,
                socket_connect_timeout=timeout_ms / 1000,
                # A connection that a restart of the server closed is opened anew. No second attempt
                # after a timeout: a request would wait twice.
                retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1, (redis.ConnectionError,)),
            )
        except (ValueError, TypeError) as error:  # also of a wrong number in the address
            raise ConfigError(
                f"expected an address such as redis://localhost:6379/0: {error}"
            ) from None

    def key(self, item: Any) -> str:
        """Return the key of an item in Redis."""
        return f"{self._prefix}{item}"

    def values(
        self,
        request: Mapping[str, Any],  # noqa: ARG002
        keys: Sequence[Any],
        features: Sequence[str],
    ) -> Mapping[str, Sequence[Any]]:
        """Return raw values by feature, one per item.

        Args:
            request: not used.
            keys: keys of the items.
            features: names of the features to return.

        Raises:
            ConnectionError: if Redis does not answer in time, or with an error.
            DataError: if a value in Redis is not a JSON object.
        """
        if not keys:
            return {name: [] for name in features}
        if monotonic() < self._again:
            raise ConnectionError("Redis did not answer; the next attempt is later")
        try:
            found = self._client.mget([self.key(item) for item in keys])
        except (self._error, OSError) as error:
            self._again = monotonic() + self._pause
            raise ConnectionError(f"Redis: {error}") from error
        rows = [self._parsed(k, row) for k, row in zip(keys, found, strict=True)]
        return {name: [row.get(name, ABSENT) for row in rows] for name in features}

    def write(self, items: Mapping[Any, Mapping[str, Any]]) -> None:
        """Replace the values of some items.

        Args:
            items: raw values by feature, by key of the item.

        Raises:
            ConnectionError: if Redis does not answer in time, or with an error.
        """
        values = {self.key(item): json.dumps(of_item) for item, of_item in items.items()}
        try:
            if values:
                self._client.mset(values)
        except (self._error, OSError) as error:
            raise ConnectionError(f"Redis: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _parsed(self, item: Any, value: bytes | None) -> Mapping[str, Any]:
        if value is None:
            return {}
        try:
            row = json.loads(value)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise DataError(
                f"Redis: key '{self.key(item)}': expected a JSON object of values by feature, "
                f"found {shown(value)}"
            )
        return row
