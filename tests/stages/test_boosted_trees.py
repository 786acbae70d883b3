"""Boosted trees: leaves, stored trees, and what they refuse."""

import builtins

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade, build_stage
from cascaderank.errors import ConfigError, MissingExtraError, RunError
from cascaderank.layers.feature_matrix import feature_matrix
from cascaderank.schema import Feature, FittedSchema

pytest.importorskip("lightgbm")

SCHEMA = FittedSchema(
    features=(
        Feature(name="hour", role="request", kind="numeric"),
        Feature(name="shop", role="item", kind="categorical"),
        Feature(name="price", role="item", kind="numeric"),
        Feature(name="text", role="item", kind="numeric", width=2),
        Feature(name="tags", role="item", kind="categorical", multiple=True),
        Feature(name="seen", role="history", kind="categorical", vocabulary="shop"),
    ),
    vocabularies={"shop": (1, 2, 3), "tags": (1, 2)},
)


def make_batch(lists=4, length=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return RequestBatch(
        mask=torch.arange(length) < torch.randint(1, length + 1, (lists, 1), generator=g),
        items={
            "shop": torch.randint(0, 4, (lists, length), generator=g),
            "price": torch.randn(lists, length, generator=g),
            "text": torch.randn(lists, length, 2, generator=g),
        },
        request={"hour": torch.randn(lists, generator=g)},
    )


def build(features=("*",), **options):
    return build_stage("boosted_trees", SCHEMA, features=features, options=options)


def grown(trees=3, **options):
    stage, batch = build(min_data_in_leaf=5, **options).eval(), make_batch(200)
    values = feature_matrix(batch, stage.features)
    for seed in range(trees):
        stage.fit_tree(values, np.sin(7 * values.sum(-1)), seed=seed)
    return stage, batch


def test_the_columns_are_numbers_vectors_and_single_categories():
    stage, batch = build(), make_batch()
    assert [f.name for f in stage.features] == ["hour", "shop", "price", "text"]
    matrix, row = feature_matrix(batch, stage.features), 0
    for i, real in enumerate(batch.mask):
        for j in range(int(real.sum())):
            items = {name: values[i, j].tolist() for name, values in batch.items.items()}
            expected = [batch.request["hour"][i], items["shop"], items["price"], *items["text"]]
            assert matrix[row].tolist() == pytest.approx([float(v) for v in expected])
            row += 1
    assert row == len(matrix)


def test_a_leaf_has_the_value_of_a_newton_step_with_shrinkage():
    stage = build(
        features=["price"], min_data_in_leaf=1, num_leaves=2, lambda_l2=3.0, learning_rate=0.1
    )
    values = np.array([[0.0], [0.0], [0.0], [1.0], [1.0], [1.0]], np.float32)
    gradient = np.array([5.0, 3.0, -1.0, -2.0, -1.0, 0.0], np.float32)
    stage.fit_tree(values, gradient, seed=0)
    batch = RequestBatch(mask=torch.ones(1, 2).bool(), items={"price": torch.tensor([[0.0, 1.0]])})
    mean = 2.0  # of the absolute gradient
    curvature = 0.25 * (mean + mean)  # its mean
    left = -0.1 * (7 / curvature) / (0.25 * (9 + 3 * mean) / curvature + 3)
    right = -0.1 * (-3 / curvature) / (0.25 * (3 + 3 * mean) / curvature + 3)
    torch.testing.assert_close(stage.eval()(batch), torch.tensor([[left, right]]))


def test_the_scale_of_the_gradient_has_no_effect():
    stages = []
    for scale in (1.0, 1e-6):
        stage, batch = build(min_data_in_leaf=5).eval(), make_batch(200)
        values = feature_matrix(batch, stage.features)
        stage.fit_tree(values, np.float32(scale) * np.sin(7 * values.sum(-1)), seed=0)
        stages.append(stage(batch))
    torch.testing.assert_close(*stages)
    assert stages[0].std() > 0


def test_a_gradient_of_zeros_adds_no_tree():
    stage = build()
    stage.fit_tree(np.zeros((50, 5), np.float32), np.zeros(50, np.float32), seed=0)
    assert stage.trees == 0


def test_a_new_stage_scores_0_and_collects_the_gradient_of_its_scores():
    stage, batch = build(), make_batch()
    scores = stage(batch)
    assert scores.count_nonzero() == 0
    weights = torch.arange(20.0).view(4, 5)
    (scores * weights).sum().backward()
    values, gradient = stage.take_gradient()
    assert gradient.tolist() == weights[batch.mask].tolist()
    assert np.array_equal(values, feature_matrix(batch, stage.features))
    assert stage.take_gradient() is None, "it is collected once"


@pytest.mark.parametrize("mode", ["evaluation", "no_grad", "unused"])
def test_nothing_is_collected_outside_of_training(mode):
    stage = build().train(mode != "evaluation")
    with torch.set_grad_enabled(mode != "no_grad"):
        assert stage(make_batch()).requires_grad == (mode == "unused")
    assert stage.take_gradient() is None


def test_weights_in_safetensors_have_the_same_scores():
    stage, batch = grown()
    cascade, other = Cascade({"a": stage}, (2,)), Cascade({"a": build()}, (2,)).eval()
    saved = {name: tensor.contiguous() for name, tensor in cascade.state_dict().items()}
    other.load_state_dict(load(save(saved)))
    assert other.stages["a"].trees == 3
    assert torch.equal(cascade(batch), other(batch))
    assert cascade(batch).std() > 0
    other.load_state_dict(Cascade({"a": build()}, (2,)).state_dict())
    assert other.stages["a"].trees == 0


def test_each_tree_adds_to_the_scores_of_the_others():
    one, batch = grown(trees=1)
    three, _ = grown(trees=3)
    assert (one.trees, three.trees) == (1, 3)
    first = three._booster.predict(feature_matrix(batch, three.features), num_iteration=1)
    torch.testing.assert_close(
        one(batch)[batch.mask].double(), torch.from_numpy(first).float().double()
    )


def test_equal_seeds_fit_equal_trees_and_others_choose_other_features():
    states = [grown(feature_fraction=0.4)[0].get_extra_state() for _ in range(2)]
    assert torch.equal(*states)
    stage, batch = build(min_data_in_leaf=5, feature_fraction=0.4).eval(), make_batch(200)
    values = feature_matrix(batch, stage.features)
    for seed in (7, 8, 9):
        stage.fit_tree(values, np.sin(7 * values.sum(-1)), seed=seed)
    assert not torch.equal(stage.get_extra_state(), states[0])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (torch.zeros(3), "expected the text of boosted trees as a uint8 tensor"),
        (None, "expected the text of boosted trees as a uint8 tensor"),
        (torch.tensor([255, 1], dtype=torch.uint8), "the boosted trees cannot be read"),
        (torch.tensor([65, 66], dtype=torch.uint8), "the boosted trees cannot be read"),
    ],
)
def test_a_damaged_state_is_refused(state, message):
    with pytest.raises(RunError, match=message):
        build().set_extra_state(state)


