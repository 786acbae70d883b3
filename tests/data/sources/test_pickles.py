"""Pickles of strangers: the same arrays as the pickle module, and nothing else, ever."""

import os
import pickle
import pickletools
import struct
from collections import defaultdict

import numpy as np
import pytest

from cascaderank.data.sources._recflow.pickles import check_ends, read_arrays
from cascaderank.errors import DataError

PROTOCOLS = [2, 3, 4, 5]
ARRAYS = {
    7: np.arange(400, dtype=np.int64).reshape(50, 8),
    8: np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    9: np.zeros((0, 8), dtype=np.int64),
    10: np.arange(3, dtype=">i4"),
    11: np.array([True, False]),
    12: np.array(5, dtype=np.uint8),
    "text": np.arange(24, dtype=np.int16).reshape(2, 3, 4)[:, ::2],
}


def written(folder, content, protocol=4):
    path = folder / "2024-01-13.pkl"
    data = content if isinstance(content, bytes) else pickle.dumps(content, protocol)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_are_what_was_written(tmp_path, protocol):
    read = read_arrays(written(tmp_path, ARRAYS, protocol))
    assert list(read) == list(ARRAYS)
    for key, array in ARRAYS.items():
        assert read[key].dtype == array.dtype
        np.testing.assert_array_equal(read[key], array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_keys_may_be_numbers_of_numpy(tmp_path, protocol):
    read = read_arrays(written(tmp_path, {np.int64(2**60): np.arange(2)}, protocol))
    assert [(type(k), k) for k in read] == [(int, 2**60)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("factory", [None, list, dict, tuple, int, float])
def test_a_defaultdict_is_read_as_a_dictionary(tmp_path, protocol, factory):
    read = read_arrays(written(tmp_path, defaultdict(factory, {7: ARRAYS[7]}), protocol))
    assert type(read) is dict
    np.testing.assert_array_equal(read[7], ARRAYS[7])


@pytest.mark.parametrize("factory", [set, bytearray, print, np.ndarray, defaultdict, os.getcwd])
def test_a_defaultdict_of_anything_else_is_refused(tmp_path, factory):
    with pytest.raises(DataError, match=r"not read, and nothing in it was executed"):
        read_arrays(written(tmp_path, defaultdict(factory, {7: ARRAYS[7]})))


def test_types_of_missing_values_cannot_be_called(tmp_path):
    called = b"\x80\x02cbuiltins\nlist\n)R."
    with pytest.raises(DataError, match=r"refers to 'builtins\.list'"):
        read_arrays(written(tmp_path, called))
    with pytest.raises(DataError, match="builds a defaultdict from something other"):
        read_arrays(written(tmp_path, b"\x80\x02ccollections\ndefaultdict\n}\x85R."))


def renamed(content):
    """The names that NumPy 1 has for its functions; texts of protocol 4 carry their length."""
    old = {b"numpy._core.multiarray": b"numpy.core.multiarray", b"numpy._core.numeric": b"numpy.core.numeric"}  # fmt: skip
    for new, name in old.items():
        content = content.replace(bytes([0x8C, len(new)]) + new, bytes([0x8C, len(name)]) + name)
        content = content.replace(b"c" + new + b"\n", b"c" + name + b"\n")
    return content


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickles_of_numpy_1_are_read(tmp_path, protocol):
    # Without frames, whose lengths would change too.
    content = renamed(pickletools.optimize(pickle.dumps({7: ARRAYS[7]}, protocol)))
    if protocol >= 4:
        content = content[:2] + content[11:] if content[2:3] == b"\x95" else content
    assert b"numpy.core." in content
    assert b"numpy._core" not in content
    np.testing.assert_array_equal(read_arrays(written(tmp_path, content))[7], ARRAYS[7])


class WritesFile:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


class RunsCommand:
    def __reduce__(self):
        return (os.system, ("touch touched",))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_that_would_write_a_file_writes_none(tmp_path, protocol, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "touched"
    for content, told in [
        ({1: np.arange(2), 2: WritesFile(target)}, r"refers to '(io|_io)\.open'"),
        ({1: np.arange(2), 2: RunsCommand()}, r"refers to '(posix|nt)\.system'"),
    ]:
        path = written(tmp_path, content, protocol)
        with pytest.raises(DataError, match=r"2024-01-13\.pkl: this pickle was not read.*" + told):
            read_arrays(path)
        assert not target.exists()
    pickle.loads(pickle.dumps(WritesFile(target), protocol)).close()
    assert target.exists(), "the pickle module would have written it"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({1: np.array([print, None], dtype=object)}, "an array of objects of dtype 'O8'"),
        ({1: np.array([1, None], dtype=object)}, "an array of objects of dtype 'O8'"),
        ({1: np.zeros(2, dtype=[("a", "i4")])}, "dtype 'V4'"),
        ({1: np.array(["a"])}, "dtype 'U1'"),
        ({1: np.array(["2024-01-13"], dtype="M8[D]")}, "dtype 'M8'"),
        ({1: np.ma.array([1])}, r"refers to 'numpy\.ma\.core\._mareconstruct'"),
        ({1: getattr}, "refers to 'builtins.getattr'"),
        (b"cbuiltins\neval\n(V1+1\ntR.", "refers to 'builtins.eval'"),
        # A subclass, by the function that would make it; a state for a function; bytes by length.
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(K\x00ttR.", "of another class"),
        (b"\x80\x02}K\x01cnumpy\ndtype\n}b.", "modifies the state"),
        (b"\x80\x02cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR.", "builds bytes from a value of type int"),
        (b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.", r"refers to 'numpy\.ndarray'"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0ctesting.main\x93.", r"refers to 'numpy\.testing\.main'"),
    ],
)  # fmt: skip
def test_anything_but_numbers_is_refused_by_name(tmp_path, content, told):
    with pytest.raises(DataError, match=told):
        read_arrays(written(tmp_path, content, 4))


def test_an_array_may_not_claim_more_than_its_bytes(tmp_path):
    content = pickle.dumps({1: np.zeros((50, 8), np.int64)}, 4)
    longer = content.replace(b"K2K\x08\x86", b"K\xffK\x08\x86")
    assert longer != content
    with pytest.raises(DataError, match=r"damaged or truncated pickle .*3200 bytes for an array"):
        read_arrays(written(tmp_path, longer))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([np.arange(2)], "expected arrays by key, found a value of type list"),
        (np.arange(2), "expected arrays by key, found a value of type array"),
        ({1: [1, 2]}, "expected an array under 1, found a value of type list"),
        ({1: {2: np.arange(2)}}, "expected an array under 1, found a value of type dict"),
    ],
)
def test_other_contents_are_told(tmp_path, content, told):
    with pytest.raises(DataError, match=told):
        read_arrays(written(tmp_path, content))


