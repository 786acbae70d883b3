"""Entire chain of a synthetic funnel: all candidates with clicks and their true probabilities."""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from cascaderank.data.funnel.ceiling import best_score
from cascaderank.data.funnel.funnel_settings import FunnelSettings
from cascaderank.data.funnel.traffic import Block, lists
from cascaderank.data.ragged import offsets_of

_CLICK_OFFSET = 1.0  # log-odds of a click on an exposed candidate: its utility minus this


def with_chain(
    settings: FunnelSettings, block: Block, number: int, frame: pl.DataFrame
) -> pl.DataFrame:
    r"""Add clicks as ``feedback``, and true probabilities as ``label``.

    With the utility :math:`u`, the sum of all parts; the noise-free score :math:`m_g` of logging
    stage :math:`g`, its cut-off :math:`c_g` in this request and the scale :math:`s` of its noise:

    .. math::
        P(\text{exposed}) = \prod_g \sigma\left(\frac{m_g - c_g}{s}\right), \qquad
        P(\text{clicked}) = P(\text{exposed}) \, \sigma(u - 1)

    Args:
        settings: settings of the funnel; ``chain`` selects the probability of exposure or of a
            click as the label.
        block: all candidates of some requests.
        number: number of the block, see :func:`~cascaderank.data.funnel.traffic.draw_block`.
        frame: the requests of the block, one row each.

    Returns:
        The frame with the columns ``feedback`` (1 for a click, else 0) and ``label`` (in [0, 1]).

    Source: this project.
    """
    choice, exposed = block.choice, block.choice.levels == len(settings.level_names) - 1
    click_rate = expit(block.parts.sum(0) - _CLICK_OFFSET)
    # A separate random stream, so that clicks do not change the logged candidates.
    rng = np.random.default_rng([settings.seed, 3, number])
    clicked = exposed & (rng.random(exposed.shape) < click_rate)
    truth = best_score(settings, block, (1.0,) * settings.stages)
    if settings.chain == "click":
        truth = truth * click_rate
    columns: dict[str, NDArray[np.float32]] = {
        "feedback": clicked.astype(np.float32),
        "label": truth.astype(np.float32),
    }
    offsets = offsets_of(choice.mask.sum(1))
    return frame.with_columns(
        lists(values[choice.mask], offsets).alias(name) for name, values in columns.items()
    )
