"""Errors of requests as problem documents (RFC 9457)."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, final

from cascaderank.errors import CascadeRankError, RunError

MEDIA_TYPE: Final = "application/problem+json"

TITLES: Final[dict[str, tuple[int, str]]] = {
    "malformed-body": (400, "The body is not valid JSON"),
    "unauthorized": (401, "A token is needed"),
    "forbidden": (403, "The request is not allowed"),
    "not-found": (404, "There is no such resource"),
    "method-not-allowed": (405, "The resource does not have this method"),
    "too-slow": (408, "The request was not sent in time"),
    "bundle-unusable": (409, "The bundle cannot be loaded; the loaded one is served"),
    "reload-running": (409, "A reload is running"),
    "too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body has another content type or encoding"),
    "misdirected": (421, "The request is for another host"),
    "invalid-request": (422, "The request is invalid"),
    "bug": (500, "The server failed; its log has the reason"),
    "overloaded": (503, "The server has too many requests"),
    "deadline-missed": (503, "The deadline passed before the request was begun"),
    "unavailable": (503, "The server cannot do this at present"),
}
"""Status and title by name; the type of a problem is ``urn:cascaderank:problem:NAME``."""

_FIELD = re.compile(r"^(?:\w+ )?feature '([^']+)'")
_ABSENT = re.compile(r"^the request has no '([^']+)'")
_PLACE = re.compile(r"^(candidates|quotas|filters|caps|pins|diversity|top|deadline_ms|history)\b")
_PARTS = re.compile(
    r"(?:^|: |, | )(?:expected|must be|needs?) (?P<expected>.+?)"
    r"[;,] (?:found|got) (?P<found>.+?)(?:;|$)"
)


@final
class ProblemError(Exception):
    """An error that is answered by a problem document.

    Args:
        name: name in :data:`TITLES`.
        detail: one sentence on this occurrence.
        field: member of the body or header that is wrong, such as ``request.hour``.
        expected: what was expected.
        found: what was found.
        headers: further headers of the answer.

    Examples:
        >>> ProblemError("too-large", "x", field="body", expected="1 byte").to_json()["status"]
        413
    """

    def __init__(
        self,
        name: str,
        detail: str,
        *,
        field: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.name = name
        self.status, self.title = TITLES[name]
        self.detail = detail
        self.members = {"field": field, "expected": expected, "found": found}
        self.headers = dict(headers or {})

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "type": f"urn:cascaderank:problem:{self.name}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **{name: text for name, text in self.members.items() if text is not None},
        }

    def content(self) -> bytes:
        """Return the document as UTF-8."""
        # A quoted value may have lone surrogates, which UTF-8 cannot encode: hence ASCII.
        return json.dumps(self.to_json()).encode()


def invalid(
    field: str, *, expected: str, found: str, remedy: str = "", name: str = "invalid-request"
) -> ProblemError:
    """Return the problem of an invalid member of a body.

    Examples:
        >>> print(invalid("top", expected="a positive integer", found="-1"))
        top: expected a positive integer, found -1
    """
    detail = f"{field}: expected {expected}, found {found}" + (f"; {remedy}" if remedy else "")
    return ProblemError(name, detail, field=field, expected=expected, found=found)


def problem_of(error: CascadeRankError, of_items: Collection[str] = ()) -> ProblemError:
    """Return the problem of an error of the library.

    Field, expected and found are those of its message, as far as it has them.

    Args:
        error: the error.
        of_items: names of features that candidates have, not the request.

    Examples:
        >>> from cascaderank.errors import DataError
        >>> error = DataError("feature 'age': expected a number, found none; add one")
        >>> [*problem_of(error).members.values()]
        ['request.age', 'a number', 'none']
    """
    text = " ".join(str(error).split())
    if isinstance(error, RunError):
        return ProblemError("bundle-unusable", text)
    absent = _ABSENT.search(text)
    if absent:
        return ProblemError(
            "invalid-request",
            text,
            field=f"request.{absent[1]}",
            expected="a value, or null if it is missing",
            found="no such name",
        )
    feature, place, parts = _FIELD.search(text), _PLACE.search(text), _PARTS.search(text)
    owner = "candidates" if feature and feature[1] in of_items else "request"
    return ProblemError(
        "invalid-request",
        text,
        field=f"{owner}.{feature[1]}" if feature else place[1] if place else None,
        expected=parts["expected"] if parts else None,
        found=parts["found"] if parts else None,
    )
