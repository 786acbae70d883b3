# Written by tools/generate.py from the modules of this package: do not edit.
from cascaderank.sorting.functions import log_permutation as log_permutation
from cascaderank.sorting.functions import log_top_k_probability as log_top_k_probability
from cascaderank.sorting.functions import permutation as permutation
from cascaderank.sorting.functions import relative_temperature as relative_temperature
from cascaderank.sorting.functions import top_k_probability as top_k_probability
from cascaderank.sorting.inputs import check_temperature as check_temperature
from cascaderank.sorting.operator import OPERATORS as OPERATORS
from cascaderank.sorting.operator import Operator as Operator
from cascaderank.sorting.operator import PermutationOperator as PermutationOperator
from cascaderank.sorting.operator import find_operator as find_operator
from cascaderank.sorting.bitonic import Bitonic as Bitonic
from cascaderank.sorting.lap_sum import LapSum as LapSum
from cascaderank.sorting.neural_sort import NeuralSort as NeuralSort
from cascaderank.sorting.odd_even import OddEven as OddEven
from cascaderank.sorting.sigmoid import Sigmoid as Sigmoid
from cascaderank.sorting.soft_sort import SoftSort as SoftSort
from cascaderank.sorting.threshold import Threshold as Threshold
