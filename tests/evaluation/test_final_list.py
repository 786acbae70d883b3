"""Metrics of the list that a cascade returns agree with ir-measures and with plain Python."""

import math

import ir_measures
import numpy as np
import pytest
import torch

from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.sources import SOURCES
from cascaderank.evaluation import Evaluator
from cascaderank.experiments.baselines import build_baseline
from cascaderank.metrics import named_metric
from cascaderank.runs.data import run_data
from cascaderank.selection import select
from cascaderank.settings.run import check_settings

QUOTAS = (12, 7)
MEASURES = {
    'ndcg(gain="linear")@5': "nDCG@5",
    'ndcg(gain="linear")@10': "nDCG@10",  # beyond the last quota
    'ndcg(gain="linear")': "nDCG",
    "map": "AP(rel=2)",
    "map@5": "AP(rel=2)@5",
    "mrr": "RR(rel=2)",
    "mrr@3": "RR(rel=2)@3",
    "precision@5": "P(rel=2)@5",
    "precision@10": "P(rel=2)@10",
    "recall@5": "R(rel=2)@5",
    "recall@10": "R(rel=2)@10",
    "hit_rate@3": "Success(rel=2)@3",
}
"""Metrics and the names of the same ones in ir-measures; relevant from grade 2."""
MEASURES = {named_metric(name).text: measure for name, measure in MEASURES.items()}


@pytest.fixture
def requests():
    """Distinct scores, grades and lists of 1 to 40 candidates."""
    g = torch.Generator().manual_seed(4)
    scores = torch.stack([torch.randperm(40, generator=g) for _ in range(2 * 30)])
    labels = torch.randint(0, 4, (30, 40), generator=g)
    labels[::7] = labels[::7].clamp(max=1)  # no ground truth
    mask = torch.arange(40) < torch.randint(1, 41, (30, 1), generator=g)
    return scores.view(2, 30, 40).double(), labels.double(), mask


def by_ir_measures(measures, scores, labels, mask, quotas):
    """Values by measure and request: qrels are all candidates, the run is the final list."""
    ids = [f"{i:04}" for i in range(len(labels))]
    lists = final_lists(scores, mask, quotas)
    qrels = [
        ir_measures.Qrel(ids[i], f"d{j}", int(labels[i, j])) for i, j in mask.nonzero().tolist()
    ]
    run = [
        ir_measures.ScoredDoc(ids[i], f"d{j}", -float(rank))
        for i, order in enumerate(lists)
        for rank, j in enumerate(order)
    ]
    parsed = [ir_measures.parse_measure(measure) for measure in measures]
    found = {}
    for value in ir_measures.iter_calc(parsed, qrels, run):
        found.setdefault(str(value.measure), {})[value.query_id] = value.value
    return {
        measure: np.array([found[str(p)][i] for i in ids])
        for measure, p in zip(measures, parsed, strict=True)
    }


def final_lists(scores, mask, quotas):
    """The final list of each request, best first, by sorting in plain Python."""
    lists = []
    for i in range(mask.shape[0]):
        order = [j for j in range(mask.shape[1]) if mask[i, j]]
        for stage, quota in zip(scores, quotas, strict=True):
            order = sorted(order, key=lambda j, s=stage[i]: -float(s[j]))[:quota]
        lists.append(order)
    return lists


def assert_same(values, measured, truth):
    for name, measure in MEASURES.items():
        np.testing.assert_array_equal(np.isnan(values[name]), ~truth, err_msg=name)
        got, want = values[name][truth], measured[measure][truth]
        np.testing.assert_allclose(got, want, rtol=1e-6, err_msg=name)


def test_the_final_list_is_measured_as_by_ir_measures(requests):
    scores, labels, mask = requests
    evaluator = Evaluator(quotas=QUOTAS, threshold=2, metrics=list(MEASURES))
    evaluator.update(scores, labels, mask=mask)
    values = evaluator.per_request()
    truth = ((labels >= 2) & mask).any(-1).numpy()
    assert 0 < truth.sum() < 30
    measured = by_ir_measures(MEASURES.values(), scores, labels, mask, QUOTAS)
    assert_same(values, measured, truth)
    report = evaluator.report(bootstrap=0)
    for name, measure in MEASURES.items():
        summary = report.metrics[name]
        assert summary.mean == pytest.approx(measured[measure][truth].mean(), rel=1e-6)
        assert summary.undefined == (~truth).sum()


