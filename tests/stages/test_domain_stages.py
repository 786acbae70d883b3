"""Stages with several outputs: their scores, sampled gates, and pruning."""

import pytest
import torch

from cascaderank.cascade import build_stage
from cascaderank.errors import ConfigError, DataError, SchemaError
from cascaderank.stages import multiply_adds, output_of, prune
from tests.contracts.test_stages import FEATURES, SCHEMA, changed, make_batch

STOCHASTIC = ("ecmm", "fscd")


def build(name, **options):
    torch.manual_seed(0)
    return build_stage(name, SCHEMA, features=FEATURES, options=options)


def log_odds(p):
    return p.log() - (1 - p).log()


@pytest.mark.parametrize("name", ["ecm", "cold", "fscd"])
@pytest.mark.parametrize("domains", [3, 4])
def test_scores_of_classes_are_the_log_odds_of_the_chosen_event(name, domains):
    batch = make_batch()
    outputs = {
        score: output_of(build(name, domains=domains, score=score).eval(), batch)
        for score in ("click", "exposure", "unclicked")
    }
    p = outputs["click"].classes.double().exp()
    assert p.shape[-1] == domains
    want = {"click": p[..., 0], "exposure": p[..., :2].sum(-1), "unclicked": p[..., 1]}
    for score, of in want.items():
        torch.testing.assert_close(
            outputs[score].scores.double(), log_odds(of), rtol=1e-4, atol=1e-5
        )


def test_the_click_probability_of_esmm_is_a_product():
    batch = make_batch()
    outputs = {
        score: output_of(build("esmm", score=score).eval(), batch)
        for score in ("click", "exposure", "unclicked")
    }
    stage = build("esmm").eval()
    request, items = stage.embedder.request(batch), stage.embedder.items(batch)
    etr = stage.exposure(request, items).double().sigmoid()
    ctr = stage.click(request, items).double().sigmoid()
    want = {"click": etr * ctr, "exposure": etr, "unclicked": etr - etr * ctr}
    for score, of in want.items():
        torch.testing.assert_close(
            outputs[score].scores.double(), log_odds(of), rtol=1e-4, atol=1e-5
        )
    for name in ("click", "exposure"):
        torch.testing.assert_close(outputs["click"].events[name].log_p.double().exp(), want[name])


@pytest.mark.parametrize("size", [1e2, 1e30])
def test_esmm_is_finite_for_extreme_logits(size):
    stage = build("esmm").eval()
    with torch.no_grad():
        for tower in (stage.exposure, stage.click):
            *_, last = tower.rest.modules()
            last.bias.fill_(size)
    output = output_of(stage, make_batch())
    total = sum(event.log_not.sum() + event.log_p.sum() for event in output.events.values())
    (total + output.scores.sum()).backward()
    assert output.scores.isfinite().all()
    assert all(p.grad.isfinite().all() for p in stage.parameters())


