"""Evaluation: metrics of a whole cascade, and the ground truth that each stage loses."""

from typing import Any

from cascaderank._moved import moved_name
from cascaderank.evaluation.attribution import Attribution, attribute
from cascaderank.evaluation.consistency import ranking_consistency
from cascaderank.evaluation.evaluate import evaluate
from cascaderank.evaluation.evaluator import Evaluator
from cascaderank.evaluation.explain import (
    Explanation,
    FeatureEffect,
    ItemExplanation,
    MarginalComparison,
    Rescue,
    explain,
)
from cascaderank.evaluation.exposure import exposure_probability, soft_exposure_probability
from cascaderank.evaluation.exposure_log import ExposureLog
from cascaderank.evaluation.fates import Fates, fates
from cascaderank.evaluation.feature_effects import FeatureEffects, feature_effects
from cascaderank.evaluation.gauc import gauc
from cascaderank.evaluation.importance import (
    FeatureImportance,
    Importance,
    permutation_importance,
)
from cascaderank.evaluation.item_retrieval import CatalogueReport, evaluate_catalogue, list_metrics
from cascaderank.evaluation.lost import LostAtStage, LostGroundTruth, lost_ground_truth
from cascaderank.evaluation.off_policy import off_policy_difference, off_policy_value
from cascaderank.evaluation.off_policy_report import OffPolicyDifference, OffPolicyValue, Overlap
from cascaderank.evaluation.profile import Profile, StageProfile, Timing, profile_cascade
from cascaderank.evaluation.report import Report, StageReport
from cascaderank.evaluation.slices import Grouping, Slice, weak_slices
from cascaderank.evaluation.statistics.bootstrap import (
    Summary,
    bootstrap_interval,
    bootstrap_intervals,
    two_way_bootstrap,
)
from cascaderank.evaluation.statistics.significance import (
    PairedTest,
    UnpairedTest,
    holm,
    paired_test,
    unpaired_test,
)
from cascaderank.evaluation.utility import funnel_utility
from cascaderank.evaluation.vector_search import ItemSets, exact_search, index_search

__all__ = [
    "Attribution",
    "CatalogueReport",
    "Evaluator",
    "Explanation",
    "ExposureLog",
    "Fates",
    "FeatureEffect",
    "FeatureEffects",
    "FeatureImportance",
    "Grouping",
    "Importance",
    "ItemExplanation",
    "ItemSets",
    "LostAtStage",
    "LostGroundTruth",
    "MarginalComparison",
    "OffPolicyDifference",
    "OffPolicyValue",
    "Overlap",
    "PairedTest",
    "Profile",
    "Report",
    "Rescue",
    "Slice",
    "StageProfile",
    "StageReport",
    "Summary",
    "Timing",
    "UnpairedTest",
    "attribute",
    "bootstrap_interval",
    "bootstrap_intervals",
    "evaluate",
    "evaluate_catalogue",
    "exact_search",
    "explain",
    "exposure_probability",
    "fates",
    "feature_effects",
    "funnel_utility",
    "gauc",
    "holm",
    "index_search",
    "list_metrics",
    "lost_ground_truth",
    "off_policy_difference",
    "off_policy_value",
    "paired_test",
    "permutation_importance",
    "profile_cascade",
    "ranking_consistency",
    "soft_exposure_probability",
    "two_way_bootstrap",
    "unpaired_test",
    "weak_slices",
]


def __getattr__(name: str) -> Any:
    return moved_name("evaluation", name)  # tables, which are in cascaderank.reports now
