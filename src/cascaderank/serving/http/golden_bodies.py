"""Golden requests of a loaded bundle, as bodies of ``POST /v1/rank``."""

import hashlib
from io import BytesIO
from typing import Any, final

import polars as pl
from pydantic_core import to_json

from cascaderank.errors import RunError, shown
from cascaderank.regular_files import read_file
from cascaderank.serving.bundle import Bundle
from cascaderank.serving.bundle_files import GOLDEN
from cascaderank.serving.golden import GoldenColumns, rows_of
from cascaderank.serving.http.problems import ProblemError


@final
class GoldenBodies:
    """Golden requests of a bundle, for those who try a server, such as the page.

    The file is read when the bundle is loaded, and kept compressed: no request reads a path, and
    after another export to the folder, the requests are still those of the bundle that is served.

    Args:
        bundle: a loaded bundle.

    Raises:
        RunError: if another bundle has taken its place.
    """

    def __init__(self, bundle: Bundle) -> None:
        path = bundle.folder / GOLDEN
        try:
            self._file = read_file(path)
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror or error}") from None
        if hashlib.sha256(self._file).hexdigest() != bundle.manifest.files[GOLDEN].sha256:
            raise RunError(f"{path}: was replaced while it was loaded; try again")
        self._columns = GoldenColumns.of(bundle)
        self._known = bundle.items.features if bundle.items is not None else ()
        self._count = bundle.manifest.golden

    def listed(self) -> bytes:
        """Return the index, the id and the number of candidates of each request, as JSON."""
        key = self._columns.key or self._columns.candidates[0]
        frame = pl.read_parquet(BytesIO(self._file), columns=["request_id", key])
        requests = [
            {"index": index, "id": each, "candidates": count}
            for index, (each, count) in enumerate(
                zip(frame["request_id"].to_list(), frame[key].list.len().to_list(), strict=True)
            )
        ]
        return to_json({"requests": requests}, inf_nan_mode="null")

    def body(self, index: str) -> bytes:
        """Return a request and its candidates, as JSON.

        Args:
            index: its number, from 0.

        Raises:
            ProblemError: if there is no such request.
        """
        number = int(index) if index.isascii() and index.isdecimal() and len(index) < 10 else -1
        if not 0 <= number < self._count:
            expected = f"an integer from 0 to {self._count - 1}"
            raise ProblemError(
                "not-found",
                f"index: expected {expected}, found {shown(index)}; see /v1/golden",
                field="index",
                expected=expected,
                found=shown(index),
            )
        frame = pl.read_parquet(BytesIO(self._file)).slice(number, 1)
        row: dict[str, Any] = frame.row(0, named=True)
        columns = {name: row[name] for name in self._columns.candidates}
        content = {
            "index": number,
            "id": row["request_id"],
            "request": {name: row[name] for name in self._columns.request},
            "candidates": rows_of(columns, self._columns.key, self._known),
        }
        return to_json(content, inf_nan_mode="null")
