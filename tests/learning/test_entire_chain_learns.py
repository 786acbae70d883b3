"""A planted chain whose filter a model trained on exposed candidates only cannot recover."""

import pytest
import torch

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade, build_stage
from cascaderank.metrics import recall_metric
from cascaderank.objectives import build_objective
from cascaderank.schema import FittedSchema
from cascaderank.stages import prune

LENGTH, SEEN, KEPT, TRAINED = 40, 8, 10, 96
NAMES = ("taste", "quality", "dull_1", "dull_2", "dull_3", "dull_4")
SCHEMA = FittedSchema(features=tuple({"name": n, "role": "item", "kind": "numeric"} for n in NAMES))


@pytest.fixture(scope="module")
def chain():
    """The system exposes candidates by quality; users click exposed candidates by taste."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(TRAINED + 160, LENGTH, len(NAMES), generator=g)
    filtered = x[..., 1] + 0.3 * torch.randn(x.shape[:-1], generator=g)
    ranks = filtered.argsort(-1, descending=True).argsort(-1)
    levels = 3 * (ranks < SEEN) + (ranks >= SEEN) * (ranks < 20)  # 3 exposed, 1 pre-ranked, 0
    clicks = torch.rand(x.shape[:-1], generator=g) < torch.sigmoid(3 * x[..., 0] - 1)
    return x, levels, (clicks & (levels == 3)).float()


def batch_of(chain, rows):
    x, levels, feedback = (t[rows] for t in chain)
    return RequestBatch(
        mask=torch.ones(levels.shape, dtype=torch.bool),
        items=dict(zip(NAMES, x.unbind(-1), strict=True)),
        labels=feedback,
        levels=levels,
        feedback=feedback,
        rows=torch.arange(len(x)),
    )


def trained(chain, name, stage_options=None, *, steps=40, rate=0.02, stage=None, **options):
    torch.manual_seed(0)
    if stage is None:
        stage = build_stage(name, SCHEMA, options=stage_options or {})
    cascade = Cascade({"pre": stage}, (KEPT,))
    task = {"stages": ["pre"], "quotas": (KEPT,), "ground_truth": 1}
    objective = build_objective("entire_chain", **task, exposed_level=3, **options)
    optimizer = torch.optim.Adam(stage.parameters(), lr=rate)
    batch = batch_of(chain, slice(TRAINED))
    for _ in range(steps):
        outputs = cascade.outputs(batch)
        out = objective(
            torch.stack([o.scores for o in outputs]),
            batch.labels,
            mask=batch.mask,
            levels=batch.levels,
            feedback=batch.feedback,
            rows=batch.rows,
            outputs=outputs,
        )
        optimizer.zero_grad()
        out.total.backward()
        optimizer.step()
    return stage.eval()


@torch.no_grad()
def click_recall(chain, stage):
    """Recall of clicks in the top KEPT of all candidates, on held-out requests."""
    batch = batch_of(chain, slice(TRAINED, None))
    recall = recall_metric(stage(batch), batch.feedback, m=KEPT, threshold=1)
    return recall.nanmean().item()


@pytest.fixture(scope="module")
def of_exposures(chain):
    """Click recall of the common baseline: one score for clicks, trained on exposed candidates."""
    return click_recall(chain, trained(chain, "mlp", event="click", exposures_only=True))


@pytest.mark.parametrize(
    ("name", "stage_options", "options"),
    [
        ("mlp", {}, {"event": "click"}),
        ("cold", {}, {"event": "click"}),
        ("fscd", {}, {"event": "click"}),
        ("cold", {"domains": 3}, {}),
        ("fscd", {"domains": 3}, {}),
        ("esmm", {}, {}),
        ("ecm", {}, {}),
        ("ecm", {"domains": 4}, {"preranked_level": 1}),
        ("ecmm", {"width": 16}, {"penalty": 1e-5}),
        ("ecmm", {"width": 16, "domains": 4}, {"preranked_level": 1}),
        ("ecm", {}, {"sampling": {"rates": [1, 0.8, 0.2]}}),
    ],
    ids=str,
)
def test_training_on_the_entire_chain_improves_click_recall(
    chain, of_exposures, name, stage_options, options
):
    assert click_recall(chain, trained(chain, name, stage_options, **options)) > of_exposures + 0.25


def test_the_common_baseline_is_better_than_chance(of_exposures):
    assert KEPT / LENGTH + 0.05 < of_exposures < 0.7


def test_cold_selects_the_informative_fields_and_keeps_its_recall(chain):
    stage = trained(chain, "cold", {"domains": 3, "hidden": [32]}, steps=100)
    names = stage.select_fields([batch_of(chain, slice(TRAINED))])
    assert len(names) == 3
    assert set(names) > {"taste", "quality"}
    torch.manual_seed(1)
    again = trained(chain, None, stage=stage.reduced(names))
    assert click_recall(chain, again) > click_recall(chain, stage) - 0.03


def test_fscd_selects_the_informative_fields_and_continues_training(chain):
    stage = trained(chain, "fscd", {"domains": 3}, steps=100, penalty=0.02)
    names = stage.select_fields(keep=2)
    assert set(names) == {"taste", "quality"}
    smaller = stage.reduced(names)
    again = trained(chain, None, stage=smaller, steps=20)
    assert click_recall(chain, again) > click_recall(chain, stage) - 0.03


def test_a_penalty_closes_gates_and_pruning_reduces_the_cost(chain, of_exposures):
    options = {"penalty": 0.05, "open_share": 0.3}
    stage = trained(chain, "ecmm", {"width": 16}, steps=120, rate=0.05, **options)
    small = prune(stage, SCHEMA)
    before, after = small.multiply_adds
    assert after.per_candidate < 0.85 * before.per_candidate
    assert small.parameters[1] < 0.85 * small.parameters[0]
    assert click_recall(chain, small.stage) == pytest.approx(click_recall(chain, stage))
    assert click_recall(chain, small.stage) > of_exposures + 0.2