def test_a_pickle_cut_off_anywhere_is_told(tmp_path):
    content = pickle.dumps({1: np.arange(8), np.int64(2): np.arange(3)}, 4)
    for length in range(len(content)):
        path = written(tmp_path, content[:length])
        with pytest.raises(DataError, match="damaged or truncated pickle"):
            read_arrays(path)


def test_random_bytes_are_told_and_never_crash(tmp_path):
    rng = np.random.default_rng(0)
    content = bytearray(pickle.dumps({1: np.arange(8), np.int64(2): np.arange(3)}, 4))
    told = 0
    for _ in range(400):
        broken = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            broken[place] = rng.integers(0, 256)
        try:
            read = read_arrays(written(tmp_path, bytes(broken)))
        except DataError:
            told += 1
        else:
            assert all(isinstance(a, np.ndarray) and a.dtype.kind in "iufb" for a in read.values())
    assert told > 100


def test_the_ends_of_a_pickle_tell_whether_it_was_cut_off(tmp_path):
    content = pickle.dumps({1: np.arange(8)}, 4)
    assert check_ends(written(tmp_path, content)) == ""
    assert "truncated" in check_ends(written(tmp_path, content[:-5]))
    assert "protocol 2 to 5" in check_ends(written(tmp_path, b"<html>"))
    assert check_ends(written(tmp_path, b"")) == "is empty"


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_arrays(tmp_path / "absent.pkl")


# Bombs: small files for which the pickle module needs ages, or all memory


def nested(depth=60):
    """Instructions for a tuple of two equal tuples of two equal tuples and so on: 2^60 leaves."""
    return b")\x94" + b"".join(b"0h" + bytes([i, ord("h"), i]) + b"\x86\x94" for i in range(depth))


