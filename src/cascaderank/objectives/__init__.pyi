# Written by tools/generate.py from the modules of this package: do not edit.
from collections.abc import Callable
from cascaderank.objectives._annealed_weight import AnnealedWeight as AnnealedWeight
from cascaderank.objectives._build import OBJECTIVES as OBJECTIVES
from cascaderank.objectives._build import build_objective as build_objective
from cascaderank.objectives._objective import CascadeInputs as CascadeInputs
from cascaderank.objectives._objective import Objective as Objective
from cascaderank.objectives._objective import ObjectiveOutput as ObjectiveOutput
from cascaderank.objectives._objective import Term as Term
from cascaderank.objectives._sorting import Annealed as Annealed
from cascaderank.objectives._sorting import Temperature as Temperature
from cascaderank.objectives.arf import arf_objective as arf_objective
from cascaderank.objectives.arf_v2 import arf_v2_objective as arf_v2_objective
from cascaderank.objectives.bce import bce_objective as bce_objective
from cascaderank.objectives.conditional_survival import conditional_survival_objective as conditional_survival_objective
from cascaderank.objectives.cut_likelihood import cut_likelihood_objective as cut_likelihood_objective
from cascaderank.objectives.dftopk import dftopk_objective as dftopk_objective
from cascaderank.objectives.entire_chain import entire_chain_objective as entire_chain_objective
from cascaderank.objectives.fs_lambdaloss import fs_lambdaloss_objective as fs_lambdaloss_objective
from cascaderank.objectives.fs_lambdarank import fs_lambdarank_objective as fs_lambdarank_objective
from cascaderank.objectives.fs_ranknet import fs_ranknet_objective as fs_ranknet_objective
from cascaderank.objectives.icc import icc_objective as icc_objective
from cascaderank.objectives.lcron import lcron_objective as lcron_objective
from cascaderank.objectives.level_contrastive import level_contrastive_objective as level_contrastive_objective
from cascaderank.objectives.permutation import permutation_objective as permutation_objective
from cascaderank.objectives.rankflow import rankflow_objective as rankflow_objective
from cascaderank.objectives.sampled_softmax import sampled_softmax_objective as sampled_softmax_objective
