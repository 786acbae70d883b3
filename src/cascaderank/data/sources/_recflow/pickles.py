"""Safe reader of untrusted pickles that hold NumPy arrays of numbers.

A pickle is a program that may call any function it can import. The unpickler here resolves names
only to a few stand-ins of its own, which build arrays of numbers from bytes, and a dictionary in
place of a ``defaultdict``; not even NumPy's functions for rebuilding arrays are reachable. It reads
pickles of protocols 2 to 5, written by NumPy 1 and 2.

Time and memory are proportional to the size of the file. The hash and the text of nested tuples
that share their parts take exponential time, so that keys are scalars, and values of other types
never become part of a message.
"""

import pickle
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, ClassVar, NoReturn, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import DataError
from cascaderank.regular_files import open_file

_NUMBERS = re.compile(r"[iu][1248]|f[248]|b1")
_ORDERS = ("<", ">", "|", "=")
_MOST_DIMENSIONS = 64
_MOST_KEY = 1 << 10  # bytes of a key that is text


class _RefusedError(pickle.UnpicklingError):
    """The pickle requires something other than numbers, arrays of numbers or plain containers."""


def read_arrays(path: Path) -> dict[Any, NDArray[Any]]:
    """Read a pickled dictionary of arrays of numbers, without executing anything in it.

    Args:
        path: file with one pickled dictionary, whose keys are integers, strings or other scalars.

    Returns:
        The arrays by key. They may be read-only.

    Raises:
        DataError: if the file cannot be read, is damaged, requires anything but arrays of numbers
            and plain containers (the message names it), or does not hold such a dictionary.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "arrays.pkl"
        ...     _ = path.write_bytes(pickle.dumps({7: np.arange(3)}))
        ...     read_arrays(path)[7].tolist()
        [0, 1, 2]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "function.pkl"
        ...     _ = path.write_bytes(pickle.dumps({7: print}))
        ...     read_arrays(path)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        cascaderank.errors.DataError: ...function.pkl: this pickle was not read, and nothing in \
it was executed: it refers to 'builtins.print', and only arrays of numbers and plain containers \
are accepted; fetch the file from its publisher

    Source: this project.
    """
    try:
        with open_file(path) as file:
            content = _Unpickler(file).load()
    except _RefusedError as error:
        raise DataError(
            f"{path}: this pickle was not read, and nothing in it was executed: {error}; fetch the "
            "file from its publisher"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001  a damaged pickle may fail in any way
        raise DataError(
            f"{path}: damaged or truncated pickle ({type(error).__name__}: {str(error)[:200]}); "
            "fetch the file again"
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected arrays by key, found {_kind(content)}")
    # In place, because a second dictionary of all requests of a day would be large.
    for key, value in content.items():
        if isinstance(value, _Array) and value.array is not None:
            content[key] = value.array
        else:
            raise DataError(f"{path}: expected an array under {key!r}, found {_kind(value)}")
    return content


def check_ends(path: Path) -> str:
    """Check the first and the last bytes of a pickle.

    This detects a file that was truncated while it was copied, without reading all of it.

    Returns:
        A description of the damage, or an empty string.
    """
    try:
        with open_file(path) as file:
            first = file.read(2)
            file.seek(-1, 2)
            last = file.read(1)
    except OSError as error:
        is_empty = path.is_file() and not path.stat().st_size
        return "is empty" if is_empty else f"cannot be read ({error.strerror or error})"
    if len(first) < 2 or first[:1] != b"\x80" or not 2 <= first[1] <= pickle.HIGHEST_PROTOCOL:
        return "is not a pickle of protocol 2 to 5"
    return "" if last == b"." else "is truncated or damaged: a pickle ends with a full stop"


@final
class _StandIn:
    """Function that a name in a pickle resolves to; it can be called and not modified."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *args: object) -> object:
        return self._call(*args)

    def __setstate__(self, state: object) -> NoReturn:
        raise _RefusedError("it modifies the state of a function")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stand-in cannot be pickled")


@final
class _Dtype:
    """Data type of an array, as pickled by NumPy: first the kind, then the byte order."""

    __slots__ = ("dtype",)

    def __init__(self, kind: object, *_: object) -> None:
        if not isinstance(kind, str) or not _NUMBERS.fullmatch(kind.lstrip("<>|=")):
            is_object = isinstance(kind, str) and kind.strip("|") in ("O", "O8")
            raise _RefusedError(
                f"it holds an array {'of objects ' * is_object}of dtype {_shown(kind)}, and only "
                "numbers are accepted"
            )
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: Sequence[object]) -> None:
        _, order, subarray, names, fields = state[:5]
        if order not in _ORDERS or any(x is not None for x in (subarray, names, fields)):
            raise _RefusedError("it holds an array of records, and only numbers are accepted")
        self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


@final
class _Array:
    """An array of a pickle; ``array`` is ``None`` until its content has been read."""

    __slots__ = ("array",)

    def __init__(self, array: NDArray[Any] | None = None) -> None:
        self.array = array

    def __setstate__(self, state: Sequence[object]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _filled(data, dtype, shape, "F" if fortran else "C")


def _filled(data: object, dtype: object, shape: object, order: object = "C") -> NDArray[Any]:
    """Return bytes as an array of numbers, after checking that their length fits the shape."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise _RefusedError("it holds an array whose content is not bytes of numbers")
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if (
        len(sizes) > _MOST_DIMENSIONS
        or not all(isinstance(n, int) and 0 <= n < 2**63 for n in sizes)
        or order not in ("C", "F")
    ):
        raise _RefusedError("it holds an array whose shape is not a few sizes of at least 0")
    if prod(sizes) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for an array {list(sizes)} of {dtype.dtype}")
    flat: NDArray[Any] = np.frombuffer(data, dtype.dtype)
    return flat.reshape(sizes, order="F" if order == "F" else "C")


def _scalar(dtype: object, data: object = b"") -> object:
    return _filled(data, dtype, ()).item()


def _buffer(*content: object) -> _Array:
    """Return an array from bytes, dtype, shape and order, as protocol 5 stores it."""
    return _Array(_filled(*content))


def _encoded(text: object, encoding: object = "latin1") -> bytes:
    """Return bytes from text, as protocol 2 stores them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _RefusedError(f"it encodes text as {_shown(encoding)}")
    return text.encode("latin1")


def _bytes(data: object = b"", *encoding: object) -> bytes | bytearray:
    """Return bytes from bytes; a length is refused, because it could exhaust the memory."""
    if isinstance(data, str):
        return _encoded(data, *encoding)
    if not isinstance(data, bytes | bytearray):
        raise _RefusedError(f"it builds bytes from {_kind(data)}")
    return data


def _default_dict(*factory: object) -> dict[Any, Any]:
    """Return a plain dictionary; the function that makes missing values is never called."""
    if len(factory) > 1 or not all(f is None or f in _FACTORIES.values() for f in factory):
        raise _RefusedError("it builds a defaultdict from something other than a type of values")
    return {}


_FACTORIES: Mapping[str, _StandIn] = {
    name: _StandIn(lambda *_, name=name: _refuse(f"builtins.{name}"))
    for name in ("list", "dict", "tuple", "int", "long", "float")
}
"""Types that a ``defaultdict`` may make missing values of; they cannot be called."""
_NDARRAY, _DTYPE = _StandIn(lambda *_: _refuse("numpy.ndarray")), _StandIn(_Dtype)


def _reconstruct(kind: object, *_: object) -> _Array:
    if kind is not _NDARRAY:
        raise _RefusedError("it builds an array of another class")
    return _Array()


def _refuse(name: str) -> NoReturn:
    raise _RefusedError(
        f"it refers to {_shown(name)}, and only arrays of numbers and plain containers are accepted"
    )


def _kind(value: object) -> str:
    kind = "array" if isinstance(value, _Array) else type(value).__name__
    return f"a value of type {kind}"


def _shown(value: object) -> str:
    """Return a text for a message, shortened; of another value its type."""
    if not isinstance(value, str):
        return _kind(value)
    return repr(value if len(value) <= 80 else value[:80] + "...")


_RECONSTRUCT, _SCALAR, _BUFFER = _StandIn(_reconstruct), _StandIn(_scalar), _StandIn(_buffer)
_ALLOWED: Mapping[tuple[str, str], _StandIn] = (
    {
        ("numpy", "ndarray"): _NDARRAY,
        ("numpy", "dtype"): _DTYPE,
        ("_codecs", "encode"): _StandIn(_encoded),
        ("collections", "defaultdict"): _StandIn(_default_dict),
    }
    | {
        (module, name): stand_in
        for module in ("builtins", "__builtin__")
        for name, stand_in in _FACTORIES.items()
    }
    | {
        (f"{module}.{file}", name): stand_in
        for module in ("numpy.core", "numpy._core")
        for file, name, stand_in in (
            ("multiarray", "_reconstruct", _RECONSTRUCT),
            ("multiarray", "scalar", _SCALAR),
            ("numeric", "_frombuffer", _BUFFER),
        )
    }
    | {
        (module, name): _StandIn(call)
        for module in ("builtins", "__builtin__")
        for name, call in (("bytes", _bytes), ("bytearray", _bytes))
    }
)


@final
class _Unpickler(pickle._Unpickler):  # noqa: SLF001
    """The unpickler in Python, whose instructions can be replaced.

    That in C hashes keys of any type, and allocates as much memory as a number in the file
    specifies.
    """

    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]
    stack: list[Any]

    def find_class(self, module: str, name: str, /) -> Any:
        return _ALLOWED.get((module, name)) or _refuse(f"{module}.{name}")

    def _set_item(self) -> None:
        items = self.stack[-2:]
        del self.stack[-2:]
        _update(self.stack[-1], items)

    def _set_items(self) -> None:
        items = self.pop_mark()
        _update(self.stack[-1], items)

    def _bytearray(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    def _set(self) -> NoReturn:
        raise _RefusedError("it holds a set, and only arrays of numbers by key are accepted")

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,  # noqa: SLF001
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.BYTEARRAY8[0]: _bytearray,
        pickle.EMPTY_SET[0]: _set,
        pickle.FROZENSET[0]: _set,
    }


def _update(target: object, items: Sequence[Any]) -> None:
    """Add keys and values, which alternate, to a dictionary."""
    if type(target) is not dict or len(items) % 2:
        raise _RefusedError(f"it adds keys to {_kind(target)}")
    for key in items[::2]:
        if not _is_short(key):
            raise _RefusedError(f"it has a key that is {_kind(key)}, and no number or short text")
    target.update(zip(items[::2], items[1::2], strict=True))


def _is_short(key: object) -> bool:
    if isinstance(key, int):
        return key.bit_length() <= 64
    if isinstance(key, str | bytes):
        return len(key) <= _MOST_KEY
    return key is None or isinstance(key, float)
