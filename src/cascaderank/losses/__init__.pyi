# Written by tools/generate.py from the modules of this package: do not edit.
from collections.abc import Callable
from torch import Tensor
from cascaderank.losses._cuts import check_cut_sizes as check_cut_sizes
from cascaderank.losses._pairs import Preferences as Preferences
from cascaderank.losses._pairs import best_dcg as best_dcg
from cascaderank.losses._pairs import ndcg_lambdas as ndcg_lambdas
from cascaderank.losses._pairs import pessimistic_rank as pessimistic_rank
from cascaderank.losses._targets import ground_truth_targets as ground_truth_targets
from cascaderank.registry import Registry as Registry
LOSSES: Registry[Callable[..., Tensor]]
from cascaderank.losses.approx_ndcg import approx_ndcg_loss as approx_ndcg_loss
from cascaderank.losses.arf import arf_loss as arf_loss
from cascaderank.losses.bce import bce_loss as bce_loss
from cascaderank.losses.bpr import bpr_loss as bpr_loss
from cascaderank.losses.conditional_survival import conditional_survival_loss as conditional_survival_loss
from cascaderank.losses.cut_likelihood import cut_likelihood_loss as cut_likelihood_loss
from cascaderank.losses.inclusion_policy_gradient import inclusion_policy_gradient_loss as inclusion_policy_gradient_loss
from cascaderank.losses.lambda_ndcg import lambda_ndcg_loss as lambda_ndcg_loss
from cascaderank.losses.lambda_recall import lambda_recall_loss as lambda_recall_loss
from cascaderank.losses.lambdaloss import lambdaloss_loss as lambdaloss_loss
from cascaderank.losses.lambdarank import lambdarank_loss as lambdarank_loss
from cascaderank.losses.level_contrastive import level_contrastive_loss as level_contrastive_loss
from cascaderank.losses.listmle import listmle_loss as listmle_loss
from cascaderank.losses.listnet import listnet_loss as listnet_loss
from cascaderank.losses.neural_ndcg import neural_ndcg_loss as neural_ndcg_loss
from cascaderank.losses.permutation import permutation_loss as permutation_loss
from cascaderank.losses.pirank import pirank_loss as pirank_loss
from cascaderank.losses.pointwise_softmax import pointwise_softmax_loss as pointwise_softmax_loss
from cascaderank.losses.ranknet import ranknet_loss as ranknet_loss
from cascaderank.losses.relaxed_recall import relaxed_recall_loss as relaxed_recall_loss
from cascaderank.losses.sampled_softmax import sampled_softmax_loss as sampled_softmax_loss
from cascaderank.losses.survival import survival_loss as survival_loss
from cascaderank.losses.top_k import top_k_loss as top_k_loss
