"""Schema of a data set: the features of requests, candidates and histories.

A :class:`Schema` describes the columns before training. A :class:`FittedSchema` adds statistics of
the training requests: vocabularies, means and standard deviations. The former is stored with the
data, the latter with the model.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StrictInt,
    StrictStr,
    model_serializer,
    model_validator,
)

from cascaderank.errors import DataError, SchemaError, did_you_mean
from cascaderank.regular_files import read_file
from cascaderank.settings.base import Count, Settings
from cascaderank.text_files import parsed_json

RESERVED = (
    "request_id",
    "timestamp",
    "request_weight",
    "level",
    "position",
    "label",
    "feedback",
    "candidate_weight",
    "item_key",
)
"""Columns of a request log that are not features."""

MOST_BUCKETS = 2**40
"""Largest number of hash buckets of a vocabulary."""


def selects_columns(name: str) -> bool:
    """Return whether Polars takes a name for a pattern: ``*``, or a text from ``^`` to ``$``.

    Examples:
        >>> [selects_columns(name) for name in ("price", "price[usd]", "^price$")]
        [False, False, True]
    """
    return name == "*" or (name.startswith("^") and name.endswith("$"))


class Role(StrEnum):
    """The entity that a feature describes."""

    REQUEST = "request"
    """The request: the user, the query, the context. One value per request."""
    ITEM = "item"
    """The candidate, or the pair of request and candidate. One value per candidate."""
    HISTORY = "history"
    """Events before the request, oldest first. One list per request, of any length."""


class Kind(StrEnum):
    """Type of the values of a feature."""

    CATEGORICAL = "categorical"
    """Integers or strings without an order."""
    NUMERIC = "numeric"
    """Finite numbers."""


class Transform(StrEnum):
    """Transformation of a numeric feature before it reaches a model."""

    NONE = "none"
    LOG1P = "log1p"
    """Signed: sign(x) log(1 + |x|)."""
    STANDARDISE = "standardise"
    """Subtract the mean and divide by the standard deviation, both over the training requests."""
    LOG1P_STANDARDISE = "log1p_standardise"
    STANDARDISE_BY_REQUEST = "standardise_by_request"
    """Subtract the mean and divide by the standard deviation, both over all candidates of the
    request that have a value. Features of candidates only, with one value per candidate."""


class Pooling(StrEnum):
    """Reduction of the embeddings of several categories to one vector; of no category, zeros."""

    MEAN = "mean"
    SUM = "sum"
    MAX = "max"
    """Maximum of each component."""


class Feature(Settings):
    """One column of a request log.

    Examples:
        >>> Feature(name="video", role="item", kind="categorical", buckets=1000).size
        1001
        >>> Feature(name="genres", role="item", kind="categorical", multiple=True).depth
        2
    """

    name: str = Field(min_length=1)
    role: Role
    kind: Kind
    transform: Transform = Transform.STANDARDISE
    """Numeric features only."""
    missing: bool = False
    """Whether values may be null. A model then receives a second input that indicates a missing
    value; a null category is out of vocabulary."""
    vocabulary: str = ""
    """Categorical features only: features with one vocabulary share their codes, as the items of a
    history share those of the candidates. Empty: the feature's own name."""
    buckets: StrictInt | None = Field(None, ge=1, le=MOST_BUCKETS)
    """Categorical features only: number of hash buckets; ``None`` to build a vocabulary instead."""
    min_count: Count = 1
    """Categorical features only: values that occur less often in training are out of vocabulary."""
    sequence: str = "history"
    """History features only: features of one sequence have the same length in each request."""
    multiple: bool = False
    """Categorical features of requests or candidates only: whether a request or candidate has a
    list of categories, such as the genres of a film. A list may be empty or null, which is the
    same, and must not contain nulls; stages pool the embeddings of its values."""
    pooling: Pooling = Pooling.MEAN
    """Features with ``multiple`` only: how the embeddings of a list are pooled."""
    width: Count | None = None
    """Numeric features of requests or candidates only: number of values of a vector, such as a text
    embedding; ``None`` for one number. Each request or candidate then has a list of ``width``
    numbers, or, with ``missing``, null. The transform uses one mean and one deviation for all
    numbers of the feature."""

    @model_validator(mode="before")
    @classmethod
    def _own_vocabulary(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("kind") == Kind.CATEGORICAL:
            return {**data, "vocabulary": data.get("vocabulary") or data.get("name")}
        return data

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.name in RESERVED:
            raise ValueError(f"'{self.name}' is a reserved column name; rename the feature")
        if selects_columns(self.name):
            raise ValueError(
                f"'{self.name}' stands for several columns in Polars; rename the feature"
            )
        return self

    @model_validator(mode="after")
    def _several_is_possible(self) -> Self:
        if self.several and self.role is Role.HISTORY:
            raise ValueError(
                f"'{self.name}': a feature of a history has one value per entry; found "
                f"{'multiple=true' if self.multiple else f'width={self.width}'}; remove it, and "
                "write one entry per value"
            )
        if self.multiple and self.kind is Kind.NUMERIC:
            raise ValueError(
                f"'{self.name}': multiple=true needs a categorical feature; found a numeric one; "
                "set width, the number of values of a vector, instead"
            )
        if self.width is not None and self.kind is Kind.CATEGORICAL:
            raise ValueError(
                f"'{self.name}': width needs a numeric feature; found a categorical one; "
                "set multiple=true instead"
            )
        if self.by_request and (self.role is not Role.ITEM or self.several):
            found = "several values" if self.role is Role.ITEM else f"a feature of the {self.role}"
            raise ValueError(
                f"'{self.name}': transform='{self.transform}' needs a number per candidate; found "
                f"{found}; set transform='{Transform.STANDARDISE}'"
            )
        if not self.multiple and self.pooling is not Pooling.MEAN:
            raise ValueError(
                f"'{self.name}': pooling='{self.pooling}' needs a feature with several values; "
                "set multiple=true, or remove pooling"
            )
        return self

    @property
    def by_request(self) -> bool:
        """Whether the values are numbers that are standardised over the candidates of a request."""
        return self.kind is Kind.NUMERIC and self.transform is Transform.STANDARDISE_BY_REQUEST

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Omitted at their defaults, so that fingerprints of logs of earlier versions stay valid.
        values: dict[str, Any] = handler(self)
        added = {"multiple": self.multiple, "pooling": self.multiple, "width": self.width}
        return {name: value for name, value in values.items() if added.get(name, True)}

    @property
    def depth(self) -> int:
        """Levels of lists in a column of the feature: 2 for lists of values per candidate."""
        return int(self.role is not Role.REQUEST) + int(self.several)

    @property
    def several(self) -> bool:
        """Whether a request or candidate has a list of values: several categories, or a vector."""
        return self.multiple or self.width is not None

    @property
    def size(self) -> int | None:
        """Number of codes of a hashed feature, including slot 0 (null); ``None`` if not hashed."""
        return None if self.buckets is None else self.buckets + 1


class Schema(Settings):
    """The features of a data set, in order, with unique names."""

    features: tuple[Feature, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [f.name for f in self.features]
        duplicates = sorted(n for n, times in Counter(names).items() if times > 1)
        if duplicates:
            raise ValueError(f"features named twice: {', '.join(duplicates)}")
        for vocabulary in {f.vocabulary for f in self.features if f.kind is Kind.CATEGORICAL}:
            members = [f for f in self.features if f.vocabulary == vocabulary]
            if len({(f.buckets, f.min_count) for f in members}) > 1:
                raise ValueError(
                    f"features of vocabulary '{vocabulary}' must agree on buckets and min_count: "
                    f"{', '.join(f.name for f in members)}"
                )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all features, in order."""
        return tuple(f.name for f in self.features)

    def __getitem__(self, name: str) -> Feature:
        """Return one feature.

        Raises:
            SchemaError: if no feature has that name.
        """
        for feature in self.features:
            if feature.name == name:
                return feature
        raise SchemaError(f"no feature '{name}'{did_you_mean(name, self.names)}")

    def of(self, role: Role, kind: Kind | None = None) -> tuple[Feature, ...]:
        """Return the features of a role, optionally only those of one kind."""
        return tuple(
            f for f in self.features if f.role is role and (kind is None or f.kind is kind)
        )

    def select(self, patterns: Sequence[str]) -> tuple[Feature, ...]:
        """Return the features that match any of the patterns, in the order of the schema.

        Args:
            patterns: names, or shell patterns such as ``"bm25*"``. A leading ``!`` excludes
                instead, as in ``["*", "!cross_*"]``. The whole name of a feature is never a
                pattern: ``"tag[0]"`` selects a feature of this name, if there is one.

        Raises:
            SchemaError: if a pattern matches no feature.

        Examples:
            >>> schema = Schema(features=(Feature(name="a1", role="item", kind="numeric"),))
            >>> [f.name for f in schema.select(["a*"])]
            ['a1']
        """
        chosen = set(matching(self.names, patterns))
        return tuple(f for f in self.features if f.name in chosen)


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match any of the patterns; see :meth:`Schema.select`.

    Raises:
        SchemaError: if a pattern matches no name.
    """
    chosen, unmatched = matched_names(names, patterns)
    if unmatched:
        raise SchemaError(
            f"no feature '{unmatched[0]}'{did_you_mean(unmatched[0], names)}; "
            f"there are {abridged(names)}"
        )
    return chosen


def matched_names(names: Sequence[str], patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names that match any of the patterns, and the patterns that match no name.

    Args:
        names: names to choose from.
        patterns: names, or shell patterns; a leading ``!`` excludes. A pattern that is one of the
            names matches this name alone, whatever characters it has.

    Examples:
        >>> matched_names(["tag[0]", "tag0", "tag1"], ["tag[0]"])
        (['tag[0]'], [])
        >>> matched_names(["tag[0]", "tag0", "tag1"], ["tag*", "!tag[1]"])
        (['tag[0]', 'tag0'], [])
    """
    included: set[str] = set()
    excluded: set[str] = set()
    unmatched = []
    for pattern in patterns:
        excludes = pattern.startswith("!") and pattern not in names
        text = pattern[1:] if excludes else pattern
        matched = {text} if text in names else {n for n in names if fnmatchcase(n, text)}
        (excluded if excludes else included).update(matched)
        unmatched += [] if matched else [text]
    return [n for n in names if n in included and n not in excluded], unmatched


class Moments(Settings):
    """Mean and standard deviation of a numeric feature over the training requests."""

    mean: float
    deviation: float = Field(gt=0)


class FittedSchema(Schema):
    """A schema with the statistics of the training requests."""

    vocabularies: dict[str, tuple[StrictInt, ...] | tuple[StrictStr, ...]] = Field({})
    """Values by vocabulary; the code of the i-th value is i + 1, and 0 is out of vocabulary."""
    moments: dict[str, Moments] = Field({})
    """Moments by feature, for standardised features; after log1p if the transform includes it."""

    def codes(self, feature: Feature) -> int:
        """Return the number of codes of a categorical feature, including slot 0."""
        return feature.size or len(self.vocabularies[feature.vocabulary]) + 1

    def only(self, names: Collection[str]) -> "FittedSchema":
        """Return the schema with the named features only, in the order of this schema."""
        features = tuple(f for f in self.features if f.name in names)
        used = {f.vocabulary for f in features}
        vocabularies = {n: values for n, values in self.vocabularies.items() if n in used}
        moments = {n: values for n, values in self.moments.items() if n in names}
        # Not validated again: vocabularies can have millions of values.
        return self.model_copy(
            update={"features": features, "vocabularies": vocabularies, "moments": moments}
        )

    def plain(self) -> Schema:
        """Return the schema without the statistics of the training requests."""
        return Schema(features=self.features)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON."""
        Path(path).write_text(self.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "FittedSchema":
        """Read a schema that :meth:`save` wrote.

        Raises:
            DataError: if the file is missing or is not a fitted schema.
        """
        path = Path(path)
        try:
            return cls.model_validate(parsed_json(read_file(path).decode()))
        except (OSError, ValueError) as error:  # also JSON and validation errors
            raise DataError(f"{path}: not a fitted schema: {error}") from None


def abridged(names: Iterable[str], most: int = 12) -> str:
    """Join names with commas; beyond ``most``, list the first ones and the number of the others."""
    names = list(names)
    shown = ", ".join(names[:most]) or "none"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
