"""Boosted trees stage: decision trees that are fitted to the gradient of any objective."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError, RunError
from cascaderank.extras import require
from cascaderank.layers.feature_matrix import category_columns, feature_matrix, matrix_features
from cascaderank.limits import LARGEST_FLOAT32
from cascaderank.schema import Feature, FittedSchema, abridged
from cascaderank.stages import STAGES


@STAGES.register
@final
class BoostedTrees(nn.Module):
    r"""Score a candidate by the sum of the values that decision trees give to its features.

    A new stage has no trees and scores 0. In training, the optimizer adds trees: it collects the
    gradient :math:`g_i = \partial L / \partial s_i` of the objective with respect to the scores of
    the candidates, and fits the next tree to it by :meth:`fit_tree`. Every objective can train it,
    jointly with the other stages of the cascade, which can be trees or neural networks.

    Trees use numbers, vectors and single categories of requests and candidates. Histories and
    features with several categories are not used. The trees are stored in the state dict as
    LightGBM's text in a ``uint8`` tensor.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use.
        trees_per_epoch: number of trees that are fitted in an epoch, each to its part of the
            requests; at most one per batch.
        num_leaves: maximum number of leaves of a tree, at least 2.
        learning_rate: shrinkage: factor of the values of each tree, positive.
        min_data_in_leaf: minimum number of candidates in a leaf, weighted by their curvature.
        lambda_l2: penalty of the values of leaves, in candidates of mean curvature, at least 0.
        feature_fraction: fraction of the features that each tree uses, drawn at random, in (0, 1].

    Raises:
        ConfigError: if no feature can be used, or an option is out of range.
        MissingExtraError: if LightGBM is not installed.

    Source: Friedman 2001 and 2002 (gradient boosting, and on parts of the data); LightGBM's trees;
    boosting of several stages by one objective: this project.
    """

    _eager: ClassVar[Callable[["BoostedTrees", RequestBatch], Tensor]]

    def __init__(
        self,
        schema: FittedSchema,
        features: Sequence[Feature],
        *,
        trees_per_epoch: int = 5,
        num_leaves: int = 31,
        learning_rate: float = 0.05,
        min_data_in_leaf: int = 20,
        lambda_l2: float = 1.0,
        feature_fraction: float = 1.0,
    ) -> None:
        super().__init__()
        _lightgbm()
        # Not a decorator: torch.compiler.disable imports the compiler, which takes a second.
        disable: Any = torch.compiler.disable
        BoostedTrees._eager = disable(BoostedTrees._scores)
        options = {
            "num_leaves": num_leaves,
            "learning_rate": learning_rate,
            "min_data_in_leaf": min_data_in_leaf,
            "lambda_l2": lambda_l2,
            "feature_fraction": feature_fraction,
        }
        _check_ranges({"trees_per_epoch": trees_per_epoch, **options})
        self.features = matrix_features(features)
        if not self.features:
            raise ConfigError(
                "boosted_trees needs a feature of requests or candidates that is a number, a "
                f"vector or one category; got {abridged([f.name for f in features])}"
            )
        self._categories = category_columns(schema, self.features)
        self.trees_per_epoch = trees_per_epoch
        self._options = options
        self._booster: Any = None
        self._last: tuple[NDArray[np.float32], Tensor, Tensor] | None = None

    @property
    def trees(self) -> int:
        """Number of trees."""
        return 0 if self._booster is None else int(self._booster.num_trees())

    def extra_repr(self) -> str:
        """Return the number of trees and the features that they use."""
        return f"trees={self.trees}, features={abridged([f.name for f in self.features])}"

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are 0.

        In training, the scores require a gradient, see :meth:`take_gradient`.
        """
        return BoostedTrees._eager(self, batch)

    def _scores(self, batch: RequestBatch) -> Tensor:
        scores = torch.zeros(batch.mask.shape, device=batch.mask.device)
        if scores.is_meta:  # operations are counted without values
            return scores
        values = feature_matrix(batch, self.features)
        if self.trees and len(values):
            predicted = self._booster.predict(values, num_threads=torch.get_num_threads())
            scores[batch.mask] = torch.from_numpy(predicted).to(scores)
        if self.training and torch.is_grad_enabled():
            scores.requires_grad_()
            self._last = values, scores, batch.mask
        return scores

    def take_gradient(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return features and gradient of the candidates of the last batch, and forget them.

        Returns:
            The matrix of features ``[candidates, columns]`` and the gradient of the scores
            ``[candidates]``; ``None`` if the last batch was not scored in training mode, or its
            scores have no gradient.
        """
        last, self._last = self._last, None
        gradient = None if last is None else last[1].grad
        if last is None or gradient is None:
            return None
        values, _, mask = last
        return values, gradient[mask].float().cpu().numpy()

    def fit_tree(
        self, values: NDArray[np.float32], gradient: NDArray[np.float32], *, seed: int
    ) -> None:
        r"""Add a tree that is fitted to a gradient.

        The value of a leaf is a Newton step with shrinkage :math:`\eta`,

        .. math:: -\eta \frac{\sum_i g_i / h}{\sum_i h_i / h + \lambda}, \qquad
                  h_i = \tfrac14 (|g_i| + \overline{|g|}), \qquad h = \overline{h_i},

        over the candidates of the leaf. For logistic losses of scores without a temperature,
        :math:`|g_i| / 2` has the expectation of the second derivative :math:`p (1 - p)`; the mean
        keeps gradients of one sign apart that differ in size. The step does not depend on the scale
        of the objective, and is less than :math:`4 \eta`.

        Args:
            values: features ``[candidates, columns]``, as of :meth:`take_gradient`.
            gradient: gradient of the scores, ``[candidates]``; finite.
            seed: seed of the choice of features.
        """
        size = np.abs(gradient).astype(np.float64)
        mean = size.mean() if len(size) else 0.0
        if not mean > 0:  # nothing to learn
            return
        scaled, curvature = 2 * gradient / mean, (size / mean + 1) / 2
        data = _lightgbm().Dataset(
            values,
            np.zeros(len(values), np.float32),
            categorical_feature=self._categories,
            params={"verbosity": -1},
        )
        self._booster = _lightgbm().train(
            {
                **self._options,
                "objective": lambda *_: (scaled, curvature),
                "seed": seed,
                "deterministic": True,
                "force_row_wise": True,
                "num_threads": torch.get_num_threads(),
                "verbosity": -1,
            },
            data,
            num_boost_round=1,
            init_model=self._booster,
        )

    def get_extra_state(self) -> Tensor:
        """Return the trees as LightGBM's text, ``[bytes]`` uint8; empty without trees."""
        text = "" if self._booster is None else self._booster.model_to_string()
        return torch.frombuffer(bytearray(text, "utf-8"), dtype=torch.uint8) if text else _EMPTY

    def set_extra_state(self, state: Any) -> None:
        """Replace the trees by those of a state.

        Raises:
            RunError: if the state does not hold trees over the features of the stage.
        """
        if not isinstance(state, Tensor) or state.dtype != torch.uint8:
            raise RunError("expected the text of boosted trees as a uint8 tensor")
        self._last = None
        if not len(state):
            self._booster = None
            return
        try:
            text = bytes(state.cpu().numpy()).decode()
            booster = _lightgbm().Booster(model_str=text)
        except (_lightgbm().basic.LightGBMError, UnicodeDecodeError) as error:
            raise RunError(f"the boosted trees cannot be read ({error})") from None
        columns = sum(f.width or 1 for f in self.features)
        if booster.num_feature() != columns:
            raise RunError(
                f"expected boosted trees over {columns} columns, found {booster.num_feature()}"
            )
        self._booster = booster


def _lightgbm() -> Any:
    return require("lightgbm", extra="trees")


_EMPTY = torch.zeros(0, dtype=torch.uint8)
_TINY, _INT32 = 2.0**-126, 2**31 - 1
_RANGES = {
    "trees_per_epoch": (1, _INT32, "at least 1"),
    "num_leaves": (2, 131_072, "from 2 to 131,072"),
    "learning_rate": (_TINY, 1_000, "positive and at most 1,000"),
    "min_data_in_leaf": (1, _INT32, "from 1 to 2,147,483,647"),
    "lambda_l2": (0, LARGEST_FLOAT32, "at least 0"),
    "feature_fraction": (_TINY, 1, "above 0 and at most 1"),
}


def _check_ranges(options: Mapping[str, float]) -> None:
    for name, value in options.items():
        low, high, expected = _RANGES[name]
        if not low <= value <= high:
            raise ConfigError(f"{name} must be {expected}; got {value}")
