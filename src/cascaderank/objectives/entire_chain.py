"""Entire chain: predict how far each candidate gets, trained on all candidates, not the exposed."""

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
    """Train each stage to classify the domains of the chain: clicked, exposed, not exposed.

    The loss of a stage depends on its output: for classes (``ecm``, or ``cold`` and ``fscd`` with
    several domains) it is the cross-entropy; for towers (``ecmm``, ``esmm``) the sum of their
    binary cross-entropies; for one score (every other stage) the binary cross-entropy of
    ``event``. It is averaged over the candidates of each list and named ``chain/<stage>``; the
    penalty of open gates is named ``penalty/<stage>``.

    Requires levels, and feedback for classes, towers, and ``event="click"``.

    Args:
        stages: names of the stages, first stage first.
        quotas: quotas of the cascade; for ``joint``.
        ground_truth: size of the ground truth of the task; for ``joint``.
        threshold: threshold of the ground truth of the task; for ``joint``.
        learns: names of the stages that are trained on the chain; all by default.
        exposed_level: lowest level of exposed candidates. The default is the top level of a log
            with two more levels than stages, such as RecFlow's; ``cascaderank train`` uses the top
            level of the log.
        preranked_level: lowest level of candidates that passed pre-ranking. If given, the
            candidates that did not pass are a fourth domain; stages with three domains merge the
            last two.
        event: event that a stage with one score predicts.
        exposures_only: whether to train on exposed candidates only: the common baseline.
        sampling: sampling of the candidates of each domain; all candidates by default.
        penalty: weight of the penalty of an open gate; 1e-5 in the ECMM paper.
        open_share: fraction of the gates that may be open without penalty, in [0, 1).
        joint: another objective that is trained at the same time, as a table of its ``name`` and
            options, with the same quotas and ground truth. If it is ``entire_chain`` again, it
            trains other stages with other options.

    Raises:
        ConfigError: if an option is unknown or out of range, or leaves one class only.

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
    trained = stages if learns is None else learns
    unknown = [name for name in trained if name not in stages]
    if unknown or not trained:
        raise ConfigError(
            f"learns must name stages of the cascade ({', '.join(stages)}); got {list(trained)}"
        )
    exposed = len(stages) + 1 if exposed_level is None else exposed_level
    check_levels(exposed, preranked_level)
    domains = 3 if preranked_level is None else 4
    if sampling is not None and len(sampling.rates) != domains:
        raise ConfigError(
            f"sampling.rates must be {domains} numbers, one per domain (preranked_level adds a "
            f"fourth domain); got {list(sampling.rates)}"
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
        if name in trained:
            of_stage = replace(form, stage=t)
            terms.append(Term(f"chain/{name}", of_stage.loss, stage=t))
            if penalty:
                terms.append(Term(f"penalty/{name}", of_stage.penalty, penalty, stage=t))
    if joint is not None:
        levels = {"exposed_level": exposed, "preranked_level": preranked_level}
        terms += _terms_of(
            joint,
            levels,
            trained,
            stages=stages,
            quotas=quotas,
            ground_truth=ground_truth,
            threshold=threshold,
        )
    return Objective(terms, stages=len(stages))


def _terms_of(
    joint: dict[str, object], levels: dict[str, int | None], trained: tuple[str, ...], **task: Any
) -> tuple[Term, ...]:
    options: dict[str, Any] = dict(joint)
    name = options.pop("name", None)
    if not isinstance(name, str) or set(options) & set(task):
        raise ConfigError(
            "joint must be a table of the name of another objective and its options, without "
            f"stages, quotas and ground truth; got {joint}"
        )
    if name == "entire_chain":
        others = options.get("learns")
        if not others or set(others) & set(trained):
            raise ConfigError(
                "joint: entire_chain within entire_chain needs learns, the names of other stages "
                f"than {list(trained)}; got {joint}"
            )
        options = levels | options
    return build_objective(name, **task, **options).terms
