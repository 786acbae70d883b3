"""ARF, second version: what a stage should drop is named, too."""

from cascaderank.objectives import OBJECTIVES, Objective
from cascaderank.objectives._arf import Arf
from cascaderank.objectives._sorting import Temperature


@OBJECTIVES.register
def arf_v2_objective(
    *,
    stages: tuple[str, ...],
    quotas: tuple[int, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    published: bool = False,
    operator: str = "neural_sort",
    temperature: Temperature | None = None,
    relative_temperature: bool = False,
) -> Objective:
    """Train each stage, by itself, to keep the ground truth only and to know the whole order.

    ``sum_t [L_t + L_global / (2 w_t^2) + ln w_t]``: as ARF, but its relaxed term, which names
    ground truth only, is replaced by binary cross-entropy between ground truth and the smooth
    top q_t: :func:`cascaderank.losses.survival_loss` of a single stage at its quota, called
    ``top_m/<stage>``. The other term, :func:`cascaderank.losses.permutation_loss`, is called
    ``global/<stage>``.

    Args:
        stages: names of the stages, first first.
        quotas: how many candidates each stage passes on.
        ground_truth: the ground truth is the top so many by label.
        threshold: the ground truth is every label of at least this.
        published: compute what the LCRON paper's code computes, with 1e-6 inside its logarithms,
            labels sorted smoothly, and cuts at 30 and 20 (40, 30 and 20 for three stages).
            Defined for full lists, two and three stages, and a ground truth of the top k.
        operator: the smooth permutation, a name in ``cascaderank.sorting.OPERATORS`` that knows
            every rank, not only the top k.
        temperature: of the operator, positive, or :class:`~cascaderank.objectives.Annealed`; 200
            if not given, and 1 if not given and relative.
        relative_temperature: multiply the temperature by the size of the operator's logits in
            each list (spread of the scores and, for NeuralSort, length of the list).

    Raises:
        ConfigError: if an option is unknown or out of range, or ``published`` fixes it.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective(
        ...     "arf_v2", stages=["retrieval"], quotas=(2,), ground_truth=1, temperature=1.0
        ... )
        >>> objective(torch.tensor([[[3.0, 2.0, 1.0]]]), torch.tensor([[2.0, 1.0, 0.0]])).terms
        {'top_m/retrieval': tensor(0.5713), 'global/retrieval': tensor(0.1338)}

    Source: the comparison of LCRON (arXiv 2503.09492); deviations are in
    ``docs/methods/arf_v2.md``.
    """
    return Arf(
        name="arf_v2",
        stages=stages,
        quotas=quotas,
        k=ground_truth,
        threshold=threshold,
        published=published,
        operator=operator,
        temperature=temperature,
        relative=relative_temperature,
    ).objective("top_m")
