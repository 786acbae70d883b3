"""The page's files, its headers, and the golden requests that it chooses from, without a socket."""

import re
import shutil
from pathlib import Path

import pytest

import cascaderank.serving.http.page as page_folder
from cascaderank.errors import RunError
from cascaderank.serving import export_run
from cascaderank.serving.bundle import Bundle
from cascaderank.serving.golden import golden_requests
from cascaderank.serving.http.access import Access
from cascaderank.serving.http.golden_bodies import GoldenBodies
from cascaderank.serving.http.openapi import plain
from cascaderank.serving.http.service import Service
from tests.serving.http.conftest import client_of
from tests.serving.http.test_app import TOKEN

FOLDER = Path(page_folder.__file__).parent
FILES = sorted(p.name for p in FOLDER.iterdir() if p.suffix in (".html", ".js", ".css", ".svg"))
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


def test_the_page_and_its_files_are_sent_with_strict_headers(client):
    assert client.get("/").content == (FOLDER / "index.html").read_bytes()
    for path, name in [("/", "index.html"), *((f"/page/{name}", name) for name in FILES)]:
        reply = client.get(path)
        assert reply.status == 200
        assert reply.content == (FOLDER / name).read_bytes()
        assert reply.headers["content-type"] == TYPES[name.rsplit(".", 1)[1]]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        policy = dict(
            p.strip().split(" ", 1) for p in reply.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["form-action"] == "'none'"


@pytest.mark.parametrize("name", FILES)
def test_files_of_the_page_fetch_nothing_and_write_no_markup(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    others = set(re.findall(r"\bhttps?://[^\s\"'<>]+", text)) - {"http://www.w3.org/2000/svg"}
    assert not others
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function", text
    )
    if name.endswith(".html"):
        assert not re.search(r"\sstyle=|<style|\son\w+=|<script(?![^>]*src=)|javascript:", text)
    for used in re.findall(r"(?:from|href=|src=) ?\"(?:\./|page/)([\w.]+)\"", text):
        assert used in FILES


def test_files_that_are_not_of_the_page_are_out_of_reach(client, service):
    for name in ["__init__.py", "", "..", "%2e%2e", "../app.py", "index.html/..", ".", "x.js"]:
        assert client.get(f"/page/{name}").status == 404
    folder = service.folders["main"]
    for path in ["/bundle.json", "/v1/golden/bundle.json", f"/page/{folder}/bundle.json"]:
        assert client.get(path).status == 404


def test_golden_requests_are_bodies_that_the_server_answers(client, searching_bundle):
    golden = list(golden_requests(Bundle.load(searching_bundle)))
    listed = client.get("/v1/golden").json()["requests"]
    assert listed == [
        {"index": i, "id": g.id, "candidates": len(g.columns["video"])}
        for i, g in enumerate(golden)
    ]
    for i, expected in enumerate(golden):
        found = client.get(f"/v1/golden/{i}").json()
        assert found == {
            "index": i,
            "id": expected.id,
            "request": plain(dict(expected.request)),
            "candidates": plain(expected.rows),
        }
        body = {"request": found["request"], "candidates": found["candidates"]}
        assert client.post("/v1/rank", body).status == 200


def test_golden_requests_of_stages_that_need_rows_have_their_features(bundle):
    service = Service({"main": bundle})
    client = client_of(service)
    found = client.get("/v1/golden/3?variant=main").json()
    assert set(found["candidates"]) == {"video", "distance"}
    body = {"request": found["request"], "candidates": found["candidates"]}
    assert client.post("/v1/rank", body).status == 200
    service.close()


def test_golden_requests_that_do_not_exist_are_problems(client, bodies):
    last = len(bodies) - 1
    for index in ["-1", str(last + 1), "x", "1.0", "९", "0" * 4000, "%2e%2e"]:
        reply = client.get(f"/v1/golden/{index}")
        problem = reply.json()
        assert (reply.status, problem["field"]) == (404, "index")
        assert problem["expected"] == f"an integer from 0 to {last}"
    reply = client.get("/v1/golden?variant=../main")
    assert (reply.status, reply.json()["field"]) == (422, "variant")
    assert client.get("/v1/golden/0?variant=no").status == 422
    assert client.post("/v1/golden", {}).status == 405


def test_golden_requests_need_the_token_and_the_page_needs_none(service):
    client = client_of(service, Access(token=TOKEN))
    for path in ("/v1/golden", "/v1/golden/0"):
        assert client.get(path).status == 401
        assert client.get(path, authorization=f"Bearer {TOKEN}").status == 200
    for path in ("/", "/page/app.js"):
        assert client.get(path).status == 200
        assert TOKEN not in client.get(path).text


def test_golden_requests_are_those_of_the_bundle_that_is_served(searching_run, tmp_path):
    folder = tmp_path / "bundle"
    export_run(searching_run, folder)
    service = Service({"main": folder})
    client = client_of(service)
    before = client.get("/v1/golden/2").json()
    export_run(searching_run, folder, golden=1)
    assert client.get("/v1/golden/2").json() == before
    service.reload()
    assert client.get("/v1/golden/2").status == 404
    shutil.rmtree(folder)
    assert client.get("/v1/golden/0").status == 200
    service.close()


def test_a_bundle_that_is_replaced_while_it_is_loaded_is_refused(searching_run, tmp_path):
    folder = tmp_path / "bundle"
    export_run(searching_run, folder)
    bundle = Bundle.load(folder)
    export_run(searching_run, folder, golden=1)
    with pytest.raises(RunError, match="was replaced while it was loaded"):
        GoldenBodies(bundle)


def test_openapi_has_golden_requests_with_examples(client):
    document = client.get("/openapi.json").json()
    one = document["paths"]["/v1/golden/{index}"]["get"]
    assert one["parameters"][0]["schema"] == {"type": "integer", "minimum": 0}
    example = one["responses"]["200"]["content"]["application/json"]["example"]
    assert client.post("/v1/rank", {k: example[k] for k in ("request", "candidates")}).status == 200
    listed = document["paths"]["/v1/golden"]["get"]["responses"]["200"]["content"]
    assert listed["application/json"]["example"]["requests"][0]["index"] == 0
    references = set(
        re.findall(r'"\$ref": "#/components/schemas/(\w+)"', str(document).replace("'", '"'))
    )
    assert references == set(document["components"]["schemas"])


def test_limits_are_described(client, service):
    limits = client.get("/v1/bundle").json()["limits"]
    assert (limits["quota_factor"], limits["candidates"]) == (10, 50_000)
