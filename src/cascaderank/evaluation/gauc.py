"""GAUC: the AUC inside requests, averaged by how much each of them was seen."""

from torch import Tensor

from cascaderank.errors import ShapeError


def gauc(aucs: Tensor, impressions: Tensor) -> Tensor:
    r"""Mean of the AUC of each request, weighted by its impressions.

    .. math:: \text{GAUC} = \frac{\sum_r n_r \, \text{AUC}_r}{\sum_r n_r}

    over the requests that have both a click and an exposure without one. Unlike the AUC over all
    requests together, it does not reward a model for telling requests apart.

    Args:
        aucs: ``[requests]``, as :func:`cascaderank.metrics.auc_metric` gives them; NaN where a
            request has not both classes.
        impressions: ``[requests]``, how many candidates of each the user saw.

    Returns:
        A scalar in [0, 1], float64; NaN if no request has both classes.

    Raises:
        ShapeError: if the tensors do not agree.

    Examples:
        >>> import torch
        >>> from cascaderank.metrics import auc_metric
        >>> scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 9.0], [1.0, 2.0, 3.0]])
        >>> clicks = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        >>> seen = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
        >>> gauc(auc_metric(scores, clicks, threshold=1, mask=seen), seen.sum(-1))
        tensor(0.6000, dtype=torch.float64)

    Source: DIN (arXiv 1706.06978), section 5.2, with requests for users.
    """
    if aucs.dim() != 1 or impressions.shape != aucs.shape:
        raise ShapeError(
            f"one AUC and one number of impressions per request: got {list(aucs.shape)} and "
            f"{list(impressions.shape)}"
        )
    defined = ~aucs.isnan()
    values, weights = aucs[defined].double(), impressions[defined].double()
    return (values * weights).sum() / weights.sum()
