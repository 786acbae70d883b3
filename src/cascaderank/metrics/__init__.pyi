# Written by tools/generate.py from the modules of this package: do not edit.
from collections.abc import Callable
from torch import Tensor
from cascaderank.metrics._named import NamedMetric as NamedMetric
from cascaderank.metrics._named import named_metric as named_metric
from cascaderank.metrics._registered import ALIASES as ALIASES
from cascaderank.metrics._registered import CONSISTENCY as CONSISTENCY
from cascaderank.metrics._registered import METRICS as METRICS
from cascaderank.metrics._registered import NAMED as NAMED
from cascaderank.metrics.auc import auc_metric as auc_metric
from cascaderank.metrics.average_precision import average_precision_metric as average_precision_metric
from cascaderank.metrics.cascade_recall import cascade_recall_metric as cascade_recall_metric
from cascaderank.metrics.hit_rate import hit_rate_metric as hit_rate_metric
from cascaderank.metrics.kendall_tau import kendall_tau_metric as kendall_tau_metric
from cascaderank.metrics.ndcg import ndcg_metric as ndcg_metric
from cascaderank.metrics.opa import opa_metric as opa_metric
from cascaderank.metrics.precision import precision_metric as precision_metric
from cascaderank.metrics.recall import recall_metric as recall_metric
from cascaderank.metrics.reciprocal_rank import reciprocal_rank_metric as reciprocal_rank_metric
