"""Findings about single features: constant, missing, and with ids that training does not have."""

from collections.abc import Iterator

import polars as pl

from cascaderank.data.encoding.fitting import feature_values
from cascaderank.data.ragged import flattened
from cascaderank.errors import counted
from cascaderank.schema import Feature, Kind, Role, abridged
from cascaderank.settings.run import RunSettings
from cascaderank.training.check.findings import MOST, Finding, note, warning, with_shares
from cascaderank.training.check.sample import Sample


def feature_findings(settings: RunSettings, sample: Sample) -> Iterator[Finding]:
    """Yield findings about the features that a stage reads.

    Args:
        settings: settings of the run.
        sample: requests of the log.
    """
    schema = sample.data.schema
    used = {f.name for stage in settings.stages.values() for f in schema.select(stage.features)}
    features = [f for f in schema.features if f.name in used]
    yield from _constant(features, sample)
    yield from _missing(features, sample)
    yield from _unknown(features, sample)


def _constant(features: list[Feature], sample: Sample) -> Iterator[Finding]:
    train = sample.part(sample.data.split.train)
    constant, same = [], []
    for feature in features:
        values = feature_values(train, feature).drop_nulls()
        if values.n_unique() <= 1:
            constant.append(feature.name)
        elif feature.role is Role.ITEM and not feature.several:
            lists = train[feature.name]
            if bool((lists.list.drop_nulls().list.n_unique() <= 1).all()):
                same.append(feature.name)
    if constant:
        yield warning(
            "constant",
            f"{counted(len(constant), 'feature')} with one value only in "
            f"{counted(train.height, 'training request')}: {abridged(constant)}. Leave "
            f'{"it" if len(constant) == 1 else "them"} out with "!NAME" in the features of the '
            "stages, or check how the data set was prepared.",
        )
    several = (train[f.name].list.len() > 1 for f in features if f.role is Role.ITEM)
    if same and any(bool(longer.any()) for longer in several):
        yield note(
            "constant",
            f"{counted(len(same), 'item feature')} with equal values for all candidates of a "
            f"request: {abridged(same)}. Alone they order nothing, and a stage 'linear' cannot "
            'use them; prepare the data set with role = "request" for '
            f"{'it' if len(same) == 1 else 'them'}.",
        )


def _missing(features: list[Feature], sample: Sample) -> Iterator[Finding]:
    shares: dict[Role, list[tuple[str, float]]] = {role: [] for role in Role}
    for feature in features:
        column = sample.frame[feature.name]
        if feature.role is Role.HISTORY or feature.multiple:
            lists = flattened(column) if feature.depth == 2 else column
            share = float((lists.list.len().fill_null(0) == 0).to_numpy().mean())
        else:
            values = flattened(column) if feature.role is Role.ITEM else column
            share = values.null_count() / max(1, len(values))
        if share >= MOST:
            shares[feature.role].append((feature.name, share))
    for role, of_role in shares.items():
        if not of_role:
            continue
        whose = {"request": "requests", "item": "candidates", "history": "requests"}[role]
        yield note(
            "missing",
            f"{counted(len(of_role), 'feature')} without a value for most {whose}: "
            f"{with_shares(of_role)}. Expected where their source does not cover all; otherwise "
            "check the join that they come from.",
        )


def _unknown(features: list[Feature], sample: Sample) -> Iterator[Finding]:
    """Find categories of test requests that share the embedding of unknown values."""
    test, vocabularies = sample.part(sample.data.split.test), sample.data.schema.vocabularies
    shares = []
    for feature in features:
        if feature.kind is not Kind.CATEGORICAL or feature.buckets is not None:
            continue
        values = feature_values(test, feature).drop_nulls()
        if not len(values):
            continue
        known = pl.Series(vocabularies[feature.vocabulary])
        whole = values.dtype.is_integer() or values.dtype == pl.Boolean
        values = values.cast(pl.Int64 if whole else pl.String)
        known_values = int(values.is_in(known.implode()).sum()) if len(known) else 0
        share = 1 - known_values / len(values)
        if share >= MOST:
            shares.append((feature.name, share))
    if shares:
        yield warning(
            "unknown ids",
            f"values of test requests that training requests do not have: {with_shares(shares)}. "
            "All of them share one embedding. Give the stages features that describe such items "
            "or users, train on more or later days, or set buckets for the feature when the data "
            "set is prepared.",
        )
