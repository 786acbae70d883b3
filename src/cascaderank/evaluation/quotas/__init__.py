"""Quotas under a budget: recall of every vector, costs, choice, and uneven allocation."""

from cascaderank.evaluation.quotas.quota_choice import (
    Goal,
    QuotaChoice,
    QuotaPoint,
    choose_quotas,
    quota_front,
)
from cascaderank.evaluation.quotas.quota_evaluation import report_quotas
from cascaderank.evaluation.quotas.quota_report import (
    EvaluatedQuotas,
    QuotaReport,
    UnevenReport,
)
from cascaderank.evaluation.quotas.quota_sweep import QuotaRecalls, quota_grids, quota_recalls
from cascaderank.evaluation.quotas.scored_requests import ScoredRequests, score_requests
from cascaderank.evaluation.quotas.stage_costs import (
    CostTable,
    StageCost,
    latency_costs,
    measured_costs,
    product_costs,
)
from cascaderank.evaluation.quotas.uneven_quotas import (
    CutRule,
    UnevenQuotas,
    UnevenResult,
    fit_uneven_quotas,
)

__all__ = [
    "CostTable",
    "CutRule",
    "EvaluatedQuotas",
    "Goal",
    "QuotaChoice",
    "QuotaPoint",
    "QuotaRecalls",
    "QuotaReport",
    "ScoredRequests",
    "StageCost",
    "UnevenQuotas",
    "UnevenReport",
    "UnevenResult",
    "choose_quotas",
    "fit_uneven_quotas",
    "latency_costs",
    "measured_costs",
    "product_costs",
    "quota_front",
    "quota_grids",
    "quota_recalls",
    "report_quotas",
    "score_requests",
]
