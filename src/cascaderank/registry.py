"""Registries: mappings from names to losses, metrics, stages and other components.

A registry belongs to a package. All modules of the package are imported when a name is first looked
up, and every module registers one component under its own file name. Other distributions add
components through the entry-point group that has the package's name; scripts and notebooks call
:meth:`Registry.register` with a name.
"""

import importlib
import inspect
import keyword
import math
import pkgutil
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from importlib.metadata import entry_points
from inspect import Parameter
from itertools import chain
from typing import Any, Generic, TypeVar, cast, get_type_hints, overload

from pydantic import TypeAdapter, ValidationError

from cascaderank.errors import ConfigError, did_you_mean, shown
from cascaderank.limits import LARGEST_FLOAT32

T = TypeVar("T", bound=Callable[..., Any])
F = TypeVar("F", bound=Callable[..., Any])

_LARGEST, _LONGEST = 2**63 - 1, 1_000  # integers of tensors and columns have 64 bits


class Registry(Generic[T]):
    """A mapping from names to functions or classes, filled by the modules of one package.

    Args:
        kind: noun for the entries in messages, such as ``"loss"``.
        package: package whose modules register; pass ``__name__``.
        suffix: ending of function names that registered names omit, such as ``"_loss"``.
        derived: registry whose entries have a counterpart in this one, and the function that
            builds the counterpart of a name, such as the objective of a loss. Counterparts do not
            replace registered names, and follow their origin when it is registered again.
        reserved: names that have another meaning where entries are named, and are refused.
        given: parameters that are not options, because the caller that builds the entry sets them.
        shared: function of the name and the parameters of an entry that returns further options,
            which the caller handles: the parameter by its name, or the reason of its refusal.

    Examples:
        >>> greetings: Registry[Callable[..., str]] = Registry("greeting", "json")
        >>> @greetings.register("hello")
        ... def say_hello(*, name: str = "you") -> str:
        ...     return f"hello {name}"
        >>> greetings.option_mistakes("hello", {"nmae": "Ada"})
        ["greeting 'hello' has no option 'nmae' (did you mean 'name'?); it takes name"]
    """

    def __init__(
        self,
        kind: str,
        package: str,
        *,
        suffix: str = "",
        derived: "tuple[Registry[Any], Callable[[str], T]] | None" = None,
        given: Collection[str] = (),
        shared: Callable[[str, Mapping[str, Parameter]], Mapping[str, Parameter | str]]
        | None = None,
        reserved: Collection[str] = (),
    ) -> None:
        self.kind = kind
        self._package = package
        self._suffix = suffix
        self._derived = derived
        self._given = given
        self._shared = shared or (lambda *_: {})
        self._reserved = frozenset(reserved)
        self._entries: dict[str, T] = {}
        self._built: dict[str, tuple[object, T]] = {}
        self._loaded = False

    @overload
    def register(self, thing: str) -> Callable[[F], F]: ...

    @overload
    def register(self, thing: F) -> F: ...

    def register(self, thing: F | str) -> F | Callable[[F], F]:
        """Register a function or a class; used as a decorator, with or without a name.

        Without a name, a function is registered under its own name less the suffix, and a class
        under the name of its module. A class defined in ``__main__`` (a script or a notebook)
        needs a name. Running its cell again replaces it.

        Args:
            thing: the function or class; or the name, such as ``@STAGES.register("popularity")``.

        Raises:
            ConfigError: if the name is taken, is not an identifier, or is missing; or if the name
                of a function does not end with the suffix.
        """
        if isinstance(thing, str):
            return partial(self._add, name=thing)
        return self._add(thing)

    def _add(self, thing: F, name: str | None = None) -> F:
        if not str(thing.__module__).startswith(f"{self._package}."):
            self._load()  # so that a name of this package is refused where it is taken
        name = self._default_name(thing) if name is None else name
        if not name.isidentifier() or keyword.iskeyword(name):
            raise ConfigError(
                f"the name of a {self.kind} must be an identifier, such as 'my_{self.kind}'; "
                f"got {name!r}"
            )
        if name in self._reserved:
            raise ConfigError(f"the {self.kind} name '{name}' is reserved; choose another")
        present = self._entries.get(name)
        if present is not None and present is not thing and not _redefines(thing, present):
            raise ConfigError(f"a {self.kind} called '{name}' is already registered")
        self._entries[name] = cast("T", thing)  # contract tests check each entry
        return thing

    def _default_name(self, thing: Callable[..., Any]) -> str:
        name = thing.__name__
        if inspect.isclass(thing):
            if thing.__module__ == "__main__":
                suggestion = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
                raise ConfigError(
                    f"{self.kind} class {name} is defined in __main__ and needs a name; "
                    f'write register("{suggestion}") instead of register'
                )
            return thing.__module__.rpartition(".")[2]
        if not name.endswith(self._suffix):
            raise ConfigError(
                f"the name of a {self.kind} function must end with {self._suffix}; got {name}"
            )
        return name.removesuffix(self._suffix)

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted({*self._entries, *(self._derived[0] if self._derived else ())}))

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def __getitem__(self, name: str) -> T:
        """Return the entry registered under ``name``.

        Raises:
            ConfigError: if the name is unknown; the nearest name is suggested.
        """
        entry = self._find(name)
        if entry is None:
            raise ConfigError(
                f"no {self.kind} called '{name}'{did_you_mean(name, list(self))}; "
                f"there are {', '.join(self) or 'none'}"
            )
        return entry

    def options(self, name: str) -> dict[str, Parameter]:
        """Return the keyword-only parameters of ``name`` and the shared ones, by parameter name."""
        return {k: p for k, p in self._parameters(name).items() if isinstance(p, Parameter)}

    def _parameters(self, name: str) -> dict[str, Parameter | str]:
        """Return the parameters of ``name``, or the reason why it refuses a shared one."""
        parameters = inspect.signature(self[name]).parameters
        own = {k: p for k, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
        return {**own, **self._shared(name, own)}

    def option_mistakes(
        self, name: str, options: Mapping[str, object], *, finite: bool = True
    ) -> list[str]:
        """Return one message for each option that ``name`` does not accept.

        Besides its type, the range of a number is checked: integers have at most 64 bits, other
        numbers are in the range of float32, and a list has at most 1,000 numbers. The entry itself
        refuses numbers that make no sense, and what does not fit into the memory.

        Args:
            name: registered name of the entry that takes the options.
            options: values by option name.
            finite: whether to report numbers that are not finite.
        """
        parameters = self._parameters(name)
        known = [option for option in self.options(name) if option not in self._given]
        mistakes = []
        for option, value in options.items():
            if isinstance(reason := parameters.get(option), str):
                mistakes.append(f"{self.kind} '{name}' has no option '{option}': {reason}")
                continue
            if option not in known:
                mistakes.append(
                    f"{self.kind} '{name}' has no option '{option}'{did_you_mean(option, known)}; "
                    f"it takes {', '.join(known) or 'none'}"
                )
                continue
            if finite and not _finite(value):
                mistakes.append(
                    f"{self.kind} '{name}': {option} takes finite numbers; got {shown(value)}"
                )
                continue
            try:
                result = self._adapter(name, option).validate_python(value)
                reasons = _other_number(value, result) or _out_of_range(result, value)
            except ValidationError as error:
                reasons = "; ".join(_option_message(e, value) for e in error.errors())
            if reasons:
                mistakes.append(f"{self.kind} '{name}': {option}={shown(value)}: {reasons}")
        return mistakes

    def checked_options(
        self, name: str, options: Mapping[str, object], *, finite: bool = True
    ) -> dict[str, Any]:
        """Return the options converted to the declared types, such as lists to tuples.

        Arguments are those of :meth:`option_mistakes`.

        Raises:
            ConfigError: if the name is unknown, or it does not accept an option.
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
        signature_of = thing.__init__ if inspect.isclass(thing) else thing
        hints = get_type_hints(signature_of, include_extras=True)
        shared = self.options(name).get(option)
        return TypeAdapter(hints.get(option, shared.annotation if shared else Any))

    def attribute(self, name: str) -> T:
        """Return the entry that is a function or class of this name, such as ``bce_loss``.

        For ``__getattr__`` of the package.

        Raises:
            AttributeError: if there is none.
        """
        entry = None
        stem = name.removesuffix(self._suffix)
        if stem != name:
            entry = self._find(stem)
        elif not self._suffix and name[:1].isupper():  # a class; other names are modules
            self._load()
            entry = next((e for e in self._entries.values() if e.__name__ == name), None)
        if entry is not None:
            return entry
        raise AttributeError(f"module '{self._package}' has no attribute '{name}'")

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # set first, so that modules may look up names while they register
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        for entry_point in entry_points(group=self._package):
            try:
                entry_point.load()
            except Exception as error:
                self._loaded = False  # the next look-up fails too, instead of missing the entry
                origin = entry_point.dist.name if entry_point.dist else "another package"
                raise ConfigError(
                    f"entry point '{entry_point.name}' of {origin} in group '{self._package}' "
                    f"cannot be loaded ({type(error).__name__}: {error}); "
                    "correct or uninstall the package"
                ) from error

    def _find(self, name: str) -> T | None:
        self._load()
        if name in self._entries or self._derived is None or name not in self._derived[0]:
            return self._entries.get(name)
        origins, build = self._derived
        origin, entry = self._built.get(name, (None, None))
        if entry is None or origin is not origins[name]:
            entry = build(name)
            self._built[name] = origins[name], entry
        return entry


def _finite(value: object) -> bool:
    """Whether a value contains neither NaN nor infinity, including nested lists and tables."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(_finite(v) for v in value.values())
    return not isinstance(value, (list, tuple)) or all(_finite(v) for v in value)


def _other_number(value: object, result: object) -> str:
    """Return a message if a value became a number of another type, such as true or 1e3 an int."""
    if isinstance(value, Mapping) and isinstance(result, Mapping):
        return next(filter(None, map(_other_number, value.values(), result.values())), "")
    if isinstance(value, list | tuple) and isinstance(result, list | tuple):
        return next(filter(None, map(_other_number, value, result)), "")
    if isinstance(value, bool) and not isinstance(result, bool):
        kind = "an integer" if isinstance(result, int) else "a number"
        got = f"expected {kind}; got {str(value).lower()}"
        return got if isinstance(result, int | float) else ""
    if not isinstance(result, int) or isinstance(result, bool) or isinstance(value, int):
        return ""
    is_integer = isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+", value)
    is_number = isinstance(value, str | float) and not is_integer
    return f"expected an integer, such as {result}" if is_number else ""


def _out_of_range(result: object, value: object) -> str:
    """Return a message if a number of an option, or of a list or table in it, is too large."""
    layer = [result if isinstance(result, int | float | Mapping | list | tuple) else value]
    while layer:
        numbers = [x for x in layer if isinstance(x, int | float) and not isinstance(x, bool)]
        if any(isinstance(x, int) and not -_LARGEST <= x <= _LARGEST for x in numbers):
            return f"expected integers from -{_LARGEST} to {_LARGEST}"
        if any(isinstance(x, float) and LARGEST_FLOAT32 < abs(x) < math.inf for x in numbers):
            return f"expected numbers in the range of float32, at most {LARGEST_FLOAT32:.3g}"
        if len(numbers) > _LONGEST:
            return f"expected at most {_LONGEST:,} numbers; got {len(numbers):,}"
        tables = [x.values() for x in layer if isinstance(x, Mapping)]
        layer = [*chain(*tables, *(x for x in layer if isinstance(x, list | tuple)))]
    return ""


def _redefines(thing: Callable[..., Any], present: Callable[..., Any]) -> bool:
    """Whether both have one name in ``__main__``, as after running a notebook cell again."""
    home = thing.__module__, thing.__qualname__
    return home == (present.__module__, present.__qualname__) and home[0] == "__main__"


def _option_message(error: Any, value: object) -> str:
    """Return the message of a validation error, with the key if the option is a table."""
    message: str = error["msg"].removeprefix("Value error, ")
    key = error["loc"][-1] if error["loc"] else None
    is_key = isinstance(value, Mapping) and (key in value or error["type"] == "missing")
    return f"{key}: {message}" if is_key else message
