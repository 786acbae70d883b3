"""Numbers of the sections of a report, against plain loops and the evaluation of the library."""

import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from cascaderank.batch import RequestBatch
from cascaderank.evaluation import Evaluator, Summary, ranking_consistency
from cascaderank.objectives import build_objective
from cascaderank.reports._html.agreement_section import Agreement, agreement_section
from cascaderank.reports._html.calibration_section import Calibration
from cascaderank.reports._html.cut_section import CutDistances, cut_section
from cascaderank.reports._html.data_section import TiedScores
from cascaderank.reports._html.feature_shift import stability_index
from cascaderank.reports._html.funnel_section import _draw_funnel
from cascaderank.reports._html.quota_section import QuotaCurves, quota_grid, quota_section
from cascaderank.reports._html.scoring_pass import scored_batch
from cascaderank.reports._html.slice_groupings import GroundTruthItems, item_groupings
from cascaderank.reports._html.slice_names import category_slices, number_slices, original
from cascaderank.reports._html.sources_section import _commit
from cascaderank.reports._html.weakest_stage import Verdict
from cascaderank.reports._html.wording import percent
from cascaderank.schema import Feature, FittedSchema
from cascaderank.selection import top

QUOTAS = (12, 6, 3)
STAGES = ("a", "b", "c")


