"""Load a complete run: its cascade with the best weights, its schema and its settings."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import polars as pl
from safetensors import SafetensorError
from safetensors.torch import load_file

from cascaderank.cascade import Cascade
from cascaderank.data.encoding.encoder import Encoder
from cascaderank.data.log.validation import ITEM_KEY
from cascaderank.errors import CascadeRankError, RunError
from cascaderank.regular_files import check_path, check_regular
from cascaderank.runs.build import build_cascade, schema_of_stages
from cascaderank.runs.folder import RunFolder
from cascaderank.runs.frames import Frame, as_polars, like
from cascaderank.runs.listing import list_runs
from cascaderank.runs.recorded import recorded_settings
from cascaderank.runs.score_frame import ScoredFrame, score_frame
from cascaderank.schema import FittedSchema, abridged
from cascaderank.selection import check_size
from cascaderank.settings.run import RunSettings


@final
@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A complete run, loaded for evaluation or serving."""

    folder: RunFolder
    """Folder of the run."""
    cascade: Cascade
    """Cascade with the best weights, in evaluation mode, on the CPU."""
    schema: FittedSchema
    """Schema fitted to the training requests; encodes requests for the cascade."""
    settings: RunSettings
    """Settings that the run was trained with."""

    @property
    def quotas(self) -> tuple[int, ...]:
        """Number of candidates that each stage keeps, first stage first."""
        return self.settings.quotas

    def score(self, frame: Frame) -> Frame:
        """Score candidates by every stage, and run the cascade on them.

        Args:
            frame: raw columns in a polars frame, a pandas frame (2.2 or later) or an Arrow table,
                in one of two layouts: one row per request, with a list per item feature; or one
                row per candidate, with the id of the request in ``request_id``. Needed are the
                features that stages read; others are ignored. Labels are not needed. A category
                that training did not have is out of vocabulary (code 0).

        Returns:
            The rows of the frame, in their order, with additional columns: ``score/STAGE`` and
            ``alive/STAGE`` (whether the stage and all before it keep the candidate) of each stage,
            ``rank`` in the final list (from 1; null if a stage cut the candidate) and
            ``stage_reached`` (name of the last stage that received the candidate). With one row
            per request, these are lists, too. Of equal scores the earlier candidate wins.

        Raises:
            SchemaError: if a feature is missing or has another type; the message names it.
            DataError: if the frame is of another type, lists of a request differ in length, or
                numbers are not finite.
        """
        return like(self._scored(as_polars(frame)).frame, frame, same_rows=True)

    def rank(self, frame: Frame, top: int | None = None) -> Frame:
        """Return the final list of each request.

        Args:
            frame: raw columns, as in :meth:`score`.
            top: maximum length of a list; default: the quota of the last stage.

        Returns:
            One row per candidate that no stage cut, best first inside each request, requests in
            the order of their first rows: the columns of the frame and those of :meth:`score`. If
            the frame has one row per request, lists with one value per candidate become values,
            and ``request_id`` is the number of the row if the frame has none. A candidate that the
            frame has twice in a request can be twice in its list; a warning counts such copies if
            items have an identity: the column ``item_key``, or ``catalogue.item`` of the run.

        Raises:
            ConfigError: if ``top`` is not a positive integer.
            SchemaError: see :meth:`score`.
            DataError: see :meth:`score`.
        """
        if top is not None:
            check_size(top, "top")
        scored = self._scored(as_polars(frame))
        identity = self.settings.catalogue.item if self.settings.catalogue else None
        key = ITEM_KEY if ITEM_KEY in scored.frame.columns else identity
        return like(scored.final_lists(top, key), frame)

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(schema_of_stages(self.settings, self.schema))

    def _scored(self, frame: pl.DataFrame) -> ScoredFrame:
        return score_frame(frame, self.cascade, self._encoder, self.settings, self.schema)

    def __getitem__(self, index: int) -> Any:
        """Return cascade, schema or settings, by the position they had in the tuple of 0.1."""
        return tuple(self)[index]

    def __iter__(self) -> Iterator[Any]:
        """Iterate over cascade, schema and settings, the tuple that version 0.1 returned."""
        warnings.warn(
            "load_run returns a TrainedRun, not a tuple; use run.cascade, run.schema and "
            "run.settings",
            DeprecationWarning,
            stacklevel=2,
        )
        return iter((self.cascade, self.schema, self.settings))


def load_run(folder: str | os.PathLike[str]) -> TrainedRun:
    """Load a complete run.

    Args:
        folder: folder that ``cascaderank train`` wrote.

    Returns:
        The run: cascade with its best weights in evaluation mode, fitted schema, settings.

    Raises:
        RunError: if the folder does not hold a complete run, or a file in it is damaged.
    """
    folder = check_path(folder, RunError)
    if not folder.exists():
        raise RunError(
            f"{folder}: no such folder; expected the folder of a run that `cascaderank train` wrote"
        )
    if folder.is_dir() and not (folder / "config.toml").exists():
        below = [folder / run.name for run in list_runs(folder, sort="name").runs if run.complete]
        if below:
            raise RunError(
                f"{folder}: expected the folder of a run, found runs in it: "
                f"{abridged(map(str, below), 3)}; choose one"
            )
    run = RunFolder(folder)
    if not run.weights.exists():
        raise RunError(
            f"{folder}: no {run.weights.name}, so the run is not complete; "
            "finish it with `cascaderank train`"
        )
    run.check_files()
    try:
        settings, schema = recorded_settings(run.config), FittedSchema.load(run.schema)
        cascade = build_cascade(settings, schema)
        check_regular(run.weights)
        cascade.load_state_dict(load_file(run.weights))
    except (CascadeRankError, RuntimeError, SafetensorError, OSError, LookupError) as error:
        text = error.strerror if isinstance(error, OSError) else None
        reason = (text or str(error)).strip().split("\n")[0]
        raise RunError(
            f"{folder}: cannot be loaded: {reason}; import the module of its own components first, "
            "restore its files, or train again in another folder"
        ) from None
    return TrainedRun(folder=run, cascade=cascade.eval(), schema=schema, settings=settings)
