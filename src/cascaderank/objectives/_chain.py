"""Loss of one stage over the entire chain, for stages with classes, towers or one score."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from cascaderank.data.domains import DomainSampling, domains_of, no_feedback, no_levels
from cascaderank.errors import ConfigError, DataError
from cascaderank.objectives._objective import CascadeInputs
from cascaderank.stages import Chance, StageOutput
from cascaderank.tensors import at_least_float32, finite_scores, masked_mean

_CLICK, _UNCLICKED, _UNEXPOSED, _DROPPED = range(4)


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The loss and the penalty of one stage; see :mod:`cascaderank.objectives.entire_chain`."""

    exposed_level: int
    preranked_level: int | None
    event: Literal["exposure", "click"]
    exposures_only: bool
    sampling: DomainSampling | None
    open_share: float
    stage: int = 0

    def loss(self, inputs: CascadeInputs) -> Tensor:
        domains, output = self._domains(inputs), self._output(inputs)
        mask = inputs.mask & (domains <= _UNCLICKED) if self.exposures_only else inputs.mask
        cost = self._cost(inputs, output, domains, mask)
        if self.sampling is not None:
            cost, mask = self._sampled(inputs, cost, domains, mask)
        mean = masked_mean(cost, mask)
        # The mean of an empty tensor is NaN in PyTorch; the loss of an empty batch is 0.
        mean = mean.mean() if mean.numel() else mean.sum()
        return mean.to(inputs.scores.dtype)

    def penalty(self, inputs: CascadeInputs) -> Tensor:
        output = self._output(inputs)
        if output.penalty is None:
            return inputs.scores.new_zeros(())
        return (output.penalty - self.open_share * output.most).clamp(min=0)

    def _output(self, inputs: CascadeInputs) -> StageOutput:
        if inputs.outputs:
            return inputs.outputs[self.stage]
        return StageOutput(scores=inputs.scores[self.stage])

    def _domains(self, inputs: CascadeInputs) -> Tensor:
        if inputs.levels is None:
            raise DataError(no_levels("the batch"))
        return domains_of(
            inputs.levels,
            inputs.feedback,
            exposed_level=self.exposed_level,
            preranked_level=self.preranked_level,
        )

    def _cost(
        self, inputs: CascadeInputs, output: StageOutput, domains: Tensor, mask: Tensor
    ) -> Tensor:
        """Return the loss of each candidate, ``[batch, list]``; finite under the mask."""
        if output.classes is not None:
            self._check(inputs, four=output.classes.shape[-1] == 4, why="the classes require it")
            chosen = domains.clamp(max=output.classes.shape[-1] - 1).masked_fill(~mask, 0)
            classes = at_least_float32(output.classes.masked_fill(~mask.unsqueeze(-1), 0.0))
            return -classes.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        if output.events:
            self._check(inputs, four="dropped" in output.events, why="the towers require it")
            costs = [
                _cross_entropy(chance, self._is(name, domains, output), mask)
                for name, chance in output.events.items()
            ]
            return torch.stack(costs).sum(0)
        if self.event == "click":
            self._check(inputs, four=False, why='event = "click" requires it')
        elif self.exposures_only:
            raise ConfigError(
                "exposures_only leaves exposed candidates only, which are all positive; "
                'a stage with one score needs event = "click"'
            )
        logits = finite_scores(output.scores.masked_fill(~mask, 0.0))
        happened = self._is(self.event, domains, output).to(logits.dtype)
        return binary_cross_entropy_with_logits(logits, happened, reduction="none")

    def _is(self, name: str, domains: Tensor, output: StageOutput) -> Tensor:
        """Return whether an event happened to each candidate, ``[batch, list]`` bool."""
        match name:
            case "click":
                return domains == _CLICK
            case "exposure":
                return domains <= _UNCLICKED
            case "unexposed" if "dropped" in output.events:
                return domains == _UNEXPOSED
            case "unexposed":
                return domains >= _UNEXPOSED
            case "dropped":
                return domains == _DROPPED
        raise ConfigError(
            f"no event called '{name}'; a stage may predict click, exposure, unexposed and dropped"
        )

    def _check(self, inputs: CascadeInputs, *, four: bool, why: str) -> None:
        if inputs.feedback is None:
            raise DataError(no_feedback("the batch", why))
        if four and self.preranked_level is None:
            raise ConfigError(
                "a stage with four domains needs preranked_level, the lowest level of candidates "
                "that passed pre-ranking; or set its domains to 3"
            )

    def _sampled(
        self, inputs: CascadeInputs, cost: Tensor, domains: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.sampling is None or inputs.rows is None:
            raise ConfigError("sampling depends on the row of each request; pass rows [batch]")
        weights = self.sampling.weights(domains, inputs.rows).to(cost.dtype)
        # Candidates that are not sampled have weight 0. If reweighted, the sampled ones represent
        # them, so the mean is over all candidates.
        return cost * weights, mask if self.sampling.reweighted else mask & (weights > 0)


def _cross_entropy(chance: Chance, happened: Tensor, mask: Tensor) -> Tensor:
    log_p = at_least_float32(chance.log_p.masked_fill(~mask, 0.0))
    log_not = at_least_float32(chance.log_not.masked_fill(~mask, 0.0))
    return -torch.where(happened, log_p, log_not)
