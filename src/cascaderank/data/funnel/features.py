"""Features of a synthetic funnel, and the features of each stage."""

from cascaderank.data.funnel.funnel_settings import FunnelSettings
from cascaderank.schema import Feature, Kind, Role, Schema, Transform


def late_features(part: int) -> tuple[str, str]:
    """Return the names of the features that determine a late part of the utility; parts from 0."""
    return f"match_{part + 1}", f"gap_{part + 1}"


def estimate_feature(part: int) -> str:
    """Return the name of the feature with the estimate of a part; parts from 0."""
    return f"estimate_{part + 1}"


def funnel_schema(settings: FunnelSettings) -> Schema:
    """Return the schema of the request log of a synthetic funnel."""
    category, number = Kind.CATEGORICAL, Kind.NUMERIC
    log = Transform.LOG1P_STANDARDISE
    late = [name for part in range(1, settings.stages) for name in late_features(part)]
    late += [estimate_feature(part) for part in settings.estimates]
    types = [Feature(name="type", role=Role.ITEM, kind=category)] if settings.unevenness else []
    return Schema(
        features=(
            *(
                Feature(name=name, role=Role.REQUEST, kind=category)
                for name in ("user_id", "segment", "hour", "weekday")
            ),
            Feature(name="sensitivity", role=Role.REQUEST, kind=number),
            Feature(name="account_age", role=Role.REQUEST, kind=number, transform=log),
            Feature(name="item_id", role=Role.ITEM, kind=category),
            Feature(name="category", role=Role.ITEM, kind=category),
            Feature(name="quality", role=Role.ITEM, kind=number),
            Feature(name="price", role=Role.ITEM, kind=number, transform=log),
            *types,
            *(Feature(name=name, role=Role.ITEM, kind=number) for name in late),
            Feature(name="history_item", role=Role.HISTORY, kind=category, vocabulary="item_id"),
            Feature(
                name="history_category", role=Role.HISTORY, kind=category, vocabulary="category"
            ),
        )
    )


def stage_features(settings: FunnelSettings) -> tuple[tuple[str, ...], ...]:
    """Return the features that each stage of the cascade may use."""
    late = {name: part for part in range(1, settings.stages) for name in late_features(part)}
    estimates = {estimate_feature(part): part for part in settings.estimates}
    everywhere = {"type"}

    def allowed(name: str, shares: tuple[float, ...]) -> bool:
        if name in estimates:
            return 0 < shares[estimates[name]] < 1
        return name in everywhere or shares[late.get(name, 0)] == 1

    names = funnel_schema(settings).names
    return tuple(tuple(n for n in names if allowed(n, s)) for s in settings.knowledge)
