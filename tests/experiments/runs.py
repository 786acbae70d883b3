"""Synthetic results of runs, for tests without training."""

import numpy as np

from cascaderank.experiments.results import MethodRuns


def runs_of(means, *, requests=400, seeds=3, folds=1, stages=("retrieval", "ranking"), seed=0):
    """Results by method with approximately these joint recalls. Names that start with "random" or
    "feature" are baselines. Every tenth request has no ground truth."""
    rng = np.random.default_rng(seed)
    ease = [rng.normal(0, 0.05, requests) for _ in range(folds)]
    found = {}
    for name, mean in means.items():
        trained = not name.startswith(("random", "feature"))
        found[name] = MethodRuns()
        for s in range(seeds if trained else 1):
            luck = rng.normal(0, 0.004) if trained else 0.0
            for of_fold in ease:
                joint = rng.binomial(10, np.clip(mean + luck + of_fold, 0, 1)) / 10
                joint[::10] = np.nan
                values = found[name].values[s]
                values["joint_recall"].append(joint)
                values["reachable"].append(np.where(np.isnan(joint), np.nan, 1.0))
                for place, stage in enumerate(stages):
                    left = len(stages) - 1 - place
                    values[f"survival/{stage}"].append(joint ** (1 / (1 + left)))
                    values[f"recall/{stage}"].append(joint ** (1 / (2 + left)))
                    values[f"ndcg_linear/{stage}"].append(joint * 0.8)
        if trained:
            found[name].seconds = [12.0 + i for i in range(seeds * folds)]
            found[name].peak_memory = [250_000_000] * (seeds * folds)
            found[name].tuning = [
                {
                    "chosen": {"train.learning_rate": 0.01 if i % 2 else 0.03},
                    "tried": [
                        {"values": {"train.learning_rate": v}, "validation": v, "seconds": 3.0}
                        for v in (0.01, 0.03)
                    ],
                    "at_edge": ["train.learning_rate"] if i % 2 == 0 else [],
                }
                for i in range(folds)
            ]
    return found


def searched(runs, *, metrics=("recall@20", "recall@50"), seed=0):
    """The same results, with full-catalogue retrieval by every trained method."""
    rng = np.random.default_rng(seed)
    for seen in runs.values():
        for values in seen.values.values() if seen.seconds else ():
            for place, metric in enumerate(metrics):
                values[f"catalogue/{metric}"] = [
                    np.clip(of * (0.2 + 0.1 * place) + rng.normal(0, 0.01), 0, 1)
                    for of in values["joint_recall"]
                ]
    return runs


def with_final_lists(runs, *, undecided=slice(0, 200), stages=("retrieval", "ranking")):
    """The same results with NDCG of the final list and of stages; the first lists are not decided.

    The metrics are those of ``evaluation.metrics = ["ndcg@5", "opa"]``.
    """
    for results in runs.values():
        for values in results.values.values():
            joint = values["joint_recall"]
            values["joint_recall_decided"] = [v.copy() for v in joint]
            for of_fold in values["joint_recall_decided"]:
                of_fold[undecided] = np.nan
            values["ndcg_linear"] = [v * 0.5 for v in joint]
            values["ndcg@5"] = [v**2 for v in joint]
            for metric in ("ndcg@5", "opa"):
                for stage in stages:
                    values[f"all_candidates/{metric}/{stage}"] = joint
    return runs
