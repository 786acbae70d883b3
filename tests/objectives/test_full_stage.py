"""FS-RankNet and FS-LambdaRank: any loss of learning to rank, on the numbers of levels."""

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.losses import lambdarank_loss, ranknet_loss
from cascaderank.objectives import build_objective
from tests.oracles import losses as oracles

SCORES = torch.tensor([[[0.3, -0.2, 1.0, 0.5, -1.0, 0.1]], [[1.3, 0.2, -1.0, 0.4, 1.0, -0.1]]])
LEVELS = torch.tensor([[0, 5, 2, 1, 4, 3]])
Z = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
NAMES = ["fs_ranknet", "fs_lambdarank"]


def built(name, **options):
    return build_objective(name, stages=2, quotas=(4, 2), **options)


def test_they_are_ranknet_and_lambdarank_on_relabelled_levels():
    z = torch.tensor(Z)[LEVELS]
    labels = torch.zeros(1, 6)  # ignored
    pairs = built("fs_ranknet", z=Z, balance="pairs")(SCORES, labels, levels=LEVELS).terms
    lambdas = built("fs_lambdarank", z=Z)(SCORES, labels, levels=LEVELS).terms
    for stage, scores in enumerate(SCORES):
        ours, want = pairs[f"ranknet/stage_{stage + 1}"], lambdas[f"lambdarank/stage_{stage + 1}"]
        torch.testing.assert_close(ours, ranknet_loss(scores, z))
        torch.testing.assert_close(want, lambdarank_loss(scores, z))
        plain = (scores[0].tolist(), z[0].tolist())
        assert ours.item() == pytest.approx(oracles.ranknet(*plain), rel=1e-5)
        assert want.item() == pytest.approx(oracles.lambdarank(*plain), rel=1e-5)


def test_levels_of_one_number_carry_no_preference():
    """With z_0 = ... = z_4 = 0 and z_5 = 1, the special case of the paper's theorem 1."""
    z = (0.0,) * 5 + (1.0,)
    clicked = (LEVELS == 5).float()
    for name, loss in zip(NAMES, (ranknet_loss, lambdarank_loss), strict=True):
        got = built(name, z=z)(SCORES, clicked, levels=LEVELS).total
        torch.testing.assert_close(got, sum(loss(s, clicked) for s in SCORES))
        assert not torch.isclose(got, built(name)(SCORES, clicked, levels=LEVELS).total)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_numbers_are_refused(name):
    labels = torch.zeros(1, 6)
    for z in [(0.0, 2.0, 1.0), (-1.0, 0.0), ()]:
        with pytest.raises(ConfigError, match="z must be non-negative, non-decreasing numbers"):
            built(name, z=z)
    with pytest.raises(ConfigError, match="one value per level, 6 for levels up to 5"):
        built(name, z=(0.0, 1.0))(SCORES, labels, levels=LEVELS)
    with pytest.raises(ConfigError, match="the batch has no levels"):
        built(name, z=Z)(SCORES, labels)


def test_the_published_form_fixes_its_options():
    with pytest.raises(ConfigError, match="fixes balance"):
        built("fs_ranknet", published=True, balance="pairs")
    with pytest.raises(ConfigError, match="fixes z"):
        built("fs_ranknet", published=True, z=Z)
