"""The page in a real browser: what it shows is what the server answers."""

import json

import numpy as np
import pytest

from cascaderank.serving.http.service import Service
from cascaderank.serving.variant_routing import Routing
from tests.serving.http.chromium import (
    ids,
    in_thread,
    opened,
    quota,
    ranked,
    sentence,
    shown_ids,
    violations,
)

NAMES = ["retrieval", "preranking", "ranking"]


@pytest.mark.parametrize(
    ("width", "scheme"), [(360, "dark"), (768, "light"), (1440, "light"), (1440, "dark")]
)
def test_the_funnel_is_that_of_the_answer(browser, url, width, scheme):
    answer = ranked(url)
    size = {"width": width, "height": 800}
    with opened(browser, url, viewport=size, color_scheme=scheme) as page:
        assert shown_ids(page) == ids(answer)
        for i, stage in enumerate(answer["stages"]):
            card = page.locator(".stage").nth(i)
            assert card.locator("h3").inner_text() == stage["name"]
            numbers = card.locator(".numbers").inner_text()
            assert f"{stage['came']} came" in numbers
            assert f"{stage['left']} left" in numbers
            assert card.locator(".time").inner_text().endswith(" ms")
            label = card.locator("svg.scores").get_attribute("aria-label")
            scores = np.array(answer["trace"]["scores"][stage["name"]], dtype=float)
            scores = np.sort(scores[~np.isnan(scores)])[::-1]
            cut = (scores[stage["left"] - 1] + scores[stage["left"]]) / 2
            assert f"{stage['came']} candidates" in label
            assert f"the cut is at {cut:.4g}" in label.replace(",", "")
            assert card.locator("path.line").count() == 1
        assert violations(page) == []


def test_the_table_of_a_stage_is_sorted_by_rank_with_the_line_of_the_cut(browser, url):
    trace = ranked(url)["trace"]
    with opened(browser, url) as page:
        for stage in ("preranking", "retrieval"):
            page.get_by_role("radio", name=stage).check(force=True)
            came = sorted((r, i) for i, r in enumerate(trace["ranks"][stage]) if r)
            rows = [r.split("\t") for r in page.locator("#fates-table tbody tr").all_inner_texts()]
            line = next(i for i, row in enumerate(rows) if len(row) == 1)
            assert rows.pop(line) == ["Line of the cut"]
            assert line == {"retrieval": 8, "preranking": 6}[stage]
            assert len(rows) == min(25, len(came))
            for (rank, place), row in zip(came, rows, strict=False):
                assert [int(row[0]), int(row[1])] == [rank, trace["ids"][place]]
                assert float(row[2]) == pytest.approx(trace["scores"][stage][place], rel=1e-3)
                assert row[3] == ("✓ kept" if rank <= line else "✕ cut")
                step = trace["cut_by"][place]
                assert row[4].startswith("position" if step is None else f"cut by {step}")
        assert page.inner_text("#fates-table .pages [role=status]") == "1\u201325 of 30"
        page.click("#fates-table [aria-label='Next page']")
        assert page.locator("#fates-table tbody tr").count() == 5
        page.click("text=To the cut")
        assert page.locator("#fates-table tr.line").count() == 1


def test_a_quota_shows_at_once_what_it_would_do(browser, url):
    own = ids(ranked(url))
    with opened(browser, url) as page:
        assert page.locator("#reset").is_hidden()
        for quotas in (
            {"retrieval": 8, "preranking": 6, "ranking": 4},
            {"retrieval": 30, "preranking": 6, "ranking": 4},
            {"retrieval": 30, "preranking": 20, "ranking": 5},
        ):
            for i, name in enumerate(NAMES):
                if page.input_value(f"#quota-{i}") != str(quotas[name]):
                    quota(page, i, quotas[name])
            now = ids(ranked(url, quotas=quotas))
            assert now != own
            assert shown_ids(page) == now
            came, left = set(now) - set(own), set(own) - set(now)
            text = page.inner_text("#difference")
            assert f"{len(came)} item" in text
            assert f"and {len(left)} left it" in text
            changes = page.locator("#answer-table tbody .end").all_inner_texts()
            for item, change in zip(now, changes, strict=True):
                before = own.index(item) + 1 if item in own else None
                expected = {None: "+ came in", now.index(item) + 1: "same"}.get(
                    before, f"was {before}"
                )
                assert change == expected
            gone = page.locator("#left li").all_inner_texts()
            assert [text.split()[1] for text in gone] == [item for item in own if item not in now]
        page.focus("#reset")
        page.keyboard.press("Enter")
        page.wait_for_selector("#reset", state="hidden")
        assert shown_ids(page) == own
        assert page.input_value("#quota-0") == "8"


