"""Feature effects: the difference of two candidates' scores, divided over their features."""

import copy
import math
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.extras import require
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.prior import Prior

_SEGMENTS: Final = 16  # that the line is first divided into
_HALVINGS: Final = 30  # of a segment
_AT_ONCE: Final = 1024  # segments, which have two points each
_PRECISION: Final = 1e-5  # of the difference, which the sum of the effects may miss
_ROUNDING: Final = 1e-12  # of the sum of absolute effects


@final
@dataclass(frozen=True, kw_only=True)
class FeatureEffects:
    """Difference of the scores of two candidates of a request, divided over their features."""

    difference: float
    """Score of the candidate minus that of the other one, computed in float64."""
    effects: dict[str, float]
    """Part of the difference by feature of the candidates, the largest first; negative for a
    feature that lowers the score of the candidate in comparison."""
    rest: float
    """Difference minus the sum of the effects: the error of the numerical integration."""


def can_explain(stage: nn.Module) -> bool:
    """Return whether :func:`feature_effects` can explain a stage: whether it has an embedder.

    Examples:
        >>> from cascaderank.cascade import build_stage
        >>> from cascaderank.schema import Feature, FittedSchema
        >>> schema = FittedSchema(features=(Feature(name="x", role="item", kind="numeric"),))
        >>> can_explain(build_stage("linear", schema)), can_explain(nn.Identity())
        (True, False)
    """
    return isinstance(getattr(stage, "embedder", None), Embedder)


def feature_effects(
    stage: nn.Module, batch: RequestBatch, *, candidate: int, other: int
) -> FeatureEffects:
    r"""Divide the difference of two candidates' scores over their features.

    These are integrated gradients of the score f along the straight line from the encoded features
    x' of the other candidate to those of the candidate, x:

    .. math:: \phi_j = (x_j - x'_j) \int_0^1 \frac{\partial f}{\partial x_j}
              \bigl(x' + t (x - x')\bigr)\, dt

    summed over the inputs j of a feature: its number, with an indicator of a missing one, the
    components of its embedding or of its vector, or those of its pooled embeddings. Features of the
    request and its history are those of the request for both candidates, so they have no effect of
    their own. The effects add up to the difference of the scores. A feature with equal values has
    the effect 0, and a linear stage gives each feature its weight times the difference.

    The line is divided into segments, with two points of a Gauss-Legendre rule each. Segments whose
    effects do not add up to the difference of the scores of their ends, because a unit of the
    network is switched on or off in them, are halved, until the sum of all errors is at most 1e-5
    of the difference. Computed in float64.

    Args:
        stage: a stage whose features of candidates pass through its ``embedder``, on any device;
            all but ``boosted_trees``. It is not changed.
        batch: one request, with the inputs of the stage; see
            :meth:`~cascaderank.cascade.Cascade.inputs`.
        candidate: index of the candidate in the list.
        other: index of the candidate to compare with.

    Raises:
        ConfigError: if the stage has no embedder, or the batch has more than one request.
        MissingExtraError: if Captum is not installed.

    Examples:
        >>> from cascaderank.cascade import build_stage
        >>> from cascaderank.schema import Feature, FittedSchema
        >>> names = ("price", "age")
        >>> schema = FittedSchema(
        ...     features=[Feature(name=n, role="item", kind="numeric") for n in names]
        ... )
        >>> stage = build_stage("linear", schema)
        >>> _ = stage.weights.both.weight.data.copy_(torch.tensor([[-2.0, 0.5]]))
        >>> items = {"price": torch.tensor([[3.0, 1.0]]), "age": torch.tensor([[4.0, 2.0]])}
        >>> batch = RequestBatch(mask=torch.ones(1, 2).bool(), items=items)
        >>> feature_effects(stage, batch, candidate=0, other=1).effects
        {'price': -4.0, 'age': 1.0}

    Source: Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks (arXiv 1703.01365),
    with another candidate as the baseline; computed by Captum.
    """
    if len(batch) != 1:
        raise ConfigError(f"feature effects need a batch of one request; got {len(batch)}")
    embedder = getattr(stage, "embedder", None)
    if not isinstance(embedder, Embedder):
        raise ConfigError(
            f"feature effects need a stage with an embedder; {type(stage).__name__} has none"
        )
    captum: Any = require("captum.attr", extra="explain")
    path = _Path(stage, embedder, batch)
    ends = path.encoded[[candidate]], path.encoded[[other]]
    with torch.no_grad():
        difference = float(path(ends[0]) - path(ends[1]))
    of_inputs = _integrated(captum.IntegratedGradients(path), *ends, difference)
    effects = dict.fromkeys(path.fields, 0.0)
    for field, effect in zip(path.fields, of_inputs.tolist(), strict=True):
        effects[field] += effect
    return FeatureEffects(
        difference=difference,
        effects=dict(sorted(effects.items(), key=lambda of: -abs(of[1]))),
        rest=difference - math.fsum(effects.values()),
    )


