"""NeuralSort by its dense permutation matrix: the baseline of the fast implementation."""

from torch import Tensor

from cascaderank.sorting import OPERATORS, Operator
from cascaderank.sorting.neural_sort import NeuralSort
from cascaderank.sorting.rows import log_top_k_of_rows


@OPERATORS.register
class DenseNeuralSort(Operator):
    """Top-k probabilities as sums of the rows of the materialised permutation."""

    def log_top_k(
        self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows = NeuralSort().log_permutation(scores, temperature=temperature, mask=mask)
        return log_top_k_of_rows(rows, k, mask)

    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        return NeuralSort().temperature_scale(scores, mask=mask)
