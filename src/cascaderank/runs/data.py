"""A request log as a run sees it: split, fitted on its training requests, encoded."""

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import Split, split_requests
from cascaderank.errors import DataError, SchemaError
from cascaderank.progress import Progress, Silent
from cascaderank.runs.folder import scratch, write_atomically
from cascaderank.schema import FittedSchema
from cascaderank.settings.run import RunSettings


@final
@dataclass(frozen=True, kw_only=True)
class RunData:
    """A request log as a run sees it: split, fitted on its training requests, encoded."""

    log: RequestLog
    split: Split
    """Global row numbers; of a log that is judged whole, all of them are test requests."""
    encoded: EncodedLog
    schema: FittedSchema
    folder: Path
    """Of the encoded columns."""


@contextmanager
def run_data(
    settings: RunSettings, *, folder: Path | None = None, progress: Progress | None = None
) -> Iterator[RunData]:
    """Open, split, fit and encode the request log of a run; the encoded columns go at the end.

    Args:
        settings: of the run.
        folder: a locked folder for the columns, about four bytes a value; the system's temporary
            folder if not given.
        progress: hears how far it is.

    Raises:
        DataError: if the log is missing, damaged, or cannot be split so.
    """
    log = RequestLog.open(settings.data.path)
    check_log(settings, log)
    split = split_requests(log, settings.data.split)
    try:
        schema = fit_schema(log.schema, log.frames(rows=split.train))
    except DataError as error:
        told = str(error)
        raise type(error)(told if str(log.path) in told else f"{log.path}: {told}") from None
    with scratch(folder) as columns:
        encoded = encode(log, schema, settings, columns, progress or Silent())
        _check_lists(settings, log, encoded)
        yield RunData(log=log, split=split, encoded=encoded, schema=schema, folder=columns)


def check_log(settings: RunSettings, log: RequestLog) -> None:
    """Check that a log has what a run needs: the features of its stages, and days to go by.

    Raises:
        SchemaError: if a feature is not there; says of which stage.
        DataError: if there are no timestamps and ``train.order`` goes by days.
    """
    for name, stage in settings.stages.items():
        try:
            log.schema.select(stage.features)
        except SchemaError as error:
            raise SchemaError(f"stages.{name}.features: {error}") from None
    if settings.train.order == "days" and log.manifest.time_range is None:
        raise DataError(
            f'{log.path}: no timestamps to learn day by day; say train.order = "shuffled"'
        )


def encode(
    log: RequestLog,
    schema: FittedSchema,
    settings: RunSettings,
    folder: Path,
    progress: Progress,
) -> EncodedLog:
    """Encode a log as the settings of a run say, into a folder that outlives what is returned.

    Raises:
        DataError: if the log is damaged, or has other features than the schema was fitted to.
    """
    progress.start("encoding", log.manifest.requests)
    encoded = EncodedLog.build(
        log,
        schema,
        target=settings.data.target,
        folder=folder,
        history_length=settings.data.history_length,
        progress=progress.advance,
    )
    progress.stop()
    return encoded


def _check_lists(settings: RunSettings, log: RequestLog, encoded: EncodedLog) -> None:
    """Check that there is anything to decide: that some list is longer than what is kept of it.

    Raises:
        DataError: if every cascade would do equally well on every request.
    """
    longest, top = int(np.diff(encoded.offsets).max(initial=0)), settings.relevance.top
    told = []
    if top is not None and top >= longest:
        told.append(f"relevance.top is {top}, so all candidates are ground truth")
    if settings.quotas[-1] >= longest:
        told.append(f"the last quota is {settings.quotas[-1]}, so no stage drops what counts")
    if told:
        raise DataError(
            f"{log.path}: the longest list has {longest} candidates and {', and '.join(told)}; "
            "lower it"
        )


def share(data: RunData) -> Path:
    """Write what another process needs to use the same columns, once, beside them.

    The columns themselves are named and not copied.

    Returns:
        What :func:`open_shared` takes. It goes when the columns go.
    """
    path = data.folder / "shared.pickle"
    if not path.exists():
        content = io.BytesIO()
        _ByName(content).dump(data)
        write_atomically(path, content.getvalue())
    return path


def open_shared(path: Path) -> RunData:
    """Open what :func:`share` of another process wrote; columns are mapped, not read."""
    with path.open("rb") as file:
        data: RunData = _Mapping(file).load()
    return data


@final
class _ByName(pickle.Pickler):
    """Pickles an array that is a whole mapped file as the name of the file."""

    def persistent_id(self, value: object) -> tuple[str, str, tuple[int, ...]] | None:
        base = value
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        if not isinstance(base, np.memmap) or not isinstance(value, np.ndarray):
            return None
        whole = value.flags.c_contiguous and value.nbytes == base.nbytes
        return (str(base.filename), value.dtype.str, value.shape) if whole else None


@final
class _Mapping(pickle.Unpickler):
    """Maps what :class:`_ByName` named, each file once."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._mapped: dict[object, NDArray[Any]] = {}

    def persistent_load(self, name: tuple[str, str, tuple[int, ...]]) -> NDArray[Any]:
        if name not in self._mapped:
            path, dtype, shape = name
            flat = np.asarray(np.memmap(path, dtype=dtype, mode="r"))
            self._mapped[name] = flat.reshape(shape)
        return self._mapped[name]