@pytest.fixture(scope="module")
def scored():
    """Two batches of ragged lists with ties in scores and labels."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for first, length in ((0, 20), (7, 26)):
        scores = torch.randint(-4, 5, (3, 7, length), generator=generator).double()
        mask = torch.rand(7, length, generator=generator) < 0.9
        mask[:, 0] = True
        batch = RequestBatch(
            mask=mask,
            items={
                "category": torch.randint(0, 4, (7, length), generator=generator),
                "tags": torch.randint(-1, 3, (7, length, 2), generator=generator),
                "price": torch.rand(7, length, generator=generator),
            },
            labels=torch.randint(0, 3, (7, length), generator=generator).float(),
            rows=torch.arange(first, first + 7),
        )
        batches.append(scored_batch(batch, scores, quotas=QUOTAS, k=4, threshold=1))
    return batches


def joint_recall(scored, quotas):
    evaluator = Evaluator(quotas=quotas, k=4, threshold=1)
    for part in scored:
        evaluator.update(part.scores, part.labels, mask=part.mask)
    return evaluator.report(bootstrap=0).metrics["joint_recall"].mean


def lost_of(scored):
    """Lost ground truth by loops: ``(stage, ranks below the cut, weight)`` each."""
    for part in scored:
        for b in range(len(part.labels)):
            alive = [i for i in range(part.mask.shape[1]) if part.mask[b, i]]
            for t, quota in enumerate(QUOTAS):
                alive.sort(key=lambda i: (-float(part.scores[t, b, i]), i))
                for place, i in enumerate(alive[quota:], start=1):
                    if part.relevant[b, i] > 0:
                        yield t, place, float(part.relevant[b, i])
                alive = alive[:quota]


def test_quota_curves_are_those_of_the_evaluator(scored):
    curves = QuotaCurves(QUOTAS, longest=26)
    for part in scored:
        curves.add(part)
    for stage, (grid, curve) in enumerate(zip(curves.grids, curves.curves, strict=True)):
        assert QUOTAS[stage] in grid
        for quota, value in zip(grid, curve, strict=True):
            changed = (*QUOTAS[:stage], quota, *QUOTAS[stage + 1 :])
            assert value == pytest.approx(joint_recall(scored, changed), abs=1e-12)


@pytest.mark.parametrize("quotas", [(50, 20, 20), (1,), (7, 3), (1000, 10)])
def test_quota_grids_leave_the_other_quotas_valid(quotas):
    for stage, quota in enumerate(quotas):
        grid = quota_grid(quotas, stage, 60)
        assert quota in grid
        for tried in grid:
            changed = [*quotas[:stage], tried, *quotas[stage + 1 :]]
            assert changed == sorted(changed, reverse=True)
            assert tried >= 1


def test_distances_to_the_cut_are_those_of_loops(scored):
    found = CutDistances(3)
    for part in scored:
        found.add(part)
    expected = [defaultdict(float) for _ in QUOTAS]
    for stage, distance, weight in lost_of(scored):
        expected[stage][distance] += weight
    for stage, counts in enumerate(expected):
        own = {i: x for i, x in enumerate(found.counts[stage]) if x}
        assert own == pytest.approx(dict(counts))
        total, near = sum(counts.values()), sum(x for d, x in counts.items() if d <= 3)
        assert found.within(stage, 3) == pytest.approx(near / total)
        half = found.quantile(stage, 0.5)
        assert sum(x for d, x in counts.items() if d <= half) >= total / 2 - 1e-9
        assert sum(x for d, x in counts.items() if d < half) < total / 2


def test_distances_by_chance_are_those_of_losses_anywhere_below_the_cut(scored):
    found, expected = CutDistances(3), [defaultdict(float) for _ in QUOTAS]
    for part in scored:
        found.add(part)
        for t, quota in enumerate(QUOTAS):
            received = part.mask.sum(-1) if t == 0 else part.mask.sum(-1).clamp(max=QUOTAS[t - 1])
            lost = (part.relevant * (part.reached[t] & ~part.kept[t])).sum(-1)
            for below, weight in zip((received - quota).tolist(), lost.tolist(), strict=True):
                for distance in range(1, below + 1):
                    expected[t][distance] += weight / below
    for t, counts in enumerate(expected):
        assert found.chance[t].sum() == pytest.approx(found.counts[t].sum()), "as much is lost"
        near = sum(x for d, x in counts.items() if d <= 2) / sum(counts.values())
        assert found.within_by_chance(t, 2) == pytest.approx(near)
    section = cut_section(STAGES, found)
    worst = max(range(3), key=lambda t: found.counts[t].sum())
    half = found.quantile(worst, 0.5)
    by_chance = percent(found.within_by_chance(worst, half))
    assert section.finding.endswith(f" {half:.0f} ranks or fewer; by chance, {by_chance} would.")


def test_the_quota_of_the_last_stage_is_not_in_the_finding(scored):
    """It only lengthens the final list."""
    curves = QuotaCurves(QUOTAS, longest=26)
    for part in scored:
        curves.add(part)
    section = quota_section(("first", "second", "third"), curves)
    assert "first" in section.finding
    assert "third" not in section.finding
    assert "The quota of the last stage, third, is the length of the final list" in section.notes[0]
    alone = QuotaCurves((3,), longest=26)
    for part in scored:
        alone.add(scored_batch(part.batch, part.scores[:1], quotas=(3,), k=4, threshold=1))
    finding = quota_section(("only",), alone).finding
    assert finding == "The only quota is the length of the final list."


def test_what_is_lost_is_written_right_of_its_part():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    _draw_funnel(figure, ["list", "a", "b"], [1.0, 0.9, 0.4], [0.0, 0.1, 0.5], narrow=False)
    texts = figure.axes[0].texts
    places = {text.get_text(): (text.xy[0], text.get_ha()) for text in texts}
    assert places["-.100"] == (1, "left")
    assert places["-.500"] == (1, "left")
    assert places[".900"][0] < 0.1


def test_the_legend_of_agreement_has_chance(scored):
    figure, found = pytest.importorskip("matplotlib.figure").Figure(), Agreement(QUOTAS)
    for part in scored:
        found.add(part)
    agreement_section(STAGES, found, resamples=0, seed=0).pictures[0].draw(figure, False)
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["a and b", "b and c", "by chance"]


def test_a_changed_commit_is_said_in_words():
    assert _commit({"commit": "abc", "changed": True}) == "abc, with uncommitted changes"
    assert _commit({"commit": "abc", "changed": False}) == "abc"
    assert _commit(None) == "-"


def test_agreement_is_the_ranking_consistency(scored):
    found = Agreement(QUOTAS)
    values = defaultdict(list)
    for part in scored:
        found.add(part)
        for k in found.tops:
            values[k].append(ranking_consistency(part.scores, quotas=QUOTAS, k=k, mask=part.mask))
    for i, k in enumerate(found.tops):
        assert found.curves[i] == pytest.approx(torch.cat(values[k], 1).nanmean(-1).numpy())
    at_quota = found.summaries(resamples=10, seed=0)
    assert [s.mean for s in at_quota] == pytest.approx(
        [found.curves[found.tops.index(q), t] for t, q in enumerate(QUOTAS[1:])]
    )


def test_chance_is_the_consistency_of_random_orders():
    found = Agreement((10, 4))
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(2, 3000, 20, generator=generator, dtype=torch.float64)
    batch = RequestBatch(mask=torch.ones(3000, 20).bool(), items={}, labels=torch.ones(3000, 20))
    found.add(scored_batch(batch, scores, quotas=(10, 4), k=1))
    assert found.chance[:, 0] == pytest.approx([k / 10 for k in found.tops])
    assert found.curves[:, 0] == pytest.approx(found.chance[:, 0], abs=0.02)


def kept_alone(part):
    """Candidates that each stage alone keeps of all candidates, ``[stages, batch, list]``."""
    return torch.stack([top(s, q, part.mask) for s, q in zip(part.scores, QUOTAS, strict=True)])


def test_calibration_of_a_cold_operator_has_no_error(scored):
    objective = build_objective(
        "lcron", stages=list(STAGES), quotas=QUOTAS, ground_truth=4, operator="sigmoid",
        temperature=1e-4,
    )  # fmt: skip
    found = Calibration.of(objective, QUOTAS)
    spread = []
    for part in scored:  # distinct scores, as a tie at the cut has no certain side
        noise = torch.linspace(0, 0.9, part.scores.shape[-1], dtype=torch.float64)
        batch = scored_batch(part.batch, part.scores + noise, quotas=QUOTAS, k=4, threshold=1)
        spread.append(batch)
        found.add(batch)
    assert [found.distance(t) for t in range(3)] == pytest.approx([0] * 3, abs=1e-3)
    alone = sum(int(kept_alone(p).all(0).sum()) for p in spread)
    assert found.predicted[-1].sum() == pytest.approx(alone, rel=1e-3)  # LCRON's lower bound
    assert found.counts.sum(1).tolist() == [sum(int(p.mask.sum()) for p in spread)] * 4
    assert found.kept[-1].sum() == sum(int(p.kept[-1].sum()) for p in spread)


def test_calibration_of_a_warm_operator_has_an_error(scored):
    warm = build_objective(
        "lcron", stages=list(STAGES), quotas=QUOTAS, ground_truth=4, operator="sigmoid",
        temperature=100.0,
    )  # fmt: skip
    found = Calibration.of(warm, QUOTAS)
    found.add(scored[0])
    # Each of n candidates has the probability 12 / n, and 12 are kept.
    real = int(scored[0].mask.sum())
    expected = sum(2 * (q := 12 / n) * (1 - q) * n for n in scored[0].mask.sum(-1).tolist()) / real
    assert found.distance(0) == pytest.approx(expected, abs=0.02)


def test_an_objective_without_survival_probability_has_no_calibration():
    bce = build_objective("bce", stages=["a", "b"], quotas=(4, 2), ground_truth=1)
    assert Calibration.of(bce, (4, 2)) is None


def test_tied_scores_are_counted():
    scores = torch.tensor([[[1.0, 1, 1, 1], [3, 2, 2, 1], [4, 3, 2, 1]]]).double()
    batch = RequestBatch(mask=torch.ones(3, 4).bool(), items={}, labels=torch.ones(3, 4))
    tied = TiedScores(1)
    tied.add(scored_batch(batch, scores, quotas=(2,), k=1))
    assert (tied.lists, tied.constant, tied.at_cut) == ([3], [1], [2])
    (warning,) = tied.warnings(["only"])
    assert warning == (
        "Stage only gives all candidates that it receives the same score in 1 of 3 test lists."
    )


SCHEMA = FittedSchema(
    features=(
        {"name": "category", "role": "item", "kind": "categorical"},
        {"name": "tags", "role": "item", "kind": "categorical", "multiple": True},
        {"name": "price", "role": "item", "kind": "numeric", "transform": "log1p_standardise"},
    ),
    vocabularies={"category": ("x", "y", "z"), "tags": ("s", "t")},
    moments={"price": {"mean": 2.0, "deviation": 0.5}},
)


@pytest.mark.parametrize(("feature", "names"), [("category", "xyz"), ("tags", "st")])
def test_units_of_items_are_those_of_loops(scored, feature, names):
    items = GroundTruthItems([SCHEMA[feature]])
    for part in scored:
        items.add(part)
    (found,) = item_groupings(items, SCHEMA, STAGES)
    weights = defaultdict(float)
    for part in scored:
        kept = part.kept.sum(0)
        for b, row in enumerate(part.batch.rows.tolist()):
            for i in range(part.mask.shape[1]):
                codes = part.batch.items[feature][b, i]
                for code in codes.reshape(-1).tolist():
                    if part.relevant[b, i] > 0 and code >= 0:
                        name = names[code - 1] if code else "not in training"
                        weights[row, name, int(kept[b, i])] += float(part.relevant[b, i])
    expected = defaultdict(dict)
    for row, name in {key[:2] for key in weights}:
        fates = [weights[row, name, fate] for fate in range(4)]
        expected[name][row] = [x / sum(fates) for x in fates]
    for code, name in enumerate(found.names):
        inside = found.codes == code
        units = sorted(
            zip(found.values[inside], *(found.details[s][inside] for s in STAGES), strict=True)
        )
        plain = sorted((x[3], *x[:3]) for x in expected[name].values())
        assert [list(u) for u in units] == [pytest.approx(list(u)) for u in plain]


def test_the_most_frequent_categories_have_slices():
    column = np.repeat(np.arange(60), np.arange(60) + 1)
    schema = FittedSchema(
        features=({"name": "c", "role": "item", "kind": "categorical"},),
        vocabularies={"c": tuple(range(100, 159))},
    )
    names, codes = category_slices(schema, schema["c"], column)
    assert names == ["not in training", *(str(99 + code) for code in range(30, 60))]
    assert {int(column[codes == i][0]) for i in range(len(names))} == {0, *range(30, 60)}
    assert (codes[(column > 0) & (column < 30)] == -1).all()


def test_slices_of_numbers_cover_all_values():
    rng = np.random.default_rng(0)
    column = np.r_[rng.normal(size=100), [np.nan] * 3, [5.0] * 40]
    names, codes = number_slices(column)
    assert len(names) == codes.max() + 1
    assert names[-1] == "missing"
    assert (codes >= 0).all()
    for i, name in enumerate(names[:-1]):
        low, _, high = name.partition(" to ")
        own = column[codes == i]
        assert float(low) == pytest.approx(own.min(), rel=1e-3)
        assert float(high or low) == pytest.approx(own.max(), rel=1e-3)


def test_numbers_are_shown_as_in_the_log():
    raw = np.array([-3.0, 0.0, 20.0])
    encoded = (np.sign(raw) * np.log1p(np.abs(raw)) - 2.0) / 0.5
    assert original(SCHEMA, SCHEMA["price"], encoded) == pytest.approx(raw)
    plain = Feature(name="n", role="item", kind="numeric", transform="none")
    assert original(SCHEMA, plain, raw) == pytest.approx(raw)


def test_the_stability_index_is_its_formula():
    train, test = np.repeat([0, 1, 2], [50, 30, 20]), np.repeat([0, 1, 7], [20, 30, 50])
    p = np.array([50.5, 30.5, 20.5, 0.5]) / 102
    q = np.array([20.5, 30.5, 0.5, 50.5]) / 102
    assert stability_index(train, test) == pytest.approx(sum((p - q) * np.log(p / q)))
    rng = np.random.default_rng(0)
    same = [
        stability_index(rng.integers(10, size=2000), rng.integers(10, size=2000)) for _ in range(20)
    ]
    assert np.mean(same) == pytest.approx(10 * (1 / 2000 + 1 / 2000), rel=0.4)


def summary(mean, low, high):
    return Summary(mean=mean, low=low, high=high, requests=100, undefined=0)


def test_the_verdict_is_one_sentence():
    verdict = Verdict(
        joint=summary(0.77, 0.76, 0.78),
        ceiling=0.96,
        ceiling_kind="quotas",
        lost={"retrieval": 0.164, "ranking": 0.066},
        mended={"retrieval": 0.82, "ranking": 0.83},
        margin=summary(0.1, -0.01, 0.2),
    )
    assert verdict.sentence == (
        "retrieval loses most: .164 of .230; mending it alone would give .820."
    )
    assert verdict.share_of_ceiling == pytest.approx(0.77 / 0.96)
    assert verdict.remarks == (
        "ranking loses about as much, .066: the interval of the difference over requests, -.010 to "
        "+.200, includes 0.",
        "Mending ranking would give more, .830: what a perfect retrieval saves, a later stage may "
        "cut.",
    )


def test_the_verdict_of_a_cascade_that_loses_nothing():
    whole = summary(1.0, 1.0, 1.0)
    verdict = Verdict(
        joint=whole, ceiling=1.0, ceiling_kind="quotas", lost={"a": 0.0, "b": 0.0},
        mended={"a": 1.0, "b": 1.0}, margin=summary(0.0, 0.0, 0.0),
    )  # fmt: skip
    assert (verdict.sentence, verdict.remarks) == ("No stage loses ground truth.", ())
    assert verdict.facts[-1].value == "none"
    assert not math.isnan(verdict.share_of_ceiling)
