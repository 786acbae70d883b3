"""Names of losses, metrics, stages and the like, found by folder.

A registry belongs to a package. Every module of that package is imported when a name is first
asked for, and every module registers one thing under its own file name. Other distributions add
theirs through the entry-point group that has the package's name.
"""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from cascaderank.errors import ConfigError, did_you_mean

T = TypeVar("T", bound=Callable[..., Any])


class Registry(Generic[T]):
    """A mapping from names to functions or classes, filled by the modules of one package.

    Args:
        kind: what the things are called in messages, such as ``"loss"``.
        package: the package whose modules register; pass ``__name__``.
        suffix: what function names end with and registered names do not, such as ``"_loss"``.
        derived: gives names and things that are made from others; a name that is taken stays.
        given: parameters that are no options, as whoever builds the thing gives them.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        *,
        suffix: str = "",
        derived: Callable[[], Iterable[tuple[str, T]]] = lambda: (),
        given: Collection[str] = (),
    ) -> None:
        self.kind = kind
        self._package = package
        self._suffix = suffix
        self._derived = derived
        self._given = given
        self._known: dict[str, T] = {}
        self._loaded = False

    def register(self, thing: T) -> T:
        """Register a function under its name less the suffix, a class under its module's name.

        Raises:
            ConfigError: if the name is taken, or a function's name lacks the suffix.
        """
        name = thing.__name__
        if inspect.isclass(thing):
            name = thing.__module__.rpartition(".")[2]
        elif not name.endswith(self._suffix):
            raise ConfigError(f"a {self.kind} is called something{self._suffix}; got {name}")
        name = name.removesuffix(self._suffix)
        if name in self._known and self._known[name] is not thing:
            raise ConfigError(f"there is a {self.kind} called '{name}' already")
        self._known[name] = thing
        return thing

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._known))

    def __contains__(self, name: str) -> bool:
        self._load()
        return name in self._known

    def __getitem__(self, name: str) -> T:
        """Return what is registered under ``name``.

        Raises:
            ConfigError: if there is no such name; the nearest one is suggested.
        """
        self._load()
        if name not in self._known:
            raise ConfigError(
                f"no {self.kind} called '{name}'{did_you_mean(name, self._known)}; "
                f"there are {', '.join(self) or 'none'}"
            )
        return self._known[name]

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """Return the keyword-only parameters of ``name`` by their names."""
        parameters = inspect.signature(self[name]).parameters
        return {k: p for k, p in parameters.items() if p.kind is p.KEYWORD_ONLY}

    def option_mistakes(
        self, name: str, options: Mapping[str, object], *, finite: bool = True
    ) -> list[str]:
        """Return one sentence for each option that ``name`` does not take as it is given.

        Args:
            name: what takes the options.
            options: by their names.
            finite: whether numbers that are not finite are mistakes, too.
        """
        known = [option for option in self.options(name) if option not in self._given]
        mistakes = []
        for option, value in options.items():
            if option not in known:
                mistakes.append(
                    f"{self.kind} '{name}' has no option '{option}'{did_you_mean(option, known)}; "
                    f"it takes {', '.join(known) or 'none'}"
                )
                continue
            if finite and not _finite(value):
                mistakes.append(
                    f"{self.kind} '{name}': {option} takes finite numbers; got {value!r}"
                )
                continue
            try:
                self._adapter(name, option).validate_python(value)
            except ValidationError as error:
                told = "; ".join(_told(e, value) for e in error.errors())
                mistakes.append(f"{self.kind} '{name}': {option}={value!r}: {told}")
        return mistakes

    def checked_options(
        self, name: str, options: Mapping[str, object], *, finite: bool = True
    ) -> dict[str, Any]:
        """Return the options as the types that ``name`` declares, such as lists as tuples.

        Arguments are those of :meth:`option_mistakes`.

        Raises:
            ConfigError: if there is no such name, or it does not take an option.
        """
        mistakes = self.option_mistakes(name, options, finite=finite)
        if mistakes:
            raise ConfigError("; ".join(mistakes))
        return {
            option: self._adapter(name, option).validate_python(value)
            for option, value in options.items()
        }

    def _adapter(self, name: str, option: str) -> TypeAdapter[Any]:
        thing = self[name]
        made_by = thing.__init__ if inspect.isclass(thing) else thing
        hints = get_type_hints(made_by, include_extras=True)
        return TypeAdapter(hints.get(option, Any))

    def attribute(self, name: str) -> T:
        """Look up a module attribute such as ``bce_loss``; for a package's ``__getattr__``."""
        if self._suffix and name.endswith(self._suffix) and name.removesuffix(self._suffix) in self:
            return self[name.removesuffix(self._suffix)]
        raise AttributeError(f"module '{self._package}' has no attribute '{name}'")

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # first, so that a module may ask for names while it registers
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        for entry_point in entry_points(group=self._package):
            entry_point.load()
        for name, thing in self._derived():
            self._known.setdefault(name, thing)


def _finite(value: object) -> bool:
    """Whether there is neither NaN nor infinity in it, lists and tables included."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(_finite(v) for v in value.values())
    return not isinstance(value, (list, tuple)) or all(_finite(v) for v in value)


def _told(error: Any, value: object) -> str:
    """One mistake, with the name it has in an option that is a table."""
    message: str = error["msg"].removeprefix("Value error, ")
    name = error["loc"][-1] if error["loc"] else None
    named = isinstance(value, Mapping) and (name in value or error["type"] == "missing")
    return f"{name}: {message}" if named else message
