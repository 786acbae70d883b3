"""Addresses of a server to verify through: each mistake is one line."""

import pytest

from cascaderank.errors import RunError
from cascaderank.serving.http.remote import RemoteRanker
from tests.command_line import cascaderank


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://localhost",
        "http://",
        "http://a..b",
        f"http://{'a' * 64}.example",
        "http://a b",
        "http://localhost:99999",
        "http://localhost:port",
        "http://localhost/?x=1",
        "http://[::1",
        "http://localhost/\udcff",
        "http://\udcff",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(RunError, match="--url: expected an address such as http://127"):
        RemoteRanker(url)


@pytest.mark.parametrize("path", ["/ü", "/a b", "/%C3%BC", ""])
def test_a_server_that_does_not_answer_is_named(path):
    remote = RemoteRanker(f"http://127.0.0.1:1{path}")
    with pytest.raises(RunError, match="does not answer: Connection refused; start the server"):
        remote.check_same("bundle")
    remote.close()


def test_a_path_is_sent_escaped_once():
    remote, sent = RemoteRanker("http://localhost/ü b%20c/"), []
    remote._connection.putrequest = lambda method, url, **_: sent.append(url)
    with pytest.raises(RunError):  # no connection was opened
        remote.check_same("bundle")
    assert sent == ["/%C3%BC%20b%20c/v1/bundle"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://a..b", "expected an address such as http://127.0.0.1:8000, found 'http://a..b'"),
        ("http://127.0.0.1:1/ü", "http://127.0.0.1:1/ü: does not answer"),
    ],
)
def test_the_command_prints_one_line(bundle, url, message):
    done = cascaderank("verify", bundle, "--url", url)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert message in done.stderr
