"""The report in Chromium, from disk: no request, no console message, no overflow, no JavaScript."""

from pathlib import Path

import pytest

from cascaderank.reports import write_report
from tests.reports.report_pages import small_run, write_log

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

CHROMIUM = Path("/usr/bin/chromium")

if not CHROMIUM.exists():
    pytest.skip("no Chromium in /usr/bin", allow_module_level=True)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    log = write_log(folder / "log")
    run = small_run(log, folder / "run", stages=3)
    write_report([run], folder / "report.html")
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, report):
    """Function that opens the report; at exit, nothing may have been requested or complained of."""
    contexts, seen = [], []

    def build(width=1440, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url))
        page.goto(report)
        return page

    yield build
    for context in contexts:
        context.close()
    assert set(seen) == {report}


OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_overflows_and_pictures_are_seen(opened, width, scheme):
    page = opened(width, color_scheme=scheme)
    assert page.evaluate(OVERFLOW) <= 0
    shown = page.locator("figure svg:visible")
    assert shown.count() == page.locator("figure").count() > 8
    for box in [shown.nth(i).bounding_box() for i in range(shown.count())]:
        assert 200 < box["width"] <= width
        assert box["height"] > 60
    ink = page.evaluate("getComputedStyle(document.body).color")
    text = page.locator("figure svg:visible text").first
    assert text.evaluate("e => getComputedStyle(e).fill") == ink


def test_the_first_screen_has_the_verdict_and_the_numbers(opened):
    for width in (360, 1440):
        page = opened(width)
        for what in (".verdict", ".facts div >> nth=0"):
            box = page.locator(what).bounding_box()
            assert box["y"] + box["height"] < 900
        size = page.locator(".verdict").evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
        assert size >= 18


def test_tables_are_readable_without_javascript(opened):
    page = opened(768, java_script_enabled=False)
    tables = page.locator("table:visible")
    assert tables.count() >= 7
    assert "retrieval" in tables.first.inner_text()
    folded = page.locator("details").first
    assert not folded.locator("table").is_visible()
    folded.locator("summary").click()
    assert folded.locator("table").is_visible()


def test_the_keyboard_reaches_the_report_and_its_tables(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    focused = []
    for _ in range(4):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert "Survival of the ground truth by stage" in focused


def test_a_screen_reader_gets_captions_as_names_of_pictures(opened):
    page = opened()
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("navigation", name="Sections").count() == 1
    pictures = page.get_by_role("img")
    assert pictures.count() == page.locator("figure").count()
    picture = page.get_by_role("img", name="Share of the ground truth after each stage")
    assert picture.count() == 1


def test_links_lead_to_their_sections(opened):
    page = opened()
    links = page.locator("nav a")
    for i in range(links.count()):
        links.nth(i).click()
        target = page.evaluate("document.querySelector(decodeURIComponent(location.hash)).tagName")
        assert target in ("SECTION", "ARTICLE")


def test_print_has_the_tables_that_are_folded(opened):
    page = opened(794)
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("details table").first.bounding_box()["height"] > 50
    assert page.evaluate(OVERFLOW) <= 0


def test_text_has_enough_contrast(opened):
    """At least 4.5 : 1, the ratio of WCAG AA, in both colour schemes."""
    for scheme in ("light", "dark"):
        page = opened(color_scheme=scheme)
        for selector in (
            ".verdict",
            ".finding",
            ".note",
            "figcaption",
            ".facts span",
            "nav a",
            "thead th",
        ):
            colours = page.locator(selector).first.evaluate(
                "e => [getComputedStyle(e).color, getComputedStyle(e.closest('.facts div') || document.body).backgroundColor]"
            )
            assert contrast(*colours) >= 4.5, (scheme, selector, colours)


def contrast(one, other):
    def luminance(colour):
        channels = [int(x) / 255 for x in colour[4:-1].split(",")]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
