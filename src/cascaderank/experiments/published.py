"""Results that papers report, for comparison with measured results."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import final

from cascaderank.errors import ConfigError, did_you_mean


@final
@dataclass(frozen=True, kw_only=True)
class PublishedValue:
    """One value of a table of a paper."""

    mean: float
    std: float | None
    """Standard deviation over runs; ``None`` if the paper does not report it."""


@final
@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One table of a paper."""

    name: str
    title: str
    dataset: str
    """Data set of the measurements."""
    source: str
    ndcg_gains: str
    """Gains of the NDCG in the table: ``"exponential"``, or the name of a target whose labels are
    the gains; empty if the table has no NDCG."""
    methods: Mapping[str, Mapping[str, PublishedValue]]
    """Values by method and column; every table has a column ``joint_recall``."""


def published_table(name: str) -> PublishedTable:
    """Return a table of ``published.toml``.

    Args:
        name: name of the table, such as ``"lcron_table_2"``.

    Raises:
        ConfigError: if the table is unknown.

    Examples:
        >>> published_table("lcron_table_2").methods["lcron"]["joint_recall"]
        PublishedValue(mean=0.8732, std=0.0005)
        >>> published_table("arf_mslr").dataset
        'MSLR-WEB30K'
    """
    tables = _tables()
    if name not in tables:
        raise ConfigError(
            f"unknown published table '{name}'{did_you_mean(name, tables)}; "
            f"available: {', '.join(tables)}"
        )
    return tables[name]


def published_tables() -> list[str]:
    """Return the names of all tables."""
    return list(_tables())


@cache
def _tables() -> dict[str, PublishedTable]:
    text = files("cascaderank.experiments").joinpath("published.toml").read_text(encoding="utf-8")
    tables = {}
    for name, table in tomllib.loads(text).items():
        methods = {
            method: {
                column: PublishedValue(mean=mean, std=std)
                for column, mean, std in zip(
                    table["columns"],
                    values["mean"],
                    values.get("std", [None] * len(values["mean"])),
                    strict=True,
                )
                if not math.isnan(mean)  # a cell that the paper leaves empty
            }
            for method, values in table["methods"].items()
        }
        tables[name] = PublishedTable(
            name=name,
            title=table["title"],
            dataset=table["dataset"],
            source=table["source"],
            ndcg_gains=table.get("ndcg_gains", ""),
            methods=methods,
        )
    return tables
