"""Entire chain: learn how far each candidate gets, from all candidates instead of the exposed."""

from dataclasses import replace
from typing import Any, Literal

from cascaderank.data.domains import DomainSampling, check_levels
from cascaderank.errors import ConfigError
from cascaderank.objectives import OBJECTIVES, Objective, Term, build_objective
from cascaderank.objectives._chain import Chain


@OBJECTIVES.register
def entire_chain_objective(
    *,
    stages: tuple[str, ...],
    quotas: tuple[int, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    learns: tuple[str, ...] | None = None,
    exposed_level: int | None = None,
    preranked_level: int | None = None,
    event: Literal["exposure", "click"] = "exposure",
    exposures_only: bool = False,
    sampling: DomainSampling | None = None,
    penalty: float = 0.0,
    open_share: float = 0.0,
    joint: dict[str, object] | None = None,
) -> Objective:
    """Train each stage to tell the domains of the chain apart: clicked, exposed, not exposed.

    What the loss of a stage is, follows from what the stage says: of classes (``ecm``, or ``cold``
    and ``fscd`` of several domains) the cross-entropy; of towers (``ecmm``, ``esmm``) the sum of
    their binary cross-entropies; of one score (every other stage) the binary cross-entropy of
    ``event``. It is a mean over the candidates of each list, and is called ``chain/<stage>``; what
    open gates cost is called ``penalty/<stage>``.

    Needs levels; and feedback for classes, towers, and ``event="click"``.

    Args:
        stages: names of the stages, first first.
        quotas: of the cascade; for ``joint``.
        ground_truth: of the task; for ``joint``.
        threshold: of the task; for ``joint``.
        learns: names of the stages that learn so; all if not given.
        exposed_level: the lowest level of what the user saw. If not given, the top of a log with
            two levels more than there are stages, such as RecFlow's; ``cascaderank train`` takes
            the top level of the log.
        preranked_level: the lowest level of what passed pre-ranking; given, what did not pass is a
            fourth domain. Stages of three domains take the last two together.
        event: what a stage of one score tells from the rest.
        exposures_only: learn from exposed candidates alone, as is usual: the baseline.
        sampling: which candidates of each domain are learnt from; all if not given.
        penalty: what an open gate costs. ECMM's paper has 1e-5.
        open_share: gates may be open for nothing up to this share of them, in [0, 1).
        joint: another objective that is trained at the same time, as a table of its ``name`` and
            options, for the same quotas and ground truth. Of the same name, it has other stages
            learn with other options.

    Raises:
        ConfigError: if an option is unknown or out of range, or there is nothing to tell apart.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective(
        ...     "entire_chain", stages=1, quotas=(2,), ground_truth=1, event="click"
        ... )
        >>> levels, clicks = torch.tensor([[2, 2, 0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> scores = torch.tensor([[[2.0, 0.0, 0.0]]])
        >>> objective(scores, torch.zeros(1, 3), levels=levels, feedback=clicks).terms
        {'chain/stage_1': tensor(0.5044)}

    Source: ECM and ECMM (arXiv 2310.08039); deviations are in ``docs/methods/ecm.md``.
    """
    if not 0 <= penalty < float("inf"):
        raise ConfigError(f"penalty must be a number of at least 0; got {penalty}")
    if not 0 <= open_share < 1:
        raise ConfigError(f"open_share must be in [0, 1); got {open_share}")
    learners = stages if learns is None else learns
    unknown = [name for name in learners if name not in stages]
    if unknown or not learners:
        raise ConfigError(
            f"learns must name stages of the cascade ({', '.join(stages)}); got {list(learners)}"
        )
    exposed = len(stages) + 1 if exposed_level is None else exposed_level
    check_levels(exposed, preranked_level)
    domains = 3 if preranked_level is None else 4
    if sampling is not None and len(sampling.rates) != domains:
        raise ConfigError(
            f"sampling.rates must be {domains}, one per domain; got {list(sampling.rates)}; "
            "preranked_level makes a fourth domain"
        )
    form = Chain(
        exposed_level=exposed,
        preranked_level=preranked_level,
        event=event,
        exposures_only=exposures_only,
        sampling=sampling,
        open_share=open_share,
    )
    terms = []
    for t, name in enumerate(stages):
        if name in learners:
            of_stage = replace(form, stage=t)
            terms.append(Term(f"chain/{name}", of_stage.loss, stage=t))
            if penalty:
                terms.append(Term(f"penalty/{name}", of_stage.penalty, penalty, stage=t))
    if joint is not None:
        levels = {"exposed_level": exposed, "preranked_level": preranked_level}
        terms += _terms_of(
            joint,
            levels,
            learners,
            stages=stages,
            quotas=quotas,
            ground_truth=ground_truth,
            threshold=threshold,
        )
    return Objective(terms, stages=len(stages))


def _terms_of(
    joint: dict[str, object], levels: dict[str, int | None], learners: tuple[str, ...], **task: Any
) -> tuple[Term, ...]:
    options: dict[str, Any] = dict(joint)
    name = options.pop("name", None)
    if not isinstance(name, str) or set(options) & set(task):
        raise ConfigError(
            "joint must be a table with the name of another objective and its options, without "
            f"stages, quotas and ground truth; got {joint}"
        )
    if name == "entire_chain":
        others = options.get("learns")
        if not others or set(others) & set(learners):
            raise ConfigError(
                "joint of entire_chain with entire_chain must say in learns which other stages "
                f"learn so, none of {list(learners)}; got {joint}"
            )
        options = levels | options
    return build_objective(name, **task, **options).terms
