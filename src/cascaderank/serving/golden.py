"""Golden requests: raw requests with scores and cuts by the code of training."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cascaderank.cascade import Cascade
from cascaderank.data.encoding.encoder import Encoder
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.ragged import flattened, lengths_of, offsets_of
from cascaderank.data.split import Rows
from cascaderank.errors import DataError
from cascaderank.runs.build import schema_of_stages
from cascaderank.runs.frames import free_name
from cascaderank.runs.score_frame import score_frame
from cascaderank.schema import FittedSchema, Role
from cascaderank.serving.bundle import Bundle
from cascaderank.serving.bundle_files import GOLDEN, GOLDEN_SCORES
from cascaderank.serving.raw_items import RawItems
from cascaderank.settings.run import RunSettings


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenRequest:
    """One request with its expected scores and cuts."""

    id: Any
    """Id of the request in the log."""
    request: Mapping[str, Any]
    """Raw values of the request and its histories."""
    columns: Mapping[str, list[Any]]
    """Raw features of the candidates by name, and their keys."""
    key: str | None
    """Column of the keys; ``None`` without a catalogue."""
    known: tuple[str, ...]
    """Features that the catalogue has."""
    scores: NDArray[np.float32]
    """``[stages, candidates]`` expected scores."""
    kept: NDArray[np.bool_]
    """``[stages, candidates]`` expected candidates after each stage."""

    @property
    def rows(self) -> dict[str, list[Any]]:
        """Candidates by key, with the features that the catalogue does not have."""
        return rows_of(self.columns, self.key, self.known)

    @property
    def plain_rows(self) -> dict[str, list[Any]]:
        """Candidates with all raw features, which the catalogue is not needed for."""
        return dict(self.columns)


def rows_of(
    columns: Mapping[str, list[Any]], key: str | None, known: Sequence[str]
) -> dict[str, list[Any]]:
    """Return the columns of candidates that a ranker needs: keys, and what no catalogue has.

    Args:
        columns: raw features of the candidates by name, and their keys.
        key: column of the keys; ``None`` without a catalogue.
        known: features that the catalogue has.
    """
    if key is None:
        return dict(columns)
    return {n: v for n, v in columns.items() if n == key or n not in known}


@final
@dataclass(frozen=True, kw_only=True)
class GoldenColumns:
    """Columns of the file of golden requests that the stages read."""

    request: tuple[str, ...]
    """Features of the request and its histories."""
    candidates: tuple[str, ...]
    """Features of the candidates, and their keys."""
    key: str | None
    """Column of the keys; ``None`` without a catalogue."""

    @classmethod
    def of(cls, bundle: Bundle) -> "GoldenColumns":
        """Return the columns of a bundle."""
        features = bundle.stage_schema.features
        key = bundle.items.key if bundle.items is not None else None
        of_items = [f.name for f in features if f.role is Role.ITEM]
        return cls(
            request=tuple(f.name for f in features if f.role is not Role.ITEM),
            candidates=tuple(dict.fromkeys([*of_items, *([key] if key else [])])),
            key=key,
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenScores:
    """Scores and cuts of golden requests, their candidates concatenated."""

    lengths: NDArray[np.int64]
    """``[requests]`` number of candidates of each request."""
    scores: NDArray[np.float32]
    """``[stages, candidates]``."""
    kept: NDArray[np.bool_]
    """``[stages, candidates]``, whether the stage and all before it keep the candidate."""

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write into the folder of a bundle."""
        arrays = {"lengths": self.lengths, "scores": self.scores, "kept": self.kept}
        save_file(
            {n: np.ascontiguousarray(a) for n, a in arrays.items()}, Path(folder) / GOLDEN_SCORES
        )

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "GoldenScores":
        """Read the file that :meth:`save` wrote."""
        return cls(**load_file(Path(folder) / GOLDEN_SCORES))


