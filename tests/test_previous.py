"""Outputs of the previous stage as inputs: ranks, serving on survivors, settings, and learning."""

import math

import pytest
import torch

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade, build_stage
from cascaderank.errors import ConfigError
from cascaderank.evaluation.profile import profile_cascade
from cascaderank.previous import batch_with_previous, schema_with_previous
from cascaderank.runs.item_vectors import vector_stage
from cascaderank.runs.load import load_run
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES
from cascaderank.training.train_run import train_run

SCHEMA = FittedSchema(
    features=(
        Feature(name="video", role="item", kind="categorical"),
        Feature(name="price", role="item", kind="numeric"),
        Feature(name="user", role="request", kind="categorical"),
        Feature(name="seen", role="history", kind="categorical", vocabulary="video"),
    ),
    vocabularies={"video": tuple(range(9)), "user": (1, 2, 3)},
)


def make_batch(requests=4, length=12):
    g = torch.Generator().manual_seed(3)
    lengths = torch.tensor([length, 7, 2, 1])[:requests, None]
    return RequestBatch(
        mask=torch.arange(length) < lengths,
        items={
            "video": torch.randint(10, (requests, length), generator=g),
            "price": torch.randn(requests, length, generator=g),
        },
        request={"user": torch.randint(4, (requests,), generator=g)},
        history={"seen": torch.randint(10, (requests, 3), generator=g)},
        history_mask={"history": torch.ones(requests, 3).bool()},
    )


def rank_oracle(scores, quotas, mask):
    """Sort the candidates that are left at each stage; place the others among them."""
    left = [j for j, real in enumerate(mask) if real]
    for row, quota in zip(scores[:-1], quotas, strict=False):
        left = sorted(left, key=lambda j: (-row[j], j))[:quota]
    last = scores[-1]
    return [
        1 + sum((last[i], -i) > (last[j], -j) for i in left if i != j) for j in range(len(mask))
    ]


@pytest.mark.parametrize("earlier", [1, 2, 3])
def test_ranks_count_the_candidates_that_the_previous_stage_received(earlier):
    batch, quotas = make_batch(), (8, 5, 3)
    g = torch.Generator().manual_seed(earlier)
    scores = [torch.randint(6, (4, 12), generator=g).float() for _ in range(earlier)]  # with ties
    found = batch_with_previous(batch, ["score", "rank"], scores, quotas[:earlier]).items
    assert found["previous_score"].equal(scores[-1])
    for b in range(4):
        rows = [s[b].tolist() for s in scores]
        want = rank_oracle(rows, quotas, batch.mask[b].tolist())
        for j in batch.mask[b].nonzero().flatten().tolist():
            assert found["previous_rank"][b, j].item() == pytest.approx(math.log(want[j]))


def cascade_of(model="mlp", outputs=("score", "rank")):
    torch.manual_seed(1)
    stages = {"a": build_stage("two_tower", SCHEMA)}
    for name in ("b", "c"):
        stages[name] = build_stage(model, SCHEMA, previous=outputs)
    return Cascade(stages, (8, 5, 3), previous={"b": outputs, "c": outputs}).eval()


@pytest.mark.parametrize("outputs", [("score",), ("rank",), ("rank", "score")])
def test_a_stage_that_scores_survivors_alone_keeps_the_same(outputs):
    """As a server does: each stage reads only what is left, with the ranks that are known then."""
    cascade, batch = cascade_of(outputs=outputs), make_batch()
    kept = cascade.select(cascade(batch), batch.mask)
    for b in range(len(batch)):
        left, last, ranks = batch.mask[b].nonzero().flatten(), None, None
        for t, (name, stage) in enumerate(cascade.stages.items()):
            given = {"previous_score": last, "previous_rank": ranks}
            items = {n: v[b : b + 1, left] for n, v in batch.items.items()}
            if t:
                items |= {
                    n: v[None] for n, v in given.items() if n.removeprefix("previous_") in outputs
                }
            served = RequestBatch(
                mask=torch.ones(1, len(left)).bool(),
                items=items,
                request={n: v[b : b + 1] for n, v in batch.request.items()},
                history={n: v[b : b + 1] for n, v in batch.history.items()},
                history_mask={n: v[b : b + 1] for n, v in batch.history_mask.items()},
            )
            scores = stage(served)[0].detach()
            order = scores.argsort(descending=True, stable=True)[: cascade.quotas[t]]
            left, last = left[order], scores[order]
            ranks = torch.arange(1, len(order) + 1).float().log()
            assert sorted(left.tolist()) == kept[t, b].nonzero().flatten().tolist(), name


