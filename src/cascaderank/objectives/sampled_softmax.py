"""Sampled softmax: every stage classifies the ground truth against sampled candidates."""

from dataclasses import dataclass

from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses.sampled_softmax import sampled_softmax_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term


@OBJECTIVES.register
def sampled_softmax_objective(
    *,
    stages: tuple[str, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    corrected: bool | None = None,
) -> Objective:
    """Train each stage separately to score the ground truth above the sampled candidates.

    The term of a stage is :func:`cascaderank.losses.sampled_softmax_loss`, named
    ``sampled_softmax/<stage>``. ``train.candidates`` in a config specifies the sampled candidates.

    Args:
        stages: names of the stages, first stage first.
        ground_truth: size of the ground truth, the top candidates by label.
        threshold: the ground truth is every label of at least this value.
        corrected: whether the log-probability with which a candidate was sampled is subtracted
            from its score. By default it is, where the batch contains ``log_q``.

    Raises:
        ConfigError: if an option is unknown, or, with ``corrected``, for a batch without
            ``log_q``.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective("sampled_softmax", stages=1, quotas=(1,), ground_truth=1)
        >>> objective(torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([[1.0, 0.0, 0.0]])).terms
        {'sampled_softmax/stage_1': tensor(0.5514)}

    Source: the baseline SSM of FS-LTR; the correction is that of Bengio and Senecal 2008.
    """
    form = {"k": ground_truth, "threshold": threshold, "corrected": corrected}
    terms = [
        Term(f"sampled_softmax/{name}", _StageTerm(stage=t, **form).loss, stage=t)  # type: ignore[arg-type]
        for t, name in enumerate(stages)
    ]
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _StageTerm:
    stage: int
    k: int | None
    threshold: float | None
    corrected: bool | None

    def loss(self, inputs: CascadeInputs) -> Tensor:
        if self.corrected and inputs.log_q is None:
            raise ConfigError(
                "corrected=true of 'sampled_softmax' needs the sampling probabilities of the "
                "candidates; sample them with train.candidates.pool, or pass log_q [batch, list]"
            )
        return sampled_softmax_loss(
            inputs.scores[self.stage],
            inputs.labels,
            k=self.k,
            threshold=self.threshold,
            log_q=None if self.corrected is False else inputs.log_q,
            mask=inputs.mask,
        )