def test_a_quota_that_changes_while_a_request_is_loaded_counts_for_it(browser, url):
    held = []
    with opened(browser, url) as page:
        page.route("**/v1/golden/2?*", lambda r: r.continue_() if held else held.append(r))
        page.evaluate("() => document.querySelector('#golden').selectedIndex = 2")
        page.dispatch_event("#golden", "change")
        page.fill("#quota-0", "20")
        page.wait_for_selector("#reset:visible")
        assert held
        assert shown_ids(page) == ids(ranked(url, 2, quotas={"retrieval": 20}))
        assert page.input_value("#golden") == "2"


def test_quotas_that_cannot_be_are_refused_at_the_field(browser, url):
    with opened(browser, url) as page:
        for value, text in [
            ("0", "Enter a whole number from 1 to 60."),
            ("", "Enter a whole number from 1 to 60."),
            ("1.5", "Enter a whole number from 1 to 60."),
            ("61", "Enter a whole number from 1 to 60."),
            ("9", "At most 8, the quota of retrieval before it."),
        ]:
            page.fill("#quota-1", value)
            assert page.inner_text("#quota-1-error").endswith(text)
            assert page.get_attribute("#quota-1", "aria-invalid") == "true"
        quota(page, 1, 7)
        assert page.inner_text("#quota-1-error") == ""
        assert page.get_attribute("#quota-1", "aria-invalid") is None


def test_one_sentence_is_true_of_every_item(browser, url):
    """The quota that a sentence names keeps the item, and one less does not."""
    answer = ranked(url)
    trace, own = answer["trace"], {"retrieval": 8, "preranking": 6, "ranking": 3}
    came = {s["name"]: s["came"] for s in answer["stages"]}
    kept = ids(answer)
    with opened(browser, url) as page:
        for place, item in enumerate(trace["ids"]):
            text = sentence(page, item)
            stage = trace["cut_by"][place]
            if stage is None:
                assert text.startswith(
                    f"Item {item} is in the answer at position {kept.index(str(item)) + 1}"
                )
                continue
            scores = trace["scores"][stage]
            ranks = trace["ranks"][stage]
            distance = scores[ranks.index(own[stage])] - scores[place]
            assert text == (
                f"Item {item} was cut by {stage}: rank {ranks[place]} of {came[stage]}, "
                f"{float(f'{distance:.3g}'):g} below the last one that was kept; "
                f"a quota of {ranks[place]} would have kept it."
            )
        assert sentence(page, 99) == "The catalogue of this bundle has no item 99."
    item = trace["ids"][trace["cut_by"].index("ranking")]
    rank = trace["ranks"]["ranking"][trace["ids"].index(item)]
    for given, there in [(rank, True), (rank - 1, False)]:
        assert (str(item) in ids(ranked(url, quotas={"ranking": given}))) is there


def test_sentences_with_filters_pins_caps_and_top(browser, url):
    first = ranked(url)
    best, last = (
        first["items"][0]["id"],
        first["trace"]["ids"][first["trace"]["ranks"]["retrieval"].index(30)],
    )
    with opened(browser, url) as page:
        page.click("#options-part summary")

        def by(options):
            page.fill("#options", json.dumps(options))
            page.press("#options", "Control+Enter")
            page.wait_for_function("() => document.querySelector('#edited').textContent === ''")
            page.wait_for_selector("body:not([aria-busy])")
            answer = ranked(url, **options)
            assert shown_ids(page) == ids(answer)
            return answer

        by({"filters": {"items": [best]}})
        assert (
            sentence(page, best)
            == f"Item {best} was left out by the filters, before the first stage."
        )
        assert page.inner_text("#notes") == "1 candidate left out by the filters."
        by({"top": 1})
        second = first["items"][1]["id"]
        assert (
            "passed all stages, but the answer has only the first 1: rank 2 of 6 in ranking"
            in sentence(page, second)
        )
        answer = by({"rerank": {"pins": [{"item": last, "position": 2}], "caps": {"shop": 1}}})
        assert f"Item {last} is in the answer at position 2, where it is pinned" in sentence(
            page, last
        )
        assert "rules for the final list" in page.locator(".stage.rules").inner_text()
        out = next(
            i
            for i, step in zip(answer["trace"]["ids"], answer["trace"]["cut_by"], strict=True)
            if step == "reranking"
        )
        assert "the rules for the final list gave its place to others" in sentence(page, out)
        trace = answer["trace"]
        steps, pin = trace["cut_by"], trace["ids"].index(last)
        for stage, quota_of in (("retrieval", 8), ("preranking", 6)):
            ranks, scores = trace["ranks"][stage], trace["scores"][stage]
            # the pinned item, the last of the first stage, passes in addition to the quota
            free = sorted((r, place) for place, r in enumerate(ranks) if r and place != pin)
            worst = scores[free[quota_of - 1][1]]
            for number, (_, place) in enumerate(free, start=1):
                if steps[place] == stage:
                    text = sentence(page, trace["ids"][place])
                    assert f", {float(f'{worst - scores[place]:.3g}'):g} below the last" in text
                    assert f"; a quota of {number} would have kept it." in text


