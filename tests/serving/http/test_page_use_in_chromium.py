"""The use of the page in a real browser: keyboard, colours, errors, tokens, and strange data."""

import json

import numpy as np
import polars as pl

from cascaderank.serving import export_run
from cascaderank.serving.http.access import Access
from cascaderank.serving.http.service import Service
from tests.data.shops import write_shop
from tests.runs.conftest import untrained
from tests.serving.conftest import MARKET, SEARCHING, market_frame, market_items
from tests.serving.http.chromium import (
    in_thread,
    opened,
    ranked,
    sentence,
    shown_ids,
    violations,
)
from tests.serving.http.test_app import TOKEN


def test_problems_of_the_server_are_shown_at_their_field(browser, url):
    def refused(page, part, text, error):
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        page.fill(f"#{part}", text)
        page.click("#request .primary")
        place = {"own": "candidates"}.get(part, part)
        page.wait_for_function(
            "place => document.getElementById(`${place}-error`).textContent", arg=place
        )
        assert error in page.inner_text(f"#{place}-error")
        assert page.get_attribute(f"#{part}", "aria-invalid") == "true"

    with opened(browser, url, errors=6) as page:
        values = page.input_value("#values")
        wrong = values.replace('"age": ', '"age": "old", "x": ')
        refused(page, "values", wrong, "Numeric feature 'age' must be numbers; found 'old'")
        assert page.evaluate("getSelection().toString()") == '"age"'
        refused(page, "values", values.replace('"hour"', '"hours"'), "no 'hour'")
        refused(page, "values", values[:-1], "This is no JSON")
        refused(page, "values", "[]", "Enter a JSON object")
        page.fill("#values", values)
        refused(page, "options", '{"top": 0}', "Top: expected a positive integer, found 0")
        refused(page, "options", '{"tpo": 3}', "did you mean 'top'")
        refused(page, "options", '{"filters": {"where": 7}}', "Filters.where: expected a list")
        page.fill("#options", "")
        page.get_by_role("radio", name="my own list").check()
        refused(page, "own", "[1.5]", "Candidates: expected keys of items")
        refused(page, "own", "[1,", "This is no JSON")
        page.fill("#own", "[100, 103, 1]")
        page.click("#request .primary")
        page.wait_for_selector("#notes li")
        assert page.inner_text("#notes") == "1 candidate not in the catalogue, left out."
        assert sorted(shown_ids(page)) == ["100", "103"]
        assert sentence(page, 1).endswith("but the catalogue of this bundle does not have it.")
        assert "not among the 2 candidates of the request" in sentence(page, 106)


def test_all_is_done_by_the_keyboard(browser, url):
    with opened(browser, url) as page:
        visited = []
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement === document.body"):
                break  # after the last one
            visited.append(
                page.evaluate("""() => {
                  const at = document.activeElement, style = getComputedStyle(at);
                  const seen = at.type === "radio" && at.closest(".choice") ? getComputedStyle(at.nextElementSibling) : style;
                  return [at.id || at.name || at.textContent.trim(), seen.outlineStyle !== "none" && parseFloat(seen.outlineWidth) >= 2];
                }""")
            )
        names = list(dict.fromkeys(name for name, _ in visited))
        wanted = [
            "Skip to the funnel",
            "theme",
            "golden",
            "candidates",
            "values",
            "quota-0",
            "quota-2",
            "item-id",
            "stage",
        ]
        assert [name for name in names if name in wanted] == wanted
        assert all(ring for _, ring in visited), [name for name, ring in visited if not ring]
        page.focus("#golden-after")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('#golden').value === '1'")
        page.wait_for_selector("body:not([aria-busy])")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("ArrowUp")
        page.wait_for_function("() => document.querySelector('#golden').value === '0'")
        page.focus("#quota-2")
        page.keyboard.press("Tab")
        with page.expect_response("**/v1/rank"):
            page.keyboard.press("ArrowRight")
        page.wait_for_selector("#reset:visible")
        assert page.input_value("#quota-2") == "4"
        page.focus("#stage-choice input")
        page.keyboard.press("ArrowRight")
        assert "by the scores of preranking" in page.inner_text("#fates-table caption")
        page.locator("#fates-table .id button").first.focus()
        page.keyboard.press("Enter")
        assert page.inner_text("#sentence").startswith("Item ")
        assert page.evaluate("document.activeElement.id") == "sentence"


