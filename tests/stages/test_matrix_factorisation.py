"""With ids only it is the cosine of two embeddings; other features are added to them."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from cascaderank.batch import RequestBatch
from cascaderank.cascade import build_stage
from cascaderank.errors import ConfigError
from cascaderank.schema import Feature, FittedSchema

SCHEMA = FittedSchema(
    features=(
        Feature(name="user", role="request", kind="categorical"),
        Feature(name="age", role="request", kind="numeric"),
        Feature(name="seen", role="history", kind="categorical", vocabulary="video"),
        Feature(name="video", role="item", kind="categorical"),
        Feature(name="price", role="item", kind="numeric", missing=True),
    ),
    vocabularies={"user": (1, 2, 3), "video": (1, 2, 3, 4)},
)
BATCH = RequestBatch(
    mask=torch.tensor([[True, True, True], [True, True, False]]),
    items={
        "video": torch.tensor([[1, 2, 3], [4, 0, 0]]),
        "price": torch.tensor([[1.0, torch.nan, 2.0], [0.5, 0.0, 0.0]]),
    },
    request={"user": torch.tensor([1, 3]), "age": torch.tensor([0.5, -1.0])},
    history={"seen": torch.tensor([[2, 4], [1, 0]])},
    history_mask={"history": torch.tensor([[True, True], [True, False]])},
)


def stage(features=("user", "video"), **options):
    torch.manual_seed(0)
    built = build_stage("matrix_factorisation", SCHEMA, features=features, options=options)
    return built.double()


def test_of_ids_alone_it_is_the_scaled_cosine_of_two_embeddings():
    model = stage(scale=7.0)
    tables = model.embedder.tables
    user = tables["user"].weight[BATCH.request["user"]]
    video = tables["video"].weight[BATCH.items["video"]]
    assert user.shape[-1] == 64
    want = 7.0 * cosine_similarity(user[:, None], video, dim=-1)
    torch.testing.assert_close(model(BATCH)[BATCH.mask], want[BATCH.mask])
    assert sum(p.numel() for p in model.parameters()) == 64 * (4 + 5)
    product = stage(scale=7.0, normalise=False)
    want = 7.0 * torch.einsum("bd,bld->bl", user, video)
    torch.testing.assert_close(product(BATCH)[BATCH.mask], want[BATCH.mask])


def test_vectors_of_several_features_add_up():
    model = stage(SCHEMA.names, normalise=False, scale=1.0)
    tables = model.embedder.tables
    weight = model.of_request.numbers.weight[:, 0]
    seen = tables["video"].weight[BATCH.history["seen"][0]].mean(0)
    want = tables["user"].weight[1] + 0.5 * weight + seen
    torch.testing.assert_close(model.request_vectors(BATCH.__class__(**doubled()))[0], want)
    value, gone = model.of_item.numbers.weight.T
    items = model.item_vectors(BATCH.__class__(**doubled()))[0]
    torch.testing.assert_close(items[0], tables["video"].weight[1] + value)
    torch.testing.assert_close(items[1], tables["video"].weight[2] + gone)


def doubled():
    def of(tensors):
        return {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}

    return {
        "mask": BATCH.mask,
        "items": of(BATCH.items),
        "request": of(BATCH.request),
        "history": BATCH.history,
        "history_mask": BATCH.history_mask,
    }


def test_the_scale_can_be_trained():
    model = stage(scale=7.0, learn_scale=True)
    torch.testing.assert_close(model(BATCH), stage(scale=7.0)(BATCH))
    model(BATCH)[0, 0].backward()
    torch.testing.assert_close(model.log_scale.grad, model(BATCH)[0, 0].detach())
    assert stage().log_scale is None


def test_an_unknown_item_has_a_short_vector_and_a_bounded_gradient():
    model = stage()
    assert model(BATCH)[1, 1] == 0  # code 0 starts at zero, where a cosine is not defined
    model(BATCH)[1, 1].backward()
    assert model.embedder.tables["video"].weight.grad[0].norm() <= 10.0 / 0.01 + 1e-6


@pytest.mark.parametrize(
    ("options", "features", "message"),
    [
        ({"scale": 0.0}, ("user", "video"), "scale must be a positive number; got 0"),
        ({}, ("video", "price"), "needs a feature of the request or its history"),
        ({"dim": 0}, ("user", "video"), "dim must be at least 1"),
    ],
)
def test_invalid_options_and_features_are_refused(options, features, message):
    with pytest.raises(ConfigError, match=message):
        stage(features, **options)
