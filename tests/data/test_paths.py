"""Every public function of the data modules with a path parameter accepts a string, too."""

import os
from pathlib import Path

import numpy as np
import pytest

from cascaderank.data.encoding.column_files import ColumnFiles
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.log.manifest import read_manifest
from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.data.log.steps import Unfinished
from tests.data.shops import LEVELS, SCHEMA, shop_frame, write_shop


class Location(os.PathLike):
    """A path that is neither a string nor a ``Path``."""

    def __init__(self, path):
        self._path = os.fspath(path)

    def __fspath__(self):
        return self._path


def write_log(path):
    with RequestLogWriter(path, name="shop", schema=SCHEMA, level_names=LEVELS) as writer:
        writer.write(shop_frame())
    return RequestLog.open(Path(path)).manifest


def open_log(path):
    write_shop(Path(path))
    return RequestLog.open(path).fingerprint


def read_parts(path):
    manifest = write_shop(Path(path)).manifest
    log = RequestLog(path, manifest)
    return [log.read(part)["video"].to_list() for part in manifest.parts]


def manifest_of(path):
    write_shop(Path(path))
    return read_manifest(path)


def encode(path):
    frame = shop_frame()
    log = write_shop(Path(path).with_name("source"), [frame])
    encoded = EncodedLog.build(log, fit_schema(SCHEMA, [frame]), target="label", folder=path)
    return sorted(p.name for p in Path(path).iterdir()), encoded.items["video"].tolist()


def append_column(path):
    with ColumnFiles(path) as files:
        files.append("x", np.arange(3))
        return files.mapped("x").tolist()


def finish_step(path):
    first = Unfinished(path, {"a": "key"})
    parts = list(first.open())
    first.finish("a", (), {"requests": 1})
    first.leave()
    second = Unfinished(path, {"a": "key"})
    parts += second.open()
    second.leave()
    return parts, second.steps


@pytest.mark.parametrize("kind", [str, Location])
@pytest.mark.parametrize(
    "function",
    [write_log, open_log, read_parts, manifest_of, encode, append_column, finish_step],
)
def test_a_string_is_accepted_like_a_path(tmp_path, function, kind):
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    expected = function(tmp_path / "one" / "data")
    assert function(kind(tmp_path / "other" / "data")) == expected