def test_a_stage_that_was_left_out_is_named(browser, url, service, monkeypatch):
    for plan in service.rankers["main"].plans[1:]:
        monkeypatch.setattr(plan.pace, "expected", lambda candidates: 1e9)
    with opened(browser, url) as page:
        page.click("#options-part summary")
        page.fill("#options", '{"deadline_ms": 5000}')
        page.click("#request .primary")
        page.wait_for_selector("#notes li")
        assert "Left out to meet the deadline: preranking, ranking." in page.inner_text("#notes")
        assert page.locator(".stage .time").all_inner_texts()[1:] == ["left out", "left out"]
        ranks = ranked(url)["trace"]
        item = ranks["ids"][ranks["ranks"]["retrieval"].index(7)]
        assert sentence(page, item).startswith(
            f"Item {item} was cut in preranking, which was left out to meet the deadline, by the "
            "scores of retrieval: rank 7 of 8, "
        )


def test_items_that_an_index_does_not_find(browser, url):
    lost = ranked(url)["trace"]["ids"][-1]

    def approximate(route):
        reply = route.fetch()
        answer = reply.json()
        if len(answer["trace"]["ids"]) > 1:
            answer["approximate"] = True
            for values in (
                answer["trace"]["ids"],
                answer["trace"]["cut_by"],
                answer["trace"]["ranks"]["retrieval"],
            ):
                values.pop()
        route.fulfill(response=reply, json=answer)

    with opened(browser, url, wait="header") as page:
        page.route("**/v1/rank", approximate)
        page.reload()
        page.wait_for_selector("#notes li")
        assert "An index searched" in page.inner_text("#notes")
        assert "was not found by the index" in sentence(page, lost)
        page.fill("#item-id", "99")
        page.press("#item-id", "Enter")
        page.wait_for_function(
            "() => document.querySelector('#sentence').textContent.includes('has no item 99')"
        )


def test_stages_that_need_rows_rank_the_candidates_of_the_golden_request(
    browser, bundle, searching_bundle
):
    routing = Routing(variants=("main", "other"), ab={"other": 0.1})
    service = Service({"main": bundle, "other": searching_bundle}, routing=routing)
    with in_thread(service) as address, opened(browser, address) as page:
        assert page.locator("#candidates input[value=search]").is_disabled()
        assert "stage ranking reads distance, of request and item together" in page.inner_text(
            "#candidates-hint"
        )
        assert "of 5 candidates" in page.inner_text("#summary")
        page.select_option("#variant", "other")
        page.wait_for_function(
            "() => document.querySelector('#summary').textContent.includes('of 30 candidates')"
        )
        assert page.locator("#candidates input[value=search]").is_checked()
        page.get_by_role("radio", name="the 5 of this golden request").check()
        page.wait_for_function(
            "() => document.querySelector('#summary').textContent.includes('of 5 candidates')"
        )
    service.close()


def test_integers_of_64_bits_stay_exact(browser, url):
    with opened(browser, url) as page:
        text = page.evaluate("""async () => {
          const { parsed, jsonText } = await import("/page/json_text.js");
          return jsonText(parsed('{"a": [9007199254740993, -9223372036854775808, 0.12345678901234567, "12345678901234567890", 7, null, true]}'));
        }""")
    assert (
        text
        == '{"a": [9007199254740993, -9223372036854775808, 0.12345678901234566, "12345678901234567890", 7, null, true]}'
    )
