"""Registered components by kind, with their documentation and options."""

import inspect
import re
from typing import Any

from cascaderank.data.sources import SOURCES
from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.losses import LOSSES
from cascaderank.metrics import ALIASES, METRICS, NAMED
from cascaderank.objectives import OBJECTIVES
from cascaderank.registry import Registry
from cascaderank.sorting import OPERATORS
from cascaderank.stages import STAGES

SHELVES: dict[str, Registry[Any]] = {
    "losses": LOSSES,
    "metrics": METRICS,
    "stages": STAGES,
    "objectives": OBJECTIVES,
    "operators": OPERATORS,
    "sources": SOURCES,
}
"""Registries by the kind of their components."""

_ANNEALED = re.compile(
    r"Annotated\[Union\[.*\b(Annealed|AnnealedWeight)\b.*custom_error_context=None\)\]"
)
"""Annotation of an option that is a number or a schedule; pydantic's details are not shown."""
_TABLES = {"Annealed": "{start, end, shape}", "AnnealedWeight": "{start, end}"}


def components() -> dict[str, dict[str, str]]:
    """Return the first line of the documentation of each component, by kind and name.

    Examples:
        >>> components()["stages"]["linear"]
        'Score a candidate by a weighted sum of its numeric features plus one weight per category.'
    """
    return {
        shelf: {name: documentation(shelf, name).partition("\n")[0] for name in _names(shelf)}
        for shelf in SHELVES
    }


def _names_of_reports(shelf: str) -> tuple[str, ...]:
    """Return the names that are valid in a config and are not registered."""
    return tuple(NAMED) if shelf == "metrics" else ()


def _names(shelf: str) -> list[str]:
    return sorted([*SHELVES[shelf], *_names_of_reports(shelf)])


def _component(shelf: str, name: str) -> Any:
    """Return a registered component; the error for an unknown name lists all valid names."""
    registry = SHELVES[shelf]
    if name not in registry:
        known = _names(shelf)
        raise ConfigError(
            f"no {registry.kind} called '{name}'{did_you_mean(name, known)}; "
            f"there are {', '.join(known)}"
        )
    return registry[name]


def documentation(shelf: str, name: str) -> str:
    r"""Return the docstring of a component.

    Args:
        shelf: kind of the component, a key of :data:`SHELVES`.
        name: registered name.

    Raises:
        ConfigError: if no component of the kind has the name.

    Examples:
        >>> print(documentation("metrics", "recall").partition("\n")[0])
        Fraction of the ground truth in the top ``m`` by score, per list: Recall@m@k.
    """
    if name in _names_of_reports(shelf):
        text = NAMED[name]
        return f"{text}\n\n{documentation(shelf, ALIASES[name])}" if name in ALIASES else text
    return inspect.getdoc(_component(shelf, name)) or ""


def options(shelf: str, name: str) -> dict[str, str]:
    """Return the declared types and defaults of the options of a component, by option.

    Args:
        shelf: kind of the component, a key of :data:`SHELVES`.
        name: registered name.

    Raises:
        ConfigError: if no component of the kind has the name.

    Examples:
        >>> options("stages", "mlp")["dim"]
        'int = 8'
    """
    if name in _names_of_reports(shelf):
        return options(shelf, ALIASES[name]) if name in ALIASES else {}
    _component(shelf, name)
    return {
        option: _ANNEALED.sub(lambda found: f"float | {_TABLES[found[1]]}", declared)
        for option, parameter in SHELVES[shelf].options(name).items()
        for declared in [str(parameter.replace(kind=parameter.POSITIONAL_OR_KEYWORD))]
        for _, _, declared in [declared.partition(": ")]
    }