def test_trees_over_other_features_are_refused():
    stage, _ = grown()
    with pytest.raises(RunError, match="expected boosted trees over 1 columns, found 5"):
        build(features=["price"]).set_extra_state(stage.get_extra_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_leaves": 1}, "num_leaves must be from 2 to 131,072; got 1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and at most 1,000; got 0"),
        ({"learning_rate": -0.1}, "learning_rate must be positive"),
        ({"trees_per_epoch": 0}, "trees_per_epoch must be at least 1; got 0"),
        ({"min_data_in_leaf": 0}, "min_data_in_leaf must be from 1 to"),
        ({"lambda_l2": -1.0}, "lambda_l2 must be at least 0; got -1"),
        ({"feature_fraction": 1.1}, "feature_fraction must be above 0 and at most 1; got 1.1"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_a_stage_without_a_column_is_refused():
    with pytest.raises(ConfigError, match=r"one category; got tags, seen"):
        build(features=["tags", "seen"])


def test_more_categories_than_float32_holds_are_refused():
    schema = FittedSchema(
        features=(Feature(name="id", role="item", kind="categorical", buckets=2**24),)
    )
    with pytest.raises(ConfigError, match=r"at most 16,777,216 categories .* 'id' has 16,777,217"):
        build_stage("boosted_trees", schema)


def test_without_lightgbm_the_error_names_the_extra(monkeypatch):
    plain = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "lightgbm":
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", without)
    with pytest.raises(MissingExtraError, match=r"lightgbm is not .*'cascaderank\[trees\]'"):
        build()


def test_a_compiled_function_calls_the_trees_without_compilation():
    stage, batch = grown()
    compiled = torch.compile(lambda batch: stage(batch) * 2, backend="eager")
    assert torch.equal(compiled(batch), stage(batch) * 2)