def golden_frame(
    log: RequestLog, rows: Rows, schema: FittedSchema, items: RawItems | None
) -> pl.DataFrame:
    """Return raw requests of a log, one row per request.

    Features of an item alone have the values of ``items``, as in the catalogue of the bundle;
    candidates that are not among the items are left out, and requests without candidates, too.

    Args:
        log: a request log.
        rows: row numbers of the requests, ascending.
        schema: features that the stages read.
        items: the items; ``None`` for the values of the log.

    Raises:
        DataError: if the log is damaged.
    """
    columns = ["request_id", *schema.names]
    columns += [items.key] if items is not None and items.key not in columns else []
    frame = pl.concat(list(log.frames(columns, rows=rows)))
    if items is None:
        return frame
    of_items = [f.name for f in schema.of(Role.ITEM)]
    listed = [items.key, *(name for name in of_items if name != items.key)]
    own = [name for name in items.features if name != items.key]
    row = free_name("row", frame.columns)
    flat = pl.DataFrame({name: flattened(frame[name]) for name in listed if name not in own})
    owners = np.repeat(np.arange(frame.height), lengths_of(frame[items.key]))
    flat = flat.with_columns(pl.Series(row, owners))
    if flat.schema[items.key] != items.frame.schema[items.key]:  # of a file with narrower integers
        flat = flat.with_columns(
            pl.col(items.key).cast(items.frame.schema[items.key], strict=False)
        )
    joined = flat.join(
        items.frame.select(items.key, *own), on=items.key, how="inner", maintain_order="left"
    )
    lists = joined.group_by(row, maintain_order=True).agg(pl.col(name) for name in listed)
    rest = [name for name in frame.columns if name not in listed]
    requests = frame.select(rest).with_columns(pl.Series(row, np.arange(frame.height)))
    return requests.join(lists, on=row, how="inner", maintain_order="left").drop(row)


def golden_scores(
    frame: pl.DataFrame, cascade: Cascade, settings: RunSettings, schema: FittedSchema
) -> GoldenScores:
    """Score golden requests by the code of training, and run the cascade.

    Args:
        frame: raw requests, as of :func:`golden_frame`.
        cascade: cascade in evaluation mode.
        settings: settings of the run.
        schema: fitted schema of the run.
    """
    encoder = Encoder(schema_of_stages(settings, schema))
    scored = score_frame(frame, cascade, encoder, settings, schema).frame
    stages = list(settings.stages)

    def flat(kind: str) -> NDArray[Any]:
        return np.stack([flattened(scored[f"{kind}/{name}"]).to_numpy() for name in stages])

    return GoldenScores(
        lengths=lengths_of(scored[f"score/{stages[0]}"]),
        scores=flat("score").astype(np.float32),
        kept=flat("alive").astype(bool),
    )


def golden_requests(
    bundle: Bundle, scores: GoldenScores | None = None, *, most: int | None = None
) -> Iterator[GoldenRequest]:
    """Yield the golden requests of a bundle.

    Args:
        bundle: a loaded bundle.
        scores: expected scores; default: those of the bundle.
        most: maximum number of requests; default: all.

    Raises:
        DataError: if the files of the bundle do not belong together.
    """
    columns, items = GoldenColumns.of(bundle), bundle.items
    frame = pl.read_parquet(bundle.folder / GOLDEN)
    scores = scores or GoldenScores.open(bundle.folder)
    if len(scores.lengths) != frame.height:
        raise DataError(
            f"{bundle.folder / GOLDEN}: expected {len(scores.lengths)} requests, found "
            f"{frame.height}; export the run again"
        )
    offsets = offsets_of(scores.lengths)
    for number, row in enumerate(frame.head(most or frame.height).iter_rows(named=True)):
        part = slice(offsets[number], offsets[number + 1])
        yield GoldenRequest(
            id=row["request_id"],
            request={name: row[name] for name in columns.request},
            columns={name: row[name] for name in columns.candidates},
            key=columns.key,
            known=items.features if items is not None else (),
            scores=scores.scores[:, part],
            kept=scores.kept[:, part],
        )
