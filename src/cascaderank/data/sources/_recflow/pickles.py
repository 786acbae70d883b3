"""Pickles of strangers: numbers in NumPy arrays are read, and nothing in them is ever run.

A pickle is a program. The unpickler here gives it no name to call but a few stand-ins of its own,
which build arrays of numbers out of bytes; not even NumPy's own ways to rebuild an array are
reached. It reads pickles of protocols 2 to 5, of NumPy 1 and 2.
"""

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NoReturn, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import DataError

_NUMBERS = re.compile(r"[iu][1248]|f[248]|b1")
_ORDERS = ("<", ">", "|", "=")


class _RefusedError(pickle.UnpicklingError):
    """What the pickle asks for is no number, array of numbers or plain container."""


def read_arrays(path: Path) -> dict[Any, NDArray[Any]]:
    """Read a pickle that holds arrays of numbers by key, without running anything in it.

    Args:
        path: of the pickle: one dictionary; its keys are integers, text or other scalars.

    Returns:
        The arrays by key. They may be read-only.

    Raises:
        DataError: if the file cannot be read, is damaged, asks for anything beyond arrays of
            numbers and plain containers (the message names it), or is no such dictionary.

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
it was run: it asks for 'builtins.print', and only arrays of numbers and plain containers are \
taken; get the file from where it was published

    Source: this project.
    """
    try:
        with path.open("rb") as file:
            held = _Unpickler(file).load()
    except _RefusedError as error:
        raise DataError(
            f"{path}: this pickle was not read, and nothing in it was run: {error}; get the file "
            "from where it was published"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001  a damaged pickle may fail in any way
        raise DataError(
            f"{path}: damaged or truncated pickle ({type(error).__name__}: {error}); fetch the "
            "file again"
        ) from None
    if not isinstance(held, dict):
        raise DataError(f"{path}: expected arrays by key, found {_kind(held)}")
    # In place: a second dictionary of a day's requests would be large.
    for key, value in held.items():
        if isinstance(value, _Array) and value.array is not None:
            held[key] = value.array
        else:
            raise DataError(f"{path}: expected an array under {key!r}, found {_kind(value)}")
    return held


def check_ends(path: Path) -> str:
    """Return what is wrong with the first and the last bytes of a pickle, or nothing.

    What was cut off while it was copied is told by this without reading it.
    """
    try:
        with path.open("rb") as file:
            first = file.read(2)
            file.seek(-1, 2)
            last = file.read(1)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})" if path.stat().st_size else "is empty"
    if first[:1] != b"\x80" or not 2 <= first[1] <= pickle.HIGHEST_PROTOCOL:
        return "is not a pickle of protocol 2 to 5"
    return "" if last == b"." else "is truncated or damaged: a pickle ends with a full stop"


@final
class _StandIn:
    """What a name of a pickle leads to: may be called, and cannot be changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *args: object) -> object:
        return self._call(*args)

    def __setstate__(self, state: object) -> NoReturn:
        raise _RefusedError("it changes the state of something it must not change")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stand-in is not pickled")


@final
class _Dtype:
    """Type of the numbers of an array, as a pickle tells it: first the kind, then the order."""

    __slots__ = ("dtype",)

    def __init__(self, kind: object, *_: object) -> None:
        if not isinstance(kind, str) or not _NUMBERS.fullmatch(kind.lstrip("<>|=")):
            told = "of objects " if isinstance(kind, str) and kind.strip("|") in ("O", "O8") else ""
            raise _RefusedError(
                f"it holds an array {told}of dtype {kind!r}, and only numbers are taken"
            )
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: Sequence[object]) -> None:
        _, order, subarray, names, fields = state[:5]
        if order not in _ORDERS or any(x is not None for x in (subarray, names, fields)):
            raise _RefusedError("it holds an array of records, and only numbers are taken")
        self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


@final
class _Array:
    """An array that a pickle begins to build, and its content once that was told."""

    __slots__ = ("array",)

    def __init__(self, array: NDArray[Any] | None = None) -> None:
        self.array = array

    def __setstate__(self, state: Sequence[object]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _filled(data, dtype, shape, "F" if fortran else "C")


def _filled(data: object, dtype: object, shape: object, order: object = "C") -> NDArray[Any]:
    """Return numbers as an array, having checked that there are as many as the shape says."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise _RefusedError("it holds an array whose content is not bytes of numbers")
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if not all(isinstance(n, int) and n >= 0 for n in sizes) or order not in ("C", "F"):
        raise _RefusedError(f"it holds an array of shape {shape!r}")
    if prod(sizes) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for an array {list(sizes)} of {dtype.dtype}")
    flat: NDArray[Any] = np.frombuffer(data, dtype.dtype)
    return flat.reshape(sizes, order="F" if order == "F" else "C")


def _scalar(dtype: object, data: object = b"") -> object:
    return _filled(data, dtype, ()).item()


def _buffer(*content: object) -> _Array:
    """Return an array of bytes, dtype, shape and order, as protocol 5 writes it."""
    return _Array(_filled(*content))


def _encoded(text: object, encoding: object = "latin1") -> bytes:
    """Bytes, as protocol 2 writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _RefusedError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


def _bytes(data: object = b"", *encoding: object) -> bytes | bytearray:
    """Bytes out of bytes; not out of a length, which could fill the memory."""
    if isinstance(data, str):
        return _encoded(data, *encoding)
    if not isinstance(data, bytes | bytearray):
        raise _RefusedError(f"it makes bytes of {_kind(data)}")
    return data


_NDARRAY, _DTYPE = _StandIn(lambda *_: _refuse("numpy.ndarray")), _StandIn(_Dtype)


def _reconstruct(kind: object, *_: object) -> _Array:
    if kind is not _NDARRAY:
        raise _RefusedError("it builds an array of a class of its own")
    return _Array()


def _refuse(name: str) -> NoReturn:
    raise _RefusedError(
        f"it asks for '{name}', and only arrays of numbers and plain containers are taken"
    )


def _kind(value: object) -> str:
    kind = "array" if isinstance(value, _Array) else type(value).__name__
    return f"a value of type {kind}"


_RECONSTRUCT, _SCALAR, _BUFFER = _StandIn(_reconstruct), _StandIn(_scalar), _StandIn(_buffer)
_ALLOWED: Mapping[tuple[str, str], _StandIn] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
    ("_codecs", "encode"): _StandIn(_encoded),
} | {
    (f"{module}.{file}", name): stand_in
    for module in ("numpy.core", "numpy._core")
    for file, name, stand_in in (
        ("multiarray", "_reconstruct", _RECONSTRUCT),
        ("multiarray", "scalar", _SCALAR),
        ("numeric", "_frombuffer", _BUFFER),
    )
} | {
    (module, name): _StandIn(call)
    for module in ("builtins", "__builtin__")
    for name, call in (
        ("set", set), ("frozenset", frozenset), ("bytes", _bytes), ("bytearray", _bytes),
    )
}  # fmt: skip


@final
class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        return _ALLOWED.get((module, name)) or _refuse(f"{module}.{name}")