START = b"\x80\x05"
DTYPE = b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02i8K\x00K\x01\x87R"
ARRAY = (
    b"\x8c\x16numpy._core.multiarray\x8c\x0c_reconstruct\x93"
    b"\x8c\x05numpy\x8c\x07ndarray\x93K\x00\x85C\x01b\x87R"
)


def array(shape, before=b""):
    """Instructions for a dictionary with an array of no bytes that claims a shape."""
    return START + b"}K\x01" + before + ARRAY + b"(K\x01" + shape + DTYPE + b"\x89C\x00tbs."


def long_int(size):
    return b"\x8b" + struct.pack("<i", size) + b"\x7f" * size


BOMBS = {
    "key": (START + b"}" + nested() + b"K\x01s.", "a key that is a value of type tuple"),
    "several keys": (START + b"}(" + nested() + b"K\x01u.", "a key that is a value of type tuple"),
    "set": (START + b"\x8f(" + nested() + b"\x90.", "it holds a set"),
    "frozenset": (START + b"(" + nested() + b"\x91.", "it holds a set"),
    "call of set": (START + b"\x8c\x08builtins\x8c\x03set\x93(" + nested() + b"tR.", "refers to"),
    "bytes": (START + b"\x8c\x08builtins\x8c\x05bytes\x93(" + nested() + b"tR.", "bytes from a value"),
    "encoding": (
        START + b"\x8c\x07_codecs\x8c\x06encode\x93(\x8c\x01a" + nested() + b"tR.",
        "encodes text as a value of type tuple",
    ),
    "dtype": (START + nested() + b"\x8c\x05numpy\x8c\x05dtype\x93h\x3c\x85R.", "dtype a value of type"),
    "shape": (array(b"h\x3c", nested() + b"0"), "shape is not a few sizes"),
    "shape of long integers": (array(b"(" + long_int(10**5) + b"t"), "shape is not a few sizes"),
    "many dimensions": (array(b"(" + b"J\xff\xff\xff\x7f" * 10**5 + b"t"), "shape is not a few"),
    "large shape": (array(b"(" + b"J\xff\xff\xff\x7f" * 9 + b"t"), "0 bytes for an array"),
    "long integer as key": (START + b"}" + long_int(10**6) + b"K\x01s.", "key that is a value of type int"),
    "long text as key": (
        START + b"}X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"K\x01s.",
        "key that is a value of type str",
    ),
    "long name": (START + b"c" + b"a" * 10**6 + b"\nb\n.", r"refers to 'a{80}\.\.\.'"),
    "many digits": (START + b"}I" + b"9" * 10**5 + b"\n.", "damaged or truncated"),
    "size of bytes": (START + b"\x8e" + struct.pack("<Q", 2**45) + b"abc.", "damaged or truncated"),
    "size of a bytearray": (START + b"\x96" + struct.pack("<Q", 2**45) + b"a.", "damaged or truncated"),
    "size of text": (START + b"\x8d" + struct.pack("<Q", 2**45) + b"abc.", "damaged or truncated"),
    "size of a frame": (START + b"\x95" + struct.pack("<Q", 2**45) + b"abc.", "damaged or truncated"),
    "place in the memo": (START + b"]r\xff\xff\xff\x7f.", "found a value of type list"),
    "deep lists": (START + b"]" * 10**5 + b"a" * (10**5 - 1) + b".", "found a value of type list"),
    "deep tuples": (START + b"}K\x01)" + b"\x85" * 10**5 + b"s.", "array under 1, found a value of type tuple"),
    "one byte": (b"\x80", "damaged or truncated"),
    "one full stop": (b".", "damaged or truncated"),
}  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_at_once(tmp_path, kind):
    content, told = BOMBS[kind]
    with pytest.raises(DataError, match=told) as error:
        read_arrays(written(tmp_path, content))
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("content", [b"\x80", b".", b"\x80."])
def test_the_ends_of_very_short_files(tmp_path, content):
    assert check_ends(written(tmp_path, content)) == "is not a pickle of protocol 2 to 5"


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.pkl")
    with pytest.raises(DataError, match="expected a regular file, found a pipe"):
        read_arrays(tmp_path / "a.pkl")
    assert "found a pipe" in check_ends(tmp_path / "a.pkl")