def test_ecmm_ranks_by_its_towers():
    batch = make_batch()
    outputs = {
        score: output_of(build("ecmm", score=score).eval(), batch)
        for score in ("click", "exposure", "unclicked")
    }
    events = outputs["click"].events
    assert list(events) == ["click", "exposure", "unexposed"]
    assert list(output_of(build("ecmm", domains=4).eval(), batch).events) == [*events, "dropped"]
    click, exposure = (events[name].log_p.double().exp() for name in ("click", "exposure"))
    torch.testing.assert_close(outputs["click"].scores.double(), log_odds(click))
    torch.testing.assert_close(outputs["exposure"].scores.double(), log_odds(exposure))
    difference = exposure - click
    want = ((1 + difference) / (1 - difference)).log()
    torch.testing.assert_close(outputs["unclicked"].scores.double(), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize("junk", [1e30, float("nan")])
def test_padding_never_matters_in_training_either(name, junk):
    stage, clean = build(name), make_batch()
    dirty = changed(clean, price=clean.items["price"].masked_fill(~clean.mask, junk))

    def gradients(batch):
        torch.manual_seed(1)
        stage.zero_grad()
        out = output_of(stage, batch)
        tensors = [out.scores, *(event.log_p for event in out.events.values())]
        (torch.stack(tensors).masked_fill(~batch.mask, 0).sum() + out.penalty).backward()
        return [p.grad.clone() for p in stage.parameters()]

    for x, y in zip(gradients(clean), gradients(dirty), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_gates_are_sampled_in_training_only(name):
    stage, batch = build(name), make_batch()
    assert not torch.equal(stage(batch), stage(batch))
    stage.eval()
    assert torch.equal(stage(batch), stage(batch))


def test_the_penalty_of_ecmm_is_the_expected_number_of_open_gates():
    stage = build("ecmm", blocks=(5, 3), domains=4)
    out = output_of(stage, make_batch())
    assert out.most == 5 * 3 + 3 * 4
    torch.testing.assert_close(out.penalty, stage.routing.expected_open())
    out.penalty.backward()
    assert (stage.routing.codes.log_alpha.grad > 0).all()


def test_the_penalty_of_fscd_is_the_cost_of_its_fields():
    lengths = {"user": 8, "hour": 1, "seen": 8, "seen_for": 1, "video": 8, "price": 1, "score": 2}
    of = {"video": 1.5, "price": 1.5, "score": 3.0}
    costs = [2 * of.get(name, 0.4) + 0.5 * d for name, d in lengths.items()]
    stage = build("fscd", cross=["sco*"], per_operation=2.0, per_length=0.5).eval()
    assert list(stage.importance()) == list(lengths)
    z = torch.linspace(-0.2, 0.2, len(lengths))
    with torch.no_grad():
        stage.log_odds.copy_(z)
    out = output_of(stage, make_batch())
    want = sum(c * torch.sigmoid(x / 0.1).item() for c, x in zip(costs, z, strict=True))
    assert out.penalty.item() == pytest.approx(want, rel=1e-5)
    assert out.most == pytest.approx(sum(costs))


def closed(stage, share):
    """Close a random fraction of the gates."""
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for codes in (stage.routing.codes, stage.routing.tower_codes):
            noise = torch.rand(codes.log_alpha.shape, generator=g)
            codes.log_alpha.copy_(torch.where(noise < share, -6.0, noise))
    return stage


@pytest.mark.parametrize("score", ["click", "exposure", "unclicked"])
@pytest.mark.parametrize("share", [0.0, 0.6, 0.9, 1.0])
def test_a_pruned_stage_has_the_same_scores_and_is_smaller(score, share):
    stage, batch = closed(build("ecmm", score=score), share).train(), make_batch()
    made = prune(stage, SCHEMA)
    assert stage.training, "the stage is left as it is"
    stage.eval()
    got, want = made.stage(batch), stage(batch)
    torch.testing.assert_close(got[batch.mask], want[batch.mask], rtol=0, atol=1e-6)
    assert made.parameters[1] < made.parameters[0]
    assert made.parameters[1] == sum(p.numel() for p in made.stage.parameters())
    before, after = made.multiply_adds
    assert after.per_candidate <= before.per_candidate
    if share > 0.5:
        assert after.per_candidate < 0.8 * before.per_candidate
    out = output_of(made.stage, batch)
    assert torch.equal(out.scores, got)
    assert not out.events
    with pytest.raises(ConfigError, match="already pruned"):
        prune(made.stage, SCHEMA)


def test_a_stage_without_gates_cannot_be_pruned():
    with pytest.raises(ConfigError, match=r"must have gates .* got a MLP"):
        prune(build("mlp"), SCHEMA)


REQUEST, ITEM, DIM = 8 + 1 + 8 + 1, 8 + 1 + 2, 8  # of the schema above; a category has 8 dimensions


@pytest.mark.parametrize(
    ("name", "options", "once", "each"),
    [
        ("linear", {}, 4, 4),
        ("mlp", {"hidden": [10, 5]}, REQUEST * 10, ITEM * 10 + 10 * 5 + 5),
        ("two_tower", {"hidden": [6, 4]}, REQUEST * 6 + 6 * 4, ITEM * 6 + 6 * 4 + 4),
        ("ecm", {"hidden": [10, 5]}, REQUEST * 10, ITEM * 10 + 10 * 5 + 5 * 3),
        ("cold", {"hidden": [10]}, REQUEST * 7, ITEM * 7 + (REQUEST + ITEM) * 10 + 10),
        ("cold", {"hidden": [10], "gates": False}, REQUEST * 10, ITEM * 10 + 10),
        ("fscd", {"hidden": [10], "domains": 3}, REQUEST * 10, ITEM * 10 + 30),
        ("esmm", {"hidden": [10]}, 2 * REQUEST * 10, 2 * (ITEM * 10 + 10)),
    ],
)
def test_multiply_adds_are_those_of_the_layers(name, options, once, each):
    history = 20
    # The mean of each sequence is a product with one weight per entry.
    width = 2 if name == "linear" else 9
    got = multiply_adds(build(name, **options), SCHEMA, history=history)
    assert got.per_candidate == each
    assert got.per_request == once + history * width
    assert got.of(100) == got.per_request + 100 * each


def test_multiply_adds_of_ecmm_and_of_attention():
    d, w = REQUEST + ITEM, 16
    each = ITEM * d + d * 8 * w + 8 * 4 * w + 4 * w * w + 3 * 4 * w + w * 5 + 5
    stage = build("ecmm", width=w, tower=[5])
    # A call for the score uses one tower.
    assert multiply_adds(stage, SCHEMA).per_candidate == each - 2 * 4 * w
    stage = build("din", attention=[10], hidden=[6])
    short, long = (multiply_adds(stage, SCHEMA, history=h) for h in (10, 30))
    assert long.per_candidate - short.per_candidate == 20 * (10 + 9)
    assert long.per_request - short.per_request == 20 * 9 * 10


def test_counting_does_not_modify_a_stage():
    stage = build("ecmm")
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    multiply_adds(stage, SCHEMA)
    assert stage.training
    for name, value in stage.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_importance_in_cold_is_a_mean_over_real_candidates():
    stage, batch = build("cold"), make_batch()
    weights = stage.gate(stage.embedder.request(batch), stage.embedder.items(batch))
    want = weights[batch.mask].mean(0).tolist()
    got = stage.importance([batch])
    assert list(got) == FEATURES
    assert list(got.values()) == pytest.approx(want, rel=1e-5)
    torch.testing.assert_close(
        torch.tensor(list(stage.importance([batch, batch]).values())), torch.tensor(want)
    )
    with pytest.raises(DataError, match="the batches have none"):
        stage.importance([])


def test_reduced_cold_has_the_best_half_and_new_weights():
    stage, batch = build("cold", domains=3, score="exposure"), make_batch()
    names = stage.select_fields([batch], keep=0.5)
    assert len(names) == 4  # of 7, rounded up
    assert set(names) & {"video", "price", "score"}
    smaller = stage.reduced(names)
    assert [*smaller.embedder.request_fields, *smaller.embedder.item_fields] == list(names)
    assert smaller(batch).shape == batch.mask.shape
    assert output_of(smaller, batch).classes.shape[-1] == 3
    assert multiply_adds(smaller, SCHEMA).per_candidate < multiply_adds(stage, SCHEMA).per_candidate
    with pytest.raises(DataError, match="built with gates=False"):
        smaller.select_fields([batch])
    with pytest.raises(SchemaError, match="no feature 'pirce'"):
        stage.reduced(["pirce"])


def test_reduced_fscd_has_the_trained_weights():
    stage, batch = build("fscd", domains=3).eval(), make_batch()
    with torch.no_grad():
        stage.log_odds.copy_(torch.tensor([9.0, -9.0, 8.0, -8.0, -7.0, 7.0, 6.0]))
    names = stage.select_fields(keep=4)
    assert names == ("user", "seen", "price", "score")
    smaller = stage.reduced(names)
    # Kept fields are multiplied by 1 and dropped ones by 0, so it is the same function.
    torch.testing.assert_close(smaller(batch), stage(batch))
    assert smaller.log_odds is None
    assert output_of(smaller, batch).penalty is None
    with pytest.raises(ConfigError, match="built with gates=False"):
        smaller.select_fields()


@pytest.mark.parametrize("keep", [0, 8, 0.0, 1.0, -1, True])
def test_an_invalid_number_of_fields_is_refused(keep):
    with pytest.raises(ConfigError, match="fraction of the fields in"):
        build("fscd").select_fields(keep=keep)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ecmm", {"gamma": 0.1}, "gamma must be below 0"),
        ("ecmm", {"blocks": [0, 4]}, "blocks and width must be positive"),
        ("ecm", {"domains": 5}, "domains=5"),
        ("ecm", {"score": "buy"}, "score='buy'"),
        ("fscd", {"temperature": 0.0}, "temperature must be a positive number"),
        ("fscd", {"per_length": -1.0}, "per_operation and per_length must be numbers"),
        ("fscd", {"cross": ["nothing*"]}, r"no feature 'nothing\*'"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises((ConfigError, SchemaError), match=message):
        build(name, **options)
