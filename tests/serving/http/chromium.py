"""Servers in a thread and pages in a headless Chromium, for the tests of the page."""

import contextlib
import importlib.resources
import json
import os
import shutil
import threading
import time
from urllib.request import Request, urlopen

import pytest
import uvicorn

from cascaderank.serving.http.app import build_app
from cascaderank.serving.http.server import bound_socket, limited_protocol, url_of

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@contextlib.contextmanager
def launched():
    """Start a browser; without one, the test is skipped."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="the package playwright is not installed"
    )
    if CHROMIUM is None:
        pytest.skip("there is no chromium: the page is not tested in a browser")
    words = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    with api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=words)
        yield browser
        browser.close()


@contextlib.contextmanager
def in_thread(service, access=None):
    """Serve at a free port of this machine in a thread; yield the address."""
    bound = bound_socket("127.0.0.1", 0)
    config = uvicorn.Config(
        build_app(service, access),
        http=limited_protocol(service.limits),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield url_of(bound) + "/"
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()


@contextlib.contextmanager
def opened(browser, url, *, wait="#answer-table tbody tr", errors=0, **options):
    """Open a page in a new context, and check at the end what no page may do.

    Args:
        browser: a browser.
        url: address.
        wait: selector of what must be there first.
        errors: number of errors in the console that are expected: answers that are no success.
        options: of the context; by default a window of 1,440 by 900 pixels.
    """
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
    context.set_default_timeout(20_000)
    page = context.new_page()
    messages, requests = [], []
    page.on(
        "console", lambda m: messages.append(m.text) if m.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda e: messages.append(f"uncaught: {e}"))
    page.on("request", lambda r: requests.append(r.url))
    page.goto(url)
    page.wait_for_selector(wait)
    yield page
    assert len(messages) == errors, messages
    assert all("status of" in text for text in messages), messages
    assert all(each.startswith(url) for each in requests), requests
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def violations(page):
    """Return what axe-core finds wrong in the names, roles and contrast of a page, with elements."""
    axe = importlib.resources.files("axe_playwright_python") / "axe.min.js"
    rules = ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]
    found = page.evaluate(
        f"async (rules) => {{ {axe.read_text(encoding='utf-8')}; return axe.run({{runOnly: rules}}) }}",
        rules,
    )
    return [(each["id"], [n["html"][:200] for n in each["nodes"]]) for each in found["violations"]]


def ranked(url, index=0, **members):
    """Return the answer to a golden request over all items, with its trace."""
    values = json.load(urlopen(f"{url}v1/golden/{index}"))["request"]
    body = json.dumps({"request": values, "trace": True, "record": False, **members}).encode()
    return json.load(urlopen(Request(f"{url}v1/rank", body, {"content-type": "application/json"})))


def ids(answer):
    return [str(item["id"]) for item in answer["items"]]


def shown_ids(page):
    return page.locator("#answer-table tbody .id").all_inner_texts()


def sentence(page, item):
    page.fill("#item-id", str(item))
    page.press("#item-id", "Enter")
    page.wait_for_function(
        "id => document.querySelector('#sentence').textContent.includes(id)", arg=str(item)
    )
    return page.inner_text("#sentence")


def quota(page, stage, value):
    """Type a quota, and wait for the answer to it."""
    with page.expect_response("**/v1/rank"):
        page.fill(f"#quota-{stage}", str(value))
    page.wait_for_selector("body:not([aria-busy])")
