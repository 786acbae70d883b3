"""Items that a request leaves out: by key, or by conditions on raw features."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, final, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.errors import ConfigError, did_you_mean, shown

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "not in", "has"]

_EXPRESSIONS: Final[dict[str, Callable[[pl.Expr, Any], pl.Expr]]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "in": lambda column, value: column.is_in(list(value)),
    "not in": lambda column, value: ~column.is_in(list(value)),
    "has": lambda column, value: column.list.contains(value),
}
_CONDITIONS = 64  # whose results over all items are kept


@final
@dataclass(frozen=True)
class Condition:
    """A condition on a raw feature of an item; items that meet it are left out.

    A missing value meets no condition.

    Args:
        feature: name of the feature.
        operator: ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in`` and ``not in`` with a tuple of
            values, or ``has`` for a feature with several values.
        value: value or values to compare with.

    Raises:
        ConfigError: if the operator does not exist.

    Examples:
        >>> Condition("price", ">", 100).feature
        'price'
    """

    feature: str
    operator: Operator
    value: Any

    def __post_init__(self) -> None:
        if self.operator not in _EXPRESSIONS:
            raise ConfigError(
                f"filters: the operator must be one of {', '.join(get_args(Operator))}; got "
                f"{shown(self.operator)}"
            )
        if self.operator in ("in", "not in"):
            if isinstance(self.value, str) or not isinstance(self.value, Collection):
                raise ConfigError(
                    f"filters: '{self.operator}' needs a list of values; got {shown(self.value)}"
                )
            object.__setattr__(self, "value", tuple(self.value))

    def met(self, values: pl.Series) -> NDArray[np.bool_]:
        """Return which values meet the condition, ``[n]`` bool.

        Args:
            values: raw values of the feature.

        Raises:
            ConfigError: if the value of the condition has another type than the feature.
        """
        value = self.value
        if isinstance(value, tuple) and values.dtype.is_float():  # polars keeps the types apart
            value = [float(each) if type(each) is int else each for each in value]
        try:
            expression = _EXPRESSIONS[self.operator](pl.col("value"), value)
            found = values.alias("value").to_frame().select(expression.fill_null(value=False))
            if found.schema["value"] != pl.Boolean:
                raise TypeError("the result is not true or false")
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"filters: '{self.feature}' {self.operator}: expected a value to compare values "
                f"of type {values.dtype} with, found {shown(self.value)}; {reason}"
            ) from None
        return found["value"].to_numpy()


@final
@dataclass(frozen=True, kw_only=True)
class Filters:
    """Candidates that a request leaves out, before the first stage and its quota."""

    items: Collection[Any] = ()
    """Keys of items to leave out."""
    where: Sequence[Condition] = ()
    """Conditions: an item that meets one of them is left out."""


@final
class FilterColumns:
    """Evaluates conditions over all items, and keeps the results of recent ones.

    Args:
        raw: raw values of all items, one row per item; ``None`` without a catalogue.
    """

    def __init__(self, raw: pl.DataFrame | None) -> None:
        self._raw = pl.DataFrame() if raw is None else raw
        self._met = lru_cache(_CONDITIONS)(self._over_all)

    def met(
        self,
        condition: Condition,
        places: NDArray[np.int64] | None,
        given: Mapping[str, Sequence[Any]],
    ) -> NDArray[np.bool_]:
        """Return which candidates meet a condition.

        Args:
            condition: the condition.
            places: rows of the candidates among all items, -1 for none; ``None`` for all items.
            given: raw values of the candidates by feature, which replace those of the catalogue.

        Raises:
            ConfigError: if no candidate has the feature, or the types differ.
        """
        name = condition.feature
        if name in given:
            return condition.met(_series(given[name]))
        if name not in self._raw.columns:
            known = [*given, *self._raw.columns]
            raise ConfigError(
                f"filters: expected a feature of items ({', '.join(known) or 'there is none'}), "
                f"found no feature '{name}'{did_you_mean(name, known)}"
            )
        try:
            met = self._met(condition)
        except TypeError:  # a value that cannot be hashed
            met = self._over_all(condition)
        if places is None:
            return met
        found: NDArray[np.bool_] = met[places] & (places >= 0)
        return found

    def _over_all(self, condition: Condition) -> NDArray[np.bool_]:
        return condition.met(self._raw[condition.feature])


def _series(values: Sequence[Any]) -> pl.Series:
    with suppress(pl.exceptions.PolarsError, TypeError, OverflowError):
        found = pl.Series("value", values, strict=False)
        if found.dtype != pl.Object:  # Polars panics when it compares Python objects
            return found
    raise ConfigError(
        "filters: expected values of one type in a feature of the candidates, found several types"
    )