def test_ndcg_of_the_final_list_by_hand():
    # The first stage cuts the best candidate, which the ideal ranking still contains.
    scores = torch.tensor([[[0.0, 1.0, 2.0, 3.0]], [[9.0, 3.0, 1.0, 2.0]]])
    labels = torch.tensor([[3.0, 1.0, 0.0, 2.0]])
    evaluator = Evaluator(quotas=(3, 2), k=1, metrics=["ndcg", "opa"])
    evaluator.update(scores, labels)
    report = evaluator.report(bootstrap=0)
    actual = 1 + 3 / math.log2(3)  # gains 2^1 - 1 and 2^2 - 1; the third passed is cut last
    ideal = 7 + 3 / math.log2(3) + 1 / 2
    assert report.metrics["ndcg"].mean == pytest.approx(actual / ideal)
    alone = (7 + 1 / math.log2(3) + 3 / 2) / ideal
    assert report.stages["stage_2"].over_all_candidates["ndcg"].mean == pytest.approx(alone)
    assert "opa" not in report.metrics


def test_recall_at_the_last_quota_is_the_joint_recall(requests):
    scores, labels, mask = requests
    evaluator = Evaluator(quotas=QUOTAS, k=4, metrics=["recall@7", "recall@40"])
    evaluator.update((scores / 5).floor(), labels, mask=mask)  # with ties
    values = evaluator.per_request()
    np.testing.assert_array_equal(values["recall@7"], values["joint_recall"])
    np.testing.assert_array_equal(values["recall@40"], values["joint_recall"])


def test_joint_recall_over_the_lists_where_something_is_decided(requests):
    scores, labels, mask = requests
    evaluator = Evaluator(quotas=QUOTAS, threshold=2)
    evaluator.update(scores, labels, mask=mask)
    report, values = evaluator.report(bootstrap=0), evaluator.per_request()
    longer = (mask.sum(-1) > 7).numpy() & ~np.isnan(values["joint_recall"])
    assert 0 < longer.sum() < np.sum(~np.isnan(values["joint_recall"]))
    decided = report.metrics["joint_recall_decided"]
    assert decided.mean == pytest.approx(values["joint_recall"][longer].mean())
    assert decided.requests == longer.sum()
    short = ~longer & ~np.isnan(values["joint_recall"])
    assert (values["joint_recall"][short] == 1).all()


def test_ndcg_has_the_requests_of_recall_and_the_others_are_counted(requests):
    scores, labels, mask = requests
    labels = torch.where(torch.arange(30)[:, None] % 5 == 0, 0, labels)
    evaluator = Evaluator(quotas=QUOTAS, k=3, metrics=["ndcg@5"])
    evaluator.update(scores, labels, mask=mask)
    report = evaluator.report(bootstrap=0)
    zeros = int((labels.masked_fill(~mask, 0).sum(-1) == 0).sum())
    assert report.metrics["joint_recall"].undefined == 0
    assert report.metrics["ndcg@5"].undefined == report.metrics["ndcg_linear"].undefined == zeros
    assert f"undefined for {zeros} of 30 requests with ground truth" in report.notes[0]


def test_real_runs_are_measured_as_by_ir_measures(data_folder, tmp_path):
    """Rank fusion in two stages over TREC DL 2019."""
    if not (data_folder / "trec_dl").is_dir():
        pytest.skip("no trec_dl")
    source = tmp_path / "trec"
    source.mkdir()
    for path in (data_folder / "trec_dl").glob("*dl19*"):
        (source / path.name).symlink_to(path)
    SOURCES["trec"](source, tmp_path / "log")
    settings = check_settings(
        {
            "data": {"path": str(tmp_path / "log"), "target": "label"},
            "relevance": {"threshold": 2},
            "stages": {
                "lexical": {"model": "linear", "quota": 100, "features": ["bm25*"]},
                "all": {"model": "linear", "quota": 20},
            },
        }
    )
    with run_data(settings) as data:
        cascade = build_baseline("rank_fusion:*_score", settings, data).cascade
        rows = np.arange(data.encoded.requests)
        batch = next(RequestLoader(data.encoded, rows, batch_size=len(rows)).epoch(0))
    # Ties are broken by the order of the list in the cascade, and by the id in ir-measures.
    scores = cascade(batch).double() - torch.arange(batch.mask.shape[1]) * 1e-12
    evaluator = Evaluator(quotas=(100, 20), threshold=2, metrics=list(MEASURES))
    evaluator.update(scores, batch.labels, mask=batch.mask)
    measured = by_ir_measures(MEASURES.values(), scores, batch.labels, batch.mask, (100, 20))
    values = evaluator.per_request()
    truth = values["ground_truth"] > 0
    assert_same(values, measured, truth)
    kept = select(scores, (100, 20), batch.mask)[-1]
    assert kept.sum(-1).tolist() == [20] * len(rows)