def _integrated(gradients: Any, end: Tensor, start: Tensor, difference: float) -> Tensor:
    """Return the integrated gradients ``[inputs]`` from ``start`` to ``end``, ``[1, inputs]``."""
    edges = torch.linspace(0, 1, _SEGMENTS + 1, dtype=torch.float64, device=start.device)
    todo = torch.stack([edges[:-1], edges[1:]], -1)
    total, missed = torch.zeros_like(end[0]), 0.0
    for halving in range(_HALVINGS + 1):
        effects, errors = [], []
        for part in torch.split(todo, _AT_ONCE):
            begins, ends = (torch.lerp(start, end, at[:, None]) for at in part.unbind(-1))
            of_part, of_errors = gradients.attribute(
                ends, begins, n_steps=2, method="gausslegendre", return_convergence_delta=True
            )
            effects.append(of_part)
            errors.append(of_errors.abs())
        effect, error = torch.cat(effects), torch.cat(errors)
        allowed = _PRECISION * abs(difference) + _ROUNDING * float(effect.abs().sum()) - missed
        halved = error > allowed / 2 / len(todo)
        if halving == _HALVINGS or float(error.sum()) <= allowed:
            halved = torch.zeros_like(halved)
        total, missed = total + effect[~halved].sum(0), missed + float(error[~halved].sum())
        if not halved.any():
            break
        begin, stop = todo[halved].unbind(-1)
        middle = (begin + stop) / 2
        todo = torch.cat([torch.stack([begin, middle], -1), torch.stack([middle, stop], -1)])
    return total


class _Encoded(nn.Module):
    """Stands for the embedder of a stage: one encoded request, and candidates that are given."""

    def __init__(self, embedder: Embedder, batch: RequestBatch) -> None:
        super().__init__()
        self.item_dim, self.request_dim = embedder.item_dim, embedder.request_dim
        self.context_dim, self.history_dims = embedder.context_dim, embedder.history_dims
        self.item_fields, self.request_fields = embedder.item_fields, embedder.request_fields
        self.vectors = embedder.items(batch).double()
        self._request = embedder.request(batch).double()
        self._context = embedder.context(batch).double()
        self._history = {
            name: (entries.double(), mask)
            for name, (entries, mask) in embedder.history(batch).items()
        }

    def items(self, _: RequestBatch) -> Tensor:
        return self.vectors

    def request(self, _: RequestBatch) -> Tensor:
        return self._request

    def context(self, _: RequestBatch) -> Tensor:
        return self._context

    def history(self, _: RequestBatch) -> dict[str, tuple[Tensor, Tensor]]:
        return self._history


class _PriorValue(nn.Module):
    """Stands for a prior: its values for candidates that are given."""

    def __init__(self, prior: Prior, batch: RequestBatch) -> None:
        super().__init__()
        self.feature = prior.feature
        self.values: Tensor = prior(batch).double()

    def forward(self, _: RequestBatch) -> Tensor:
        return self.values


class _Path(nn.Module):
    """Score of a stage, in float64, as a function of the encoded features of candidates.

    The points of a path are scored as the candidates of one request: the score of a candidate does
    not depend on the others.
    """

    def __init__(self, stage: nn.Module, embedder: Embedder, batch: RequestBatch) -> None:
        super().__init__()
        priors = [module for module in stage.modules() if isinstance(module, Prior)]
        with torch.no_grad():
            self._inputs = _Encoded(embedder, batch)
            self._priors = [_PriorValue(prior, batch) for prior in priors]
        # A copy without the tables of embeddings, which can be large.
        memo: dict[int, Any] = {id(embedder): self._inputs}
        memo |= {id(p): v for p, v in zip(priors, self._priors, strict=True)}
        self._stage = copy.deepcopy(stage, memo).double().eval().requires_grad_(requires_grad=False)
        self._batch = batch
        added = [v.values.unsqueeze(-1) for v in self._priors]
        self.encoded = torch.cat([self._inputs.vectors, *added], -1)[0]
        """``[list, inputs]``: encoded features of the candidates."""
        self.fields = [n for n, width in embedder.item_fields.items() for _ in range(width)]
        """Name of the feature of each input."""
        self.fields += [v.feature for v in self._priors]

    def forward(self, points: Tensor) -> Tensor:
        """Return ``[points]`` scores for ``[points, inputs]``."""
        width = points.shape[-1] - len(self._priors)
        self._inputs.vectors = points[None, :, :width]
        for i, prior in enumerate(self._priors):
            prior.values = points[None, :, width + i]
        own = self._batch
        mask = torch.ones(1, len(points), dtype=torch.bool, device=points.device)
        scores: Tensor = self._stage(
            RequestBatch(
                mask=mask,
                items={},
                request=own.request,
                history=own.history,
                history_mask=own.history_mask,
            )
        )
        return scores.squeeze(0)