def test_colours_follow_the_system_and_the_switch(browser, url):
    def background(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    with opened(browser, url, color_scheme="dark") as page:
        dark = background(page)
        page.get_by_role("radio", name="Light").check(force=True)
        light = background(page)
        assert light != dark
        page.emulate_media(color_scheme="light")
        assert background(page) == light
        page.get_by_role("radio", name="Dark").check(force=True)
        assert background(page) == dark
        page.reload()
        page.wait_for_selector("#answer-table tbody tr")
        assert background(page) == dark
        assert page.get_by_role("radio", name="Dark").is_checked()
        page.get_by_role("radio", name="System").check(force=True)
        assert background(page) == light


def test_motion_is_reduced_where_it_should_be(browser, url):
    with opened(browser, url) as page:
        page.evaluate("document.body.setAttribute('aria-busy', 'true')")
        for motion, seconds in (("reduce", "0s"), ("no-preference", "0.2s")):
            page.emulate_media(reduced_motion=motion)
            style = "getComputedStyle(document.querySelector('main')).transitionDuration"
            assert page.evaluate(style) == seconds


def test_without_javascript_a_sentence_says_what_to_do(browser, url):
    with opened(browser, url, wait="noscript", java_script_enabled=False) as page:
        assert "needs JavaScript: allow it for this address" in page.inner_text("body")
        assert page.locator("main").is_hidden()
        assert page.locator("#token").is_hidden()


def test_a_token_is_asked_for_and_sent_to_this_server_alone(browser, service):
    sent = []
    with (
        in_thread(service, Access(token=TOKEN)) as address,
        opened(browser, address, wait="#token-value", errors=2) as page,
    ):
        page.on("request", lambda r: sent.append((r.url, r.headers.get("authorization"))))
        assert page.locator("main").is_hidden()
        assert page.inner_text("#token-error") == ""
        assert page.get_attribute("#token-value", "type") == "password"
        page.keyboard.type("é")
        page.keyboard.press("Enter")
        assert "printable ASCII" in page.inner_text("#token-error")
        page.fill("#token-value", "wrong-token-0123456789")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.querySelector('#token-error').textContent.includes('did not accept')"
        )
        page.fill("#token-value", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#answer-table tbody tr")
        assert page.locator("#token").is_hidden()
        assert [header for _, header in sent[-4:]] == [f"Bearer {TOKEN}"] * 4
        page.reload()
        page.wait_for_selector("#answer-table tbody tr")
        assert not page.evaluate("document.cookie + JSON.stringify(localStorage)").strip("{}")
        assert TOKEN not in page.url + page.content()


def test_a_server_that_does_not_answer(browser, url):
    with opened(browser, url, errors=1) as page:
        page.route(
            "**/v1/rank",
            lambda route: route.fulfill(
                status=503, json={"detail": "the queue is full", "status": 503}
            ),
        )
        page.fill("#quota-0", "9")
        page.wait_for_selector("#problem:visible")
        assert page.inner_text("#problem-text").endswith("The queue is full.")
        page.unroute("**/v1/rank")
        page.click("#again")
        page.wait_for_selector("#problem", state="hidden")
        page.wait_for_selector("#reset:visible")
        page.evaluate("() => { window.fetch = () => Promise.reject(new TypeError('failed')) }")
        page.fill("#quota-0", "10")
        page.wait_for_selector("#problem:visible")
        assert "The server does not answer" in page.inner_text("#problem-text")


def test_ten_thousand_candidates_are_fluent(browser, url):
    count, rng = 10_000, np.random.default_rng(0)
    answer, before = ranked(url), np.full(10_000, 0)
    trace = {"ids": list(range(count)), "cut_by": [None] * count, "scores": {}, "ranks": {}}
    alive = np.arange(count)
    for stage, left in zip(answer["stages"], (2_000, 500, 100), strict=True):
        scores = rng.normal(size=len(alive))
        order = alive[np.argsort(-scores)]
        ranks = before.copy()
        ranks[order] = np.arange(1, len(alive) + 1)
        values = np.full(count, np.nan)
        values[alive] = scores
        trace["ranks"][stage["name"]] = ranks.tolist()
        trace["scores"][stage["name"]] = [None if np.isnan(v) else v for v in values]
        for place in order[left:].tolist():
            trace["cut_by"][place] = stage["name"]
        stage["came"], stage["left"] = len(alive), left
        alive = np.sort(order[:left])
    answer["trace"] = trace
    answer["items"] = [
        {"id": int(i), "score": 1.0, "position": p} for p, i in enumerate(order[:100], 1)
    ]
    body = json.dumps(answer)
    with opened(browser, url) as page:
        page.route(
            "**/v1/rank", lambda route: route.fulfill(body=body, content_type="application/json")
        )
        page.click("#request .primary")
        page.wait_for_function(
            "() => document.querySelector('#summary').textContent.includes('10,000')"
        )
        assert "2,000 kept, 8,000 cut" in page.inner_text("#fates-table caption")
        assert page.locator("tr").count() < 80
        spent = page.evaluate(
            """async (text) => {
          const { Run } = await import("/page/trace.js");
          const { Fates } = await import("/page/fates.js");
          const { scorePlot } = await import("/page/plot.js");
          const began = performance.now();
          const run = new Run(JSON.parse(text), ["retrieval", "preranking", "ranking"], "search");
          for (const stage of run.stages) scorePlot(run, stage, 500);
          return performance.now() - began;
        }""",
            body,
        )
        assert spent < 500
        began = page.evaluate("performance.now()")
        page.click("#fates-table [aria-label='Last page']")
        assert page.inner_text("#fates-table .pages [role=status]") == "9,976\u201310,000 of 10,000"
        assert page.evaluate("performance.now()") - began < 2_000
        assert "rank 10,000 of 10,000" in sentence(page, trace["ranks"]["retrieval"].index(10_000))


HOSTILE = '<img src=x onerror="document.title=1">&amp;</td><script>document.title=1</script>"\'{i}'


def test_keys_of_items_are_never_markup(browser, tmp_path):
    names = {100 + 3 * i: HOSTILE.replace("{i}", str(i)) for i in range(60)}
    items = market_items().with_columns(
        pl.col("video").replace_strict(names, return_dtype=pl.String)
    )
    frame = market_frame(40, items=items)
    watched = pl.col("watched").list.eval(
        pl.element().replace_strict(names, return_dtype=pl.String)
    )
    log = write_shop(
        tmp_path / "log",
        [frame.with_columns(watched)],
        schema=MARKET,
        level_names=(),
        name="<b>log</b>",
    )
    run = untrained(tmp_path / "run", log, SEARCHING, catalogue={"item": "video"})
    export_run(run, tmp_path / "bundle", name="<i>bundle</i>")
    service = Service({"main": tmp_path / "bundle"})
    with in_thread(service) as address, opened(browser, address) as page:
        assert set(shown_ids(page)) < set(names.values())
        item = shown_ids(page)[0]
        page.locator("#answer-table .id button").first.click()
        assert page.inner_text("#sentence").startswith(f"Item {item} is in the answer")
        assert page.inner_text("#legend-item-name") == f"item {item}"
        assert page.locator("img, td script, td td, b, main i:not(.key)").count() == 0
        assert page.title() == "<i>bundle</i> · cascaderank"
        assert violations(page) == []
        page.set_viewport_size({"width": 360, "height": 800})
    service.close()


def test_axe_finds_what_is_wrong(browser, url):
    with opened(browser, url) as page:
        page.evaluate("document.querySelector('#golden').removeAttribute('id')")
        page.evaluate("document.querySelector('#summary').style.color = '#ccc'")
        assert {name for name, _ in violations(page)} >= {"select-name", "color-contrast"}
