"""The entire chain of a synthetic funnel: every candidate, its clicks, and how likely they were."""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from cascaderank.data.funnel.ceiling import best_score
from cascaderank.data.funnel.settings import FunnelSettings
from cascaderank.data.funnel.traffic import Block, lists
from cascaderank.data.ragged import offsets_of

_LESS = 1.0  # log-odds of a click on what is shown are its utility less this


def with_chain(
    settings: FunnelSettings, block: Block, number: int, frame: pl.DataFrame
) -> pl.DataFrame:
    r"""Add clicks as ``feedback``, and the truth as ``label``.

    With utility :math:`u`, the sum of all parts, and the cuts :math:`c_g` of this request,

    .. math::
        P(\text{exposed}) = \prod_g \sigma\left(\frac{m_g - c_g}{s}\right), \qquad
        P(\text{clicked}) = P(\text{exposed}) \, \sigma(u - 1)

    Args:
        settings: of the funnel; ``chain`` says which of the two is the label.
        block: all candidates of some requests.
        number: of the block.
        frame: its requests.

    Source: this project.
    """
    choice, shown = block.choice, block.choice.levels == len(settings.level_names) - 1
    if_shown = expit(block.parts.sum(0) - _LESS)
    # Of a stream of their own: what is logged is the same with and without clicks.
    rng = np.random.default_rng([settings.seed, 3, number])
    clicked = shown & (rng.random(shown.shape) < if_shown)
    truth = best_score(settings, block, (1.0,) * settings.stages)
    if settings.chain == "click":
        truth = truth * if_shown
    columns: dict[str, NDArray[np.float32]] = {
        "feedback": clicked.astype(np.float32),
        "label": truth.astype(np.float32),
    }
    offsets = offsets_of(choice.mask.sum(1))
    return frame.with_columns(
        lists(values[choice.mask], offsets).alias(name) for name, values in columns.items()
    )
