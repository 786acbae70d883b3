"""Contract of every stage; new stages are tested without being listed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from cascaderank.batch import RequestBatch
from cascaderank.cascade import build_stage
from cascaderank.errors import ShapeError
from cascaderank.layers.feature_matrix import feature_matrix
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES, SplitStage, VectorStage, multiply_adds, output_of

SCHEMA = FittedSchema(
    features=(
        Feature(name="user", role="request", kind="categorical"),
        Feature(name="hour", role="request", kind="numeric"),
        Feature(name="seen", role="history", kind="categorical", vocabulary="video"),
        Feature(name="seen_for", role="history", kind="numeric"),
        Feature(name="video", role="item", kind="categorical"),
        Feature(name="price", role="item", kind="numeric"),
        Feature(name="score", role="item", kind="numeric", missing=True),
        Feature(name="tags", role="request", kind="categorical", multiple=True),
        Feature(name="genres", role="item", kind="categorical", multiple=True),
        Feature(name="text", role="item", kind="numeric", width=3, missing=True),
        Feature(name="unused", role="item", kind="numeric"),
    ),
    vocabularies={
        "user": (1, 2, 3),
        "video": (1, 2, 3, 4, 5),
        "tags": (1, 2, 3, 4, 5),
        "genres": (1, 2, 3, 4, 5),
    },
)
GATED_BY_CANDIDATE = {"cold", "ecmm"}
"""Stages that by design multiply features of the request for each candidate."""

TREES = {"boosted_trees"}
"""Stages without parameters: LightGBM fits trees to the gradient of their scores, and they use
neither histories nor features with several categories."""
NETWORKS = [name for name in STAGES if name not in TREES]

VARIANTS = {
    "mlp linear_skip": {"linear_skip": True},
    "mlp prior": {"prior": "score"},
    "mlp linear_skip prior": {"linear_skip": True, "prior": "price"},
    "linear prior": {"prior": "score"},
}
"""Options that add parts to a stage."""

ALL = [name for name in SCHEMA.names if name != "unused"]

FEATURES = [name for name in ALL if not SCHEMA[name].several]
"""Features with one value; for other tests, which count the operations of each layer."""


def built(name):
    torch.manual_seed(0)
    # In evaluation mode; sampling in training is tested separately.
    stage = as_named(name).eval()
    if name in TREES:
        grow(stage)
    # Some of these parts start at 0.
    return moved_apart(stage) if name in VARIANTS else stage


def as_named(name, features=ALL):
    model, options = name.partition(" ")[0], VARIANTS.get(name)
    stage = build_stage(model, SCHEMA, features=features, options=options)
    stage.named = name
    return stage


def grow(stage):
    """Fit one tree to each column, and to where it is missing."""
    values = np.concatenate([feature_matrix(make_batch(seed=s), stage.features) for s in range(99)])
    for column in values.T:
        stage.fit_tree(values, np.where(np.isnan(column), -9, np.cos(2 * column)), seed=0)


@pytest.fixture(params=[*STAGES, *VARIANTS])
def stage(request):
    return built(request.param)


@pytest.fixture(params=[*NETWORKS, *VARIANTS])
def network(request):
    return built(request.param)


def make_batch(*, lists=3, length=6, history=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.tensor([length, 4, 1])[:lists, None]
    history_mask = torch.arange(history) < torch.tensor([history, 2, 0])[:lists, None]
    score = torch.randn(lists, length, generator=g)
    score[:, 0] = torch.nan
    tags = torch.tensor([[1, 3, 5], [4, -1, -1], [-1, -1, -1]])[:lists]
    other = torch.Generator().manual_seed(seed + 1)
    genres = torch.randint(0, 6, (lists, length, 4), generator=other)
    genres = genres.masked_fill(torch.arange(4) >= torch.arange(length)[:, None] % 5, -1)
    text = torch.randn(lists, length, 3, generator=other)
    text[:, 1] = torch.nan
    return RequestBatch(
        mask=mask,
        items={
            "video": torch.randint(0, 6, (lists, length), generator=g),
            "price": torch.randn(lists, length, generator=g),
            "score": score,
            "genres": genres,
            "text": text,
            "unused": torch.randn(lists, length, generator=g),
        },
        request={
            "user": torch.randint(0, 4, (lists,), generator=g),
            "hour": torch.randn(lists, generator=g),
            "tags": tags,
        },
        history={
            "seen": torch.randint(0, 6, (lists, history), generator=g),
            "seen_for": torch.randn(lists, history, generator=g),
        },
        history_mask={"history": history_mask},
    )


def changed(batch, **items):
    return RequestBatch(
        mask=batch.mask,
        items={**batch.items, **items},
        request=batch.request,
        history=batch.history,
        history_mask=batch.history_mask,
    )


def taken(batch, rows, columns=slice(None)):
    return RequestBatch(
        mask=batch.mask[rows][:, columns],
        items={k: v[rows][:, columns] for k, v in batch.items.items()},
        request={k: v[rows] for k, v in batch.request.items()},
        history={k: v[rows] for k, v in batch.history.items()},
        history_mask={k: v[rows] for k, v in batch.history_mask.items()},
    )


def gradients(stage, batch):
    stage.zero_grad()
    scores = stage(batch)
    if scores.requires_grad:  # not those of trees, in evaluation mode
        scores.masked_fill(~batch.mask, 0).square().sum().backward()
    return scores, [p.grad.clone() for p in stage.parameters() if p.grad is not None]


def test_scores_have_the_shape_of_the_lists(stage):
    batch = make_batch()
    assert stage(batch).shape == batch.mask.shape


@pytest.mark.parametrize("junk", [1e30, float("inf"), float("nan")])
def test_padding_has_no_effect(stage, junk):
    clean = make_batch()
    dirty = RequestBatch(
        mask=clean.mask,
        items={
            name: v.masked_fill(
                ~(clean.mask if v.dim() == 2 else clean.mask.unsqueeze(-1)),
                10**6 if v.dtype == torch.int64 else junk,
            )
            for name, v in clean.items.items()
        },
        request=clean.request,
        history={
            name: v.masked_fill(
                ~clean.history_mask["history"], 10**6 if v.dtype == torch.int64 else junk
            )
            for name, v in clean.history.items()
        },
        history_mask=clean.history_mask,
    )
    a, of_a = gradients(stage, clean)
    b, of_b = gradients(stage, dirty)
    assert torch.equal(a[clean.mask], b[clean.mask])
    assert bool(of_a) == bool(list(stage.parameters()))
    for x, y in zip(of_a, of_b, strict=True):
        assert torch.equal(x, y)


def test_order_of_candidates_permutes_their_scores(stage):
    batch, order = make_batch(), torch.tensor([5, 0, 3, 1, 4, 2])
    torch.testing.assert_close(
        stage(batch)[:, order], stage(taken(batch, slice(None), order)), rtol=1e-5, atol=1e-6
    )


def test_lists_are_independent(stage):
    batch = make_batch()
    alone = torch.cat([stage(taken(batch, slice(i, i + 1))) for i in range(3)])
    torch.testing.assert_close(stage(batch)[batch.mask], alone[batch.mask], rtol=1e-5, atol=1e-6)


def test_candidates_are_independent(stage):
    batch = make_batch()
    price = batch.items["price"].clone()
    price[0, 1:] += 100
    other = changed(batch, price=price)
    torch.testing.assert_close(stage(batch)[0, 0], stage(other)[0, 0], rtol=1e-5, atol=1e-6)


def test_features_that_are_not_listed_are_not_read(stage):
    batch = make_batch()
    other = changed(batch, unused=torch.full_like(batch.items["unused"], torch.nan))
    assert torch.equal(stage(batch)[batch.mask], stage(other)[batch.mask])


@pytest.mark.parametrize("name", ["video", "price", "score", "genres", "text"])
def test_listed_features_are_read(stage, name):
    if name == "genres" and not hasattr(stage, "embedder"):
        pytest.skip("trees use no feature with several categories")
    batch = make_batch()
    values = batch.items[name]
    moved = (values + 1) % 6 if values.dtype == torch.int64 else values + 1
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert not torch.equal(stage(batch), stage(changed(batch, **{name: moved})))


@pytest.mark.parametrize("name", ["seen", "seen_for"])
def test_listed_histories_are_read(network, name):
    batch = make_batch()
    values = batch.history[name]
    moved = (values + 1) % 6 if values.dtype == torch.int64 else values + 1
    other = replace(batch, history={**batch.history, name: moved})
    assert not torch.equal(network(batch)[:2], network(other)[:2])
    assert torch.equal(network(batch)[2], network(other)[2]), "the third request has no history"


def moved_apart(stage):
    """Move all weights, so that no two categories have one embedding."""
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return stage


def with_lists(batch, *, genres=None, tags=None):
    items = batch.items if genres is None else {**batch.items, "genres": genres}
    request = batch.request if tags is None else {**batch.request, "tags": tags}
    return replace(batch, items=items, request=request)


def test_the_order_of_several_values_and_their_padding_have_no_effect(network):
    batch = make_batch()
    genres, tags = batch.items["genres"].flip(-1), batch.request["tags"].flip(-1)
    assert (genres[:, 1] == -1).any(), "padding is now before the values"
    genres, tags = (torch.nn.functional.pad(v, (2, 3), value=-1) for v in (genres, tags))
    scores, of = gradients(moved_apart(network), batch)
    others, of_others = gradients(network, with_lists(batch, genres=genres, tags=tags))
    torch.testing.assert_close(scores[batch.mask], others[batch.mask], rtol=1e-5, atol=1e-6)
    for x, y in zip(of, of_others, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_a_value_that_is_unseen_in_training_differs_from_no_value(network):
    batch, single = make_batch(), torch.tensor([[2, -1]])
    moved_apart(network)
    for name, shape in (("genres", (3, 6, 2)), ("tags", (3, 2))):
        seen, unseen = single.expand(shape), torch.tensor([[2, 0]]).expand(shape)
        one, other = (network(with_lists(batch, **{name: v})) for v in (seen, unseen))
        assert not torch.equal(one[batch.mask], other[batch.mask])


def test_a_missing_vector_differs_from_zeros(stage):
    batch = make_batch()
    zeros = changed(batch, text=batch.items["text"].nan_to_num(0.0))
    moved_apart(stage)
    assert not torch.equal(stage(batch)[0, 1], stage(zeros)[0, 1])
    assert torch.equal(stage(batch)[0, 0], stage(zeros)[0, 0])


def test_candidates_and_requests_without_any_value_have_finite_scores(network):
    batch, none = make_batch(), torch.full((3, 6, 1), -1)
    scores, of = gradients(network, with_lists(batch, genres=none, tags=none[:, 0]))
    assert scores[batch.mask].isfinite().all()
    assert all(g.isfinite().all() for g in of)


def test_gradient_reaches_the_embedding_of_each_of_several_values(network):
    batch = make_batch()
    genres = torch.full((3, 6, 2), -1)
    genres[0, 1], genres[1, 0, 0] = torch.tensor([2, 4]), 5
    gradients(network, with_lists(batch, genres=genres))
    slopes = network.embedder.tables["genres"].weight.grad.abs().sum(-1)
    assert (slopes > 0).tolist() == [False, False, True, False, True, True]


def test_lists_of_values_without_their_dimension_are_refused(network):
    batch = make_batch()
    with pytest.raises(ShapeError, match=r"'genres' has several values .* \[batch, list, values\]"):
        network(with_lists(batch, genres=batch.items["video"]))


def test_vectors_of_another_width_are_refused(stage):
    batch = make_batch()
    with pytest.raises(ShapeError, match=r"'text' has several values .* \[batch, list, 3\]; got"):
        stage(changed(batch, text=batch.items["text"][..., :2]))


def exported(name):
    stage, batch = as_named(name).eval(), make_batch()
    program = torch.export.export(stage, (batch,), dynamic_shapes=batch.dynamic_shapes())
    wide = torch.nn.functional.pad(make_batch(lists=2, length=9).items["genres"], (0, 3), value=-1)
    other = with_lists(make_batch(lists=2, length=9, history=7), genres=wide)
    return stage, program, (batch, other)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "din" else pytest.mark.slow) for n in (*NETWORKS, *VARIANTS)],
)
def test_an_exported_stage_has_the_same_scores_at_other_sizes(name):
    """The example of `RequestBatch.dynamic_shapes` exports another stage in the quick tests."""
    stage, program, batches = exported(name)
    for batch in batches:
        torch.testing.assert_close(program.module()(batch)[batch.mask], stage(batch)[batch.mask])


@pytest.mark.slow
def test_an_exported_stage_can_be_saved_and_loaded(tmp_path):
    stage, program, batches = exported("two_tower")
    torch.export.save(program, tmp_path / "stage.pt2")
    loaded = torch.export.load(tmp_path / "stage.pt2").module()
    for batch in batches:
        torch.testing.assert_close(loaded(batch)[batch.mask], stage(batch)[batch.mask])


def test_a_batch_is_a_pytree():
    batch = make_batch()
    leaves, tree = pytree.tree_flatten(batch)
    assert len(leaves) == 1 + len(batch.items) + len(batch.request) + 3
    again = pytree.tree_unflatten([leaf[:2] for leaf in leaves], tree)
    assert isinstance(again, RequestBatch)
    assert len(again) == 2
    assert again.labels is None
    assert torch.equal(again.items["genres"], batch.items["genres"][:2])


def test_request_features_are_multiplied_once_for_all_candidates(network, monkeypatch):
    plain, products = torch.nn.functional.linear, []

    def noted(inputs, weight, bias=None):
        products.append(inputs.numel() * weight.shape[0])
        return plain(inputs, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", noted)
    if network.named in GATED_BY_CANDIDATE:
        pytest.skip("features of the request are weighted by candidate")
    without = as_named(network.named, [f for f in ALL if f not in ("user", "hour")])
    costs = []
    for length in (7, 70):
        batch = make_batch(length=length)
        products.clear()
        network(batch)
        more = sum(products)
        products.clear()
        without(batch)
        costs.append(more - sum(products))
    assert costs[0] == costs[1] > 0


def test_a_missing_value_differs_from_zero(stage):
    batch = make_batch()
    zero = changed(batch, score=batch.items["score"].nan_to_num(0.0))
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert stage(batch)[batch.mask].isfinite().all()
    assert not torch.equal(stage(batch)[:, 0], stage(zero)[:, 0])


def test_a_request_without_history_has_finite_scores(stage):
    batch = make_batch()
    assert not batch.history_mask["history"][2].any()
    scores, of = gradients(stage, batch)
    assert scores[2, 0].isfinite()
    assert all(g.isfinite().all() for g in of)


def test_gradient_reaches_every_parameter(network):
    batch = make_batch()
    out = output_of(network, batch)
    outputs = torch.stack([out.scores, *(event.log_p for event in out.events.values())])
    outputs.masked_fill(~batch.mask, 0).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_outputs_besides_the_scores_are_log_probabilities(stage):
    batch = make_batch()
    out = output_of(stage, batch)
    torch.testing.assert_close(out.scores, stage(batch))
    if out.classes is not None:
        assert out.classes.shape[:2] == batch.mask.shape
        torch.testing.assert_close(out.classes.exp().sum(-1), torch.ones(batch.mask.shape))
    for event in out.events.values():
        total = event.log_p.exp() + event.log_not.exp()
        torch.testing.assert_close(total, torch.ones(batch.mask.shape))


def test_the_cost_of_a_stage_can_be_counted(network):
    assert multiply_adds(network, SCHEMA).per_candidate > 0


def test_stages_share_no_parameters(stage):
    other = build_stage(type(stage).__module__.rpartition(".")[2], SCHEMA, features=ALL)
    assert not {p.data_ptr() for p in stage.parameters()} & {
        p.data_ptr() for p in other.parameters()
    }


def test_unknown_option_is_refused_by_name(stage):
    name = type(stage).__module__.rpartition(".")[2]
    with pytest.raises(ValueError, match=f"stage '{name}' has no option 'hiden'"):
        build_stage(name, SCHEMA, features=ALL, options={"hiden": (3,)})


@pytest.mark.parametrize("name", [n for n in STAGES if hasattr(STAGES[n], "item_vectors")])
def test_scores_are_dot_products_of_independent_vectors(name):
    stage, batch = build_stage(name, SCHEMA, features=ALL), make_batch()
    requests, items = stage.request_vectors(batch), stage.item_vectors(batch)
    dots = (requests[:, None] * items).sum(-1)
    torch.testing.assert_close(dots[batch.mask], stage(batch)[batch.mask], rtol=1e-5, atol=1e-6)
    alone = RequestBatch(mask=batch.mask, items=batch.items)  # item vectors need no request
    assert torch.equal(stage.item_vectors(alone), items)


def test_some_stages_can_search_all_items():
    assert {
        name for name in STAGES if isinstance(build_stage(name, SCHEMA, features=ALL), VectorStage)
    } == {"matrix_factorisation", "two_tower"}


def test_mixed_precision_keeps_the_resolution_of_scores(stage):
    batch = make_batch(length=6)
    with torch.no_grad():
        expected = output_of(stage, batch)
        with torch.autocast("cpu", torch.bfloat16):
            got = output_of(stage, batch)
    assert got.scores.dtype is torch.float32
    real = batch.mask
    scale = expected.scores[real].abs().max()
    torch.testing.assert_close(
        got.scores[real] / scale, expected.scores[real] / scale, rtol=0, atol=0.03
    )
    assert not torch.equal(got.scores.bfloat16().float()[real], got.scores[real])
    if expected.classes is not None:
        assert got.classes.dtype is torch.float32


@pytest.mark.parametrize("name", [*STAGES, *VARIANTS, "cold, gates=False"])
def test_scores_of_parts_are_those_of_the_stage(name):
    if name == "cold, gates=False":
        torch.manual_seed(0)
        stage = build_stage("cold", SCHEMA, features=ALL, options={"gates": False}).eval()
    else:
        stage = built(name)
    if not (isinstance(stage, SplitStage) and stage.splits):
        pytest.skip("the scores are no function of two parts")
    batch, other = make_batch(), make_batch(seed=7)
    no_items = replace(batch, items={})
    no_request = replace(other, request={}, history={}, history_mask={}, items=batch.items)
    with torch.no_grad():
        parts = stage.request_part(no_items), stage.item_part(replace(no_request, mask=batch.mask))
        found = stage.scores_of_parts(*parts)
        expected = stage(batch)
    torch.testing.assert_close(found[batch.mask], expected[batch.mask], atol=1e-6, rtol=1e-5)


def test_perceptrons_can_be_split():
    stages = {name: built(name) for name in STAGES}
    split = {n for n, stage in stages.items() if isinstance(stage, SplitStage) and stage.splits}
    assert split >= {"linear", "mlp", "din", "ecm", "esmm", "fscd"}
    assert not split & {"cold", "ecmm", "boosted_trees"}
