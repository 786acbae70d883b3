"""Trackers: services that show losses and metrics of a run while it is trained, one per file.

``train.track`` names them. A tracker is a class that is registered under the name of its module:

- ``Tracker(folder, name=...)`` imports its library, or raises
  :class:`~cascaderank.errors.MissingExtraError`;
- the methods of :class:`~cascaderank.tracking.protocol.Tracker` are then called in the order
  ``begin``, any number of ``scalars`` and ``text``, ``close``. What they raise ends tracking with
  a warning, and training continues.
"""

from collections.abc import Callable

from cascaderank.registry import Registry
from cascaderank.tracking.protocol import EmbeddingTracker, Tracker

__all__ = ["TRACKERS", "EmbeddingTracker", "Tracker"]

TRACKERS: Registry[Callable[..., Tracker]] = Registry("tracker", __name__)
"""Trackers by name."""
