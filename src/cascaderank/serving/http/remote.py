"""A server as a way to serve golden requests, for the verification of its bundle."""

import http.client
import os
from collections.abc import Mapping
from typing import Any, Final, final
from urllib.parse import quote, urlsplit

import numpy as np
from pydantic_core import from_json, to_json

from cascaderank.errors import RunError, shown
from cascaderank.serving.answer import Answer, StageReport, Trace
from cascaderank.serving.bundle_files import read_bundle_manifest
from cascaderank.serving.golden import GoldenRequest
from cascaderank.serving.variant_routing import MAIN

_SECONDS: Final = 60
_KINDS: Final = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
_PATH: Final = "/%:@!$&'()*+,;=~"  # characters of a path that need no escape, or are one


@final
class RemoteRanker:
    """Sends golden requests to a server; :meth:`answer` is a way to serve for a verification.

    Needs no extra.

    Args:
        url: address of the server, such as ``http://127.0.0.1:8000``.
        token: token of the server; ``None`` for none.

    Raises:
        RunError: if the address is no URL of HTTP.
    """

    def __init__(self, url: str, *, token: str | None = None) -> None:
        try:
            parts = urlsplit(url)
            if parts.scheme not in _KINDS or not parts.hostname or parts.query:
                raise ValueError
            parts.hostname.encode("idna")  # as a connection does
            self._connection = _KINDS[parts.scheme](parts.hostname, parts.port, timeout=_SECONDS)
            self._prefix = quote(parts.path.rstrip("/"), safe=_PATH)
        except (ValueError, http.client.InvalidURL):
            raise RunError(
                f"--url: expected an address such as http://127.0.0.1:8000, found {shown(url)}"
            ) from None
        self.url = url
        self._headers = {"content-type": "application/json"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"

    def check_same(self, folder: str | os.PathLike[str], *, variant: str = MAIN) -> None:
        """Check that the server has loaded the files of a bundle.

        Args:
            folder: folder of the bundle.
            variant: variant of the server.

        Raises:
            RunError: if it serves another bundle, or does not answer.
        """
        served = self._sent("GET", "/v1/bundle", None)
        try:
            found: Mapping[str, str] = served["variants"][variant]["sha256"]
        except (KeyError, TypeError):
            raise RunError(f"{self.url}: is no server of cascaderank; check the address") from None
        expected = {n: e.sha256 for n, e in read_bundle_manifest(folder).files.items()}
        other = [name for name, digest in expected.items() if found.get(name) != digest]
        if other:
            raise RunError(
                f"{self.url}: serves another bundle: expected the {other[0]} of {folder}, found "
                "another; reload the server, or verify the bundle that it serves"
            )

    def answer(self, golden: GoldenRequest) -> Answer:
        """Return the answer to a golden request, with its trace; no log has the request.

        Raises:
            RunError: if the server refuses the request, or does not answer.
        """
        body = {
            "request": golden.request,
            "candidates": golden.rows,
            "trace": True,
            "variant": MAIN,
            "record": False,
            "deadline_ms": 1000 * _SECONDS,
        }
        content = self._sent("POST", "/v1/rank", to_json(body, inf_nan_mode="null"))
        try:
            return _answer_of(content)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{self.url}: the answer does not have the expected form: {error}"
            ) from None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _sent(self, method: str, path: str, body: bytes | None) -> Any:
        # The server ends a connection that idles: then another one is opened.
        kept = self._connection.sock is not None
        try:
            reply, content = self._reply(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            if kept:
                return self._sent(method, path, body)
            reason = getattr(error, "strerror", None) or error or type(error).__name__
            raise RunError(f"{self.url}: does not answer: {reason}; start the server") from None
        try:
            found = from_json(content)
        except ValueError:
            found = None
        if reply.status != http.client.OK or found is None:
            detail = found.get("detail") if isinstance(found, dict) else None
            raise RunError(f"{self.url}{path}: answered {reply.status}: {detail or reply.reason}")
        return found

    def _reply(
        self, method: str, path: str, body: bytes | None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self._connection.request(method, self._prefix + path, body, self._headers)
        reply = self._connection.getresponse()
        return reply, reply.read()


def _answer_of(content: Mapping[str, Any]) -> Answer:
    stages = tuple(StageReport(**stage) for stage in content["stages"])
    trace, names = content["trace"], [stage.name for stage in stages]
    cut_by = trace["cut_by"]
    # A stage keeps what neither it nor a step before it cuts; "filters" is before the first stage.
    order = {name: place for place, name in enumerate(names)}
    cut_at = np.array([len(names) if c is None else order.get(c, -1) for c in cut_by])
    return Answer(
        ids=[item["id"] for item in content["items"]],
        scores=[item["score"] for item in content["items"]],
        stages=stages,
        milliseconds=content["milliseconds"],
        trace=Trace(
            keys=trace["ids"],
            scores={n: np.array(s, dtype=np.float32) for n, s in trace["scores"].items()},
            ranks={n: np.array(r, dtype=np.int64) for n, r in trace["ranks"].items()},
            kept={name: cut_at > place for name, place in order.items()},
            cut_by=cut_by,
        ),
    )
