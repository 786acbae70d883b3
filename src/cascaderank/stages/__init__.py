"""Stages: rankers that score every candidate of a request, one per file.

A stage is a ``torch.nn.Module`` built as ``Stage(schema, features, *, options...)`` that turns a
:class:`~cascaderank.batch.RequestBatch` into scores ``[batch, list]``. It may read nothing but the
features it was given, and nothing of one candidate may reach the score of another.
"""

from collections.abc import Callable

from torch import nn

from cascaderank.registry import Registry

STAGES: Registry[Callable[..., nn.Module]] = Registry("stage", __name__)
