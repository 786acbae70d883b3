"""The body of ``POST /v1/rank``: checked, and as arguments of a ranker."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from cascaderank.errors import did_you_mean, shown
from cascaderank.serving.filters import Condition, Filters
from cascaderank.serving.http.http_limits import HttpLimits
from cascaderank.serving.http.json_body import (
    check_keys,
    check_list,
    check_rows,
    check_scalar,
    check_values,
    parsed_object,
)
from cascaderank.serving.http.problems import invalid
from cascaderank.serving.ranker import Quotas, Ranker
from cascaderank.serving.request_candidates import Rows
from cascaderank.serving.rerank import Rerank

_ID_LENGTH: Final = 128
_NAMES: Final = 1_000
_CONDITIONS: Final = 64
_MEMBERS: Final = (
    "request", "candidates", "top", "quotas", "filters", "rerank", "trace", "deadline_ms",
    "request_id", "variant", "record",
)  # fmt: skip


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RankBody:
    """Arguments of :meth:`~cascaderank.serving.ranker.Ranker.rank`, and what a server needs."""

    request: Mapping[str, Any]
    candidates: Sequence[Any] | Rows | None = None
    top: int | None = None
    quotas: Quotas | None = None
    filters: Filters | None = None
    rerank: Rerank | None = None
    trace: bool = False
    deadline_ms: float | None = None
    request_id: str | None = None
    """Id that the client chose; default: a random one."""
    variant: str | None = None
    """Variant that must answer; default: the one that the key of the request selects."""
    record: bool = True
    """Whether the request is written into the log of served requests."""

    def check_against(self, ranker: Ranker, limits: HttpLimits) -> None:
        """Check what depends on the bundle.

        Raises:
            ProblemError: if a quota is too large, keys are no texts or integers, or a trace would
                have too many candidates.
        """
        items = ranker.bundle.items
        given = self.candidates
        if items is not None and isinstance(given, Mapping) and items.key in given:
            check_keys(given[items.key], f"candidates.{items.key}")
        if items is not None and given and isinstance(given, list) and isinstance(given[0], dict):
            check_keys((r.get(items.key, "") for r in given), f"candidates[].{items.key}")
        if self.trace and given is None and items is not None and len(items) > limits.candidates:
            raise invalid(
                "trace",
                expected=f"at most {limits.candidates:,} candidates with a trace",
                found=f"a search over {len(items):,} items",
                remedy="give candidates",
            )
        own = {plan.name: plan.quota for plan in ranker.plans}
        if isinstance(self.quotas, Sequence) and len(self.quotas) != len(own):
            raise invalid(
                "quotas",
                expected=f"one quota per stage ({', '.join(own)})",
                found=f"{len(self.quotas)}",
            )
        if isinstance(self.quotas, Mapping):
            asked = [(name, quota) for name, quota in self.quotas.items() if name in own]
        else:
            asked = list(zip(own, self.quotas or (), strict=False))
        for name, quota in asked:
            if quota > own[name] * limits.quota_factor:
                raise invalid(
                    f"quotas.{name}",
                    expected=f"at most {own[name] * limits.quota_factor:,}, "
                    f"{limits.quota_factor} times the quota of the bundle",
                    found=f"{quota:,}",
                )


def rank_body(body: bytes, limits: HttpLimits) -> RankBody:
    """Parse and check a body.

    Args:
        body: JSON.
        limits: limits of lengths.

    Raises:
        ProblemError: if it is malformed or invalid.
        ConfigError: if filters or rules for the list are invalid.

    Examples:
        >>> rank_body(b'{"request": {"user": "u1"}, "top": 5}', HttpLimits()).top
        5
    """
    content = parsed_object(body)
    _check_names(content, "body", _MEMBERS)
    values = _typed(content, "request", dict, "an object of values by name", needed=True)
    _check_width(values, "request")
    check_values(values, "request", longest=limits.list_length)
    deadline = _number(content, "deadline_ms")
    if deadline is not None and deadline <= 0:
        raise invalid("deadline_ms", expected="a positive number", found=shown(deadline))
    text = _typed(content, "request_id", str, "a text")
    if text is not None:
        check_id(text)
    return RankBody(
        request=values,
        candidates=_candidates(content.get("candidates"), limits),
        top=_count(content, "top"),
        quotas=_quotas(content.get("quotas")),
        filters=_filters(content, limits),
        rerank=_rerank(content),
        trace=_typed(content, "trace", bool, "true or false") or False,
        deadline_ms=deadline,
        request_id=text,
        variant=_typed(content, "variant", str, "the name of a variant"),
        record=_typed(content, "record", bool, "true or false") is not False,
    )


def check_id(text: str) -> None:
    """Check the id of a request.

    Raises:
        ProblemError: if it is empty, longer than 128 characters, or not printable ASCII.
    """
    if not (0 < len(text) <= _ID_LENGTH and text.isascii() and text.isprintable()):
        raise invalid(
            "request_id",
            expected=f"1 to {_ID_LENGTH} printable ASCII characters",
            found=shown(text),
        )


def _candidates(given: Any, limits: HttpLimits) -> Sequence[Any] | Rows | None:
    if given is None:
        return None
    most = limits.candidates
    if type(given) is dict:
        _check_width(given, "candidates")
        for name, values in given.items():
            if type(values) is not list:
                raise invalid(f"candidates.{name}", expected="a list", found=shown(values))
            check_list(values, f"candidates.{name}", longest=most)
        columns: Rows = given
        return columns
    if type(given) is not list:
        raise invalid(
            "candidates",
            expected="a list of keys, a list of objects, an object of lists, or null",
            found=shown(given),
        )
    if len(given) > most:
        raise invalid("candidates", expected=f"at most {most:,}", found=f"{len(given):,}")
    kinds = set(map(type, given))
    if kinds == {dict}:
        _check_width(max(given, key=len, default={}), "candidates[]")
        check_rows(given, "candidates", longest=limits.list_length)
    elif dict in kinds:
        raise invalid("candidates", expected="all keys or all objects", found="both")
    else:
        check_keys(given, "candidates")
    return given


def _quotas(given: Any) -> Quotas | None:
    if given is None:
        return None
    found = given.values() if type(given) is dict else given
    if type(given) not in (dict, list) or any(type(q) is not int or q < 1 for q in found):
        raise invalid(
            "quotas",
            expected="positive integers, a list or an object by the names of stages",
            found=shown(given),
        )
    quotas: Quotas = given
    return quotas


def _filters(content: Mapping[str, Any], limits: HttpLimits) -> Filters | None:
    given = _typed(content, "filters", dict, "an object")
    if given is None:
        return None
    _check_names(given, "filters", ("items", "where"))
    items = _typed(given, "items", list, "a list of keys", at="filters.") or []
    if len(items) > limits.candidates:
        most = f"at most {limits.candidates:,}"
        raise invalid("filters.items", expected=most, found=f"{len(items):,}")
    check_keys(items, "filters.items")
    where = _typed(given, "where", list, "a list of conditions", at="filters.") or []
    if len(where) > _CONDITIONS:
        raise invalid(
            "filters.where", expected=f"at most {_CONDITIONS} conditions", found=f"{len(where)}"
        )
    return Filters(
        items=items,
        where=[_condition(v, f"filters.where[{i}]", limits) for i, v in enumerate(where)],
    )


def _condition(given: Any, field: str, limits: HttpLimits) -> Condition:
    names = ("feature", "operator", "value")
    if type(given) is not dict or sorted(given) != sorted(names):
        raise invalid(field, expected=f"an object of {', '.join(names)}", found=shown(given))
    for name in names[:2]:
        if type(given[name]) is not str:
            raise invalid(f"{field}.{name}", expected="a text", found=shown(given[name]))
    if given["value"] is None:
        raise invalid(f"{field}.value", expected="a value to compare with", found="null")
    check_values({"value": given["value"]}, field, longest=limits.list_length)
    return Condition(given["feature"], given["operator"], given["value"])


def _rerank(content: Mapping[str, Any]) -> Rerank | None:
    given = _typed(content, "rerank", dict, "an object")
    if given is None:
        return None
    _check_names(given, "rerank", ("caps", "pins", "diversity"))
    caps = _typed(given, "caps", dict, "an object of numbers by feature", at="rerank.") or {}
    _check_width(caps, "rerank.caps")
    for name, most in caps.items():
        _positive(most, f"rerank.caps.{name}")
    pins = _typed(given, "pins", list, "a list of objects", at="rerank.") or []
    if len(pins) > _NAMES:
        raise invalid("rerank.pins", expected=f"at most {_NAMES:,} pins", found=f"{len(pins):,}")
    for place, pin in enumerate(pins):
        field = f"rerank.pins[{place}]"
        if type(pin) is not dict or sorted(pin) != ["item", "position"]:
            raise invalid(field, expected="an object of item and position", found=shown(pin))
        check_keys([pin["item"]], f"{field}.item")
        _positive(pin["position"], f"{field}.position")
    if len({pin["item"] for pin in pins}) < len(pins):
        raise invalid("rerank.pins", expected="each item once", found="an item twice")
    diversity = _number(given, "diversity", at="rerank.")
    return Rerank(
        caps=caps,
        pins={pin["item"]: pin["position"] for pin in pins},
        diversity=diversity or 0.0,
    )


def _check_names(given: Mapping[str, Any], field: str, known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise invalid(
                field,
                expected=f"some of {', '.join(known)}",
                found=f"{shown(name)}{did_you_mean(name, known)}",
            )


def _check_width(values: Mapping[str, Any], field: str) -> None:
    if len(values) > _NAMES:
        raise invalid(field, expected=f"at most {_NAMES:,} names", found=f"{len(values):,}")


def _typed(
    content: Mapping[str, Any],
    name: str,
    kind: Callable[..., Any],
    expected: str,
    *,
    at: str = "",
    needed: bool = False,
) -> Any:
    """Return a member of a type, ``None`` if it is absent or null."""
    value = content.get(name)
    if type(value) is kind or (value is None and not needed):
        return value
    found = "no such member" if name not in content else shown(value)
    raise invalid(f"{at}{name}", expected=expected, found=found)


def _number(content: Mapping[str, Any], name: str, *, at: str = "") -> float | None:
    value = content.get(name)
    if value is None:
        return None
    if type(value) not in (int, float):
        raise invalid(f"{at}{name}", expected="a number", found=shown(value))
    check_scalar(value, f"{at}{name}")
    return float(value)


def _count(content: Mapping[str, Any], name: str) -> int | None:
    value = content.get(name)
    return None if value is None else _positive(value, name)


def _positive(value: Any, field: str) -> int:
    check_scalar(value, field)
    if type(value) is not int or value < 1:
        raise invalid(field, expected="a positive integer", found=shown(value))
    return value
