"""GAUC: mean AUC of the requests, weighted by their impressions."""

from torch import Tensor

from cascaderank.errors import ShapeError


def gauc(aucs: Tensor, impressions: Tensor) -> Tensor:
    r"""Return the mean AUC of the requests, weighted by their impressions.

    .. math:: \text{GAUC} = \frac{\sum_r n_r \, \text{AUC}_r}{\sum_r n_r}

    over the requests with at least one clicked and one non-clicked impression. Unlike the AUC of
    all candidates pooled together, it does not reward score differences between requests.

    Args:
        aucs: ``[requests]``, AUC of each request from :func:`cascaderank.metrics.auc_metric`; NaN
            where a request has only one class.
        impressions: ``[requests]``, number of candidates of each request that the user saw.

    Returns:
        A scalar in [0, 1], float64; NaN if no request has both classes.

    Raises:
        ShapeError: if the shapes of the tensors do not agree.

    Examples:
        >>> import torch
        >>> from cascaderank.metrics import auc_metric
        >>> scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 9.0], [1.0, 2.0, 3.0]])
        >>> clicks = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        >>> seen = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
        >>> gauc(auc_metric(scores, clicks, threshold=1, mask=seen), seen.sum(-1))
        tensor(0.6000, dtype=torch.float64)

    Source: DIN (arXiv 1706.06978), section 5.2, with requests in place of users.
    """
    if aucs.dim() != 1 or impressions.shape != aucs.shape:
        raise ShapeError(
            "aucs and impressions must both be [requests]; "
            f"got {list(aucs.shape)} and {list(impressions.shape)}"
        )
    defined = ~aucs.isnan()
    values, weights = aucs[defined].double(), impressions[defined].double()
    return (values * weights).sum() / weights.sum()