@pytest.mark.parametrize("model", list(STAGES))
def test_every_stage_reads_the_outputs(model):
    cascade, batch = cascade_of(model), make_batch()
    scores = cascade(batch)
    assert all(o.scores.equal(s) for o, s in zip(cascade.outputs(batch), scores, strict=True))
    if model == "boosted_trees":
        assert len(cascade.stages["b"].features) == 5
        return
    without = batch_with_previous(batch, ["score", "rank"], [torch.zeros(4, 12)], (8,))
    assert not cascade.stages["b"](without)[batch.mask].equal(scores[1][batch.mask])


def test_the_previous_stage_has_no_gradient_of_its_outputs():
    cascade, batch = cascade_of(), make_batch()
    cascade(batch)[1][batch.mask].sum().backward()
    assert not any(p.grad.any() for p in cascade.stages["a"].parameters())
    assert any(p.grad.any() for p in cascade.stages["b"].parameters())


def test_mistakes_are_named(settings_for, tmp_path):
    for key, value, message in (
        ("retrieval", ["score"], "stages.retrieval.previous: the first stage has no previous"),
        ("ranking", ["score", "score"], "must not repeat an output; got .'score', 'score'."),
        ("ranking", ["level"], "'score' or 'rank'"),
    ):
        with pytest.raises(ConfigError, match=message):
            settings_for(tmp_path, **{f"stages__{key}__previous": value})
    taken = replace_feature(SCHEMA, "price", "previous_rank")
    with pytest.raises(ConfigError, match=r"a feature 'previous_rank'.*rename the column"):
        schema_with_previous(taken, ["rank"])
    with pytest.raises(ConfigError, match=r"'a' has no previous stage; those that have: .'b'."):
        Cascade(
            {"a": torch.nn.Identity(), "b": torch.nn.Identity()}, (2, 1), previous={"a": ["rank"]}
        )


def test_a_stage_that_reads_the_previous_one_has_no_vectors_of_items():
    cascade = cascade_of("two_tower")
    assert vector_stage(cascade, None) == "a"
    with pytest.raises(ConfigError, match="stage 'b' reads outputs of the previous stage, so an"):
        vector_stage(cascade, "b")


def replace_feature(schema, name, other):
    features = tuple(
        f.model_copy(update={"name": other}) if f.name == name else f for f in schema.features
    )
    return schema.model_copy(update={"features": features})


def test_a_ranking_without_features_of_its_own_learns_from_the_previous_score(
    funnel, settings_for, tmp_path
):
    """Noise alone ranks at random among the survivors; with the score, as retrieval does."""
    recalls = []
    for outputs in ([], ["score", "rank"]):
        settings = settings_for(
            funnel,
            objective={"name": "bce"},
            train__epochs=12,
            train__learning_rate=0.02,
            stages__ranking__features=["category"],
            stages__ranking__previous=outputs,
        )
        result = train_run(settings, tmp_path / str(len(outputs)))
        recalls.append(result.test.metrics["joint_recall"].mean)
    assert recalls[1] > recalls[0] + 0.03, recalls
    loaded = load_run(tmp_path / "2")
    assert loaded.cascade.previous == {"ranking": ("score", "rank")}
    profile = profile_cascade(loaded.cascade, loaded.schema, lists=[10], batch=1, seconds=0.01)
    assert list(profile.stages) == ["retrieval", "ranking"]
