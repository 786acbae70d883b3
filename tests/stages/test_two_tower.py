import pytest
import torch

from cascaderank.batch import RequestBatch
from cascaderank.cascade import build_stage
from cascaderank.schema import Feature, FittedSchema

SCHEMA = FittedSchema(
    features=(
        Feature(name="user", role="request", kind="categorical"),
        Feature(name="genre", role="item", kind="categorical"),
    ),
    vocabularies={"user": [f"user {i}" for i in range(64)], "genre": [f"{i}" for i in range(64)]},
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", ["request", "item"])
def test_initial_vectors_differ_between_requests_and_between_candidates(side, seed):
    torch.manual_seed(seed)
    tower = build_stage("two_tower", SCHEMA)
    codes = torch.arange(1, 65)
    batch = RequestBatch(
        mask=torch.ones(64, 1).bool(), items={"genre": codes[:, None]}, request={"user": codes}
    )
    vectors = getattr(tower, f"{side}_vectors")(batch).reshape(64, -1)
    common = vectors.mean(0).square().sum() / vectors.square().sum(-1).mean()
    assert common < 0.8, "share of the squared length that all vectors have in common"
