"""Log of what was served, in the format that training reads."""

import logging
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Any, Self, final

from cascaderank.errors import ConfigError, DataError, counted, did_you_mean, shown
from cascaderank.limits import LARGEST_FLOAT32
from cascaderank.serving.exploration import Exploration
from cascaderank.serving.logged_candidates import Sampling
from cascaderank.serving.ranker import Ranker
from cascaderank.serving.served import Served
from cascaderank.serving.served_settings import LogSettings, LogStatus
from cascaderank.serving.served_writer import ServedWriter

_TICK = 0.25  # seconds between looks at the clock

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Response:
    request_id: str
    item: Any
    value: float


@dataclass(frozen=True, eq=False)
class _Flush:
    done: threading.Event = field(default_factory=threading.Event)


@final
class ServedLogWriter:
    """Writes served requests as a request log: a data set that ``cascaderank train`` reads.

    :meth:`record` and :meth:`feedback` put their arguments on a queue and return; one thread
    writes. The level of a candidate is the last stage that it reached: ``STAGE_neg`` if that stage
    dropped it, and ``served``. Answers must come from ``Ranker.rank`` with ``request_id``, and with
    :attr:`sampling` and :attr:`exploration`. Both methods can be called from several threads.

    Answers of a bundle with other features or stages than the first are written to a data set of
    their own beside the folder, ``FOLDER-VARIANT``.

    Args:
        folder: folder of the log: free, or a served log that is continued.
        ranker: ranker that the log is for.
        settings: settings of the log.

    Raises:
        DataError: if the folder is anything else, has other features or stages, or another process
            writes it.
        ConfigError: if the settings name a stage that does not exist, or there is exploration and
            the first stage has no vectors.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        ranker: Ranker,
        settings: LogSettings | None = None,
    ) -> None:
        self.folder, self.settings = Path(folder), settings or LogSettings()
        names = [plan.name for plan in ranker.plans]
        for stage in self.settings.sampling.stages:
            if stage not in names:
                raise ConfigError(
                    f"sample of dropped candidates: no stage '{stage}'"
                    f"{did_you_mean(stage, names)}; the stages are {', '.join(names)}"
                )
        if self.settings.exploration is not None and self.settings.exploration.scale:
            ranker.check_exploration()
        self._writer = ServedWriter(self.folder, ranker.bundle, self.settings)
        self._queue: Queue[Served | _Response | _Flush] = Queue(self.settings.queue)
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="served-log", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def status(self) -> LogStatus:
        """Counts since the log was opened; they change while it is open."""
        return self._writer.status

    @property
    def sampling(self) -> Sampling:
        """Argument ``sampling`` of ``Ranker.rank`` for each request."""
        return self.settings.sampling

    @property
    def exploration(self) -> Exploration | None:
        """Argument ``exploration`` of ``Ranker.rank`` for each request."""
        return self.settings.exploration

    def record(self, served: Served) -> bool:
        """Take a request and its answer; return at once.

        Args:
            served: the request and its answer; the request must not be changed afterwards.

        Returns:
            Whether it was accepted; otherwise the queue is full, or the log is closed.

        Raises:
            ConfigError: if the answer has no candidates to log.
        """
        if served.answer.logged is None:
            raise ConfigError(
                "the answer has no candidates to log; call Ranker.rank with request_id, and with "
                "sampling and exploration of this log"
            )
        accepted = self._put(served)
        with self._lock:
            self.status.recorded += accepted
            self.status.overflowed += not accepted
            lost = self.status.overflowed
        if not accepted and lost & (lost - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
            logger.warning("served log: the queue is full; %s lost", counted(lost, "request"))
        return accepted

    def feedback(self, request_id: str, item: Any, value: float) -> bool:
        """Take the response to an item of an answer; return at once.

        Of several responses to an item, the last counts. A candidate without one has feedback 0.

        Args:
            request_id: id of the request.
            item: key of the item.
            value: response, such as 1 for a click.

        Returns:
            Whether it was accepted; otherwise the queue is full, or the log is closed.

        Raises:
            DataError: if the value is not finite in float32.
        """
        number = isinstance(value, int | float) and isfinite(value)
        if not number or abs(value) > LARGEST_FLOAT32:
            raise DataError(f"feedback must be a finite number; got {shown(value)}")
        accepted = self._put(_Response(request_id, item, float(value)))
        with self._lock:
            self.status.feedback += accepted
            self.status.lost_feedback += not accepted
        return accepted

    def flush(self) -> None:
        """Wait until everything that was recorded so far is in parts on the disk."""
        event = _Flush()
        self._queue.put(event)
        while not event.done.wait(_TICK) and self._thread.is_alive():
            pass

    def close(self) -> None:
        """Write what is left, and release the folder. A second call does nothing."""
        self._stopping.set()
        self._thread.join()
        with suppress(Empty):  # what was put while the thread ended
            while True:
                if isinstance(self._queue.get_nowait(), Served):
                    self.status.recorded -= 1
                    self.status.overflowed += 1
        self._writer.close()
        lost = self.status.lost
        if lost:
            logger.warning(
                "served log: %s lost; %s",
                counted(lost, "request"),
                self.status.problem or "the queue was full",
            )

    def _put(self, event: Served | _Response) -> bool:
        if self._stopping.is_set():
            return False
        try:
            self._queue.put_nowait(event)
        except Full:
            return False
        return True

    def _run(self) -> None:
        """Write until the log is closed; no error of one request or of the disk ends the thread."""
        while True:
            try:
                event = self._queue.get(timeout=_TICK)
            except Empty:
                if self._stopping.is_set():
                    break
                event = None
            try:
                if isinstance(event, Served):
                    self._writer.take(event)
                elif isinstance(event, _Response):
                    self._writer.respond(event.request_id, event.item, event.value)
                self._writer.rotate(everything=isinstance(event, _Flush))
            except Exception as error:  # noqa: BLE001
                self._writer.problem(error)
            if isinstance(event, _Flush):
                event.done.set()
        try:
            self._writer.rotate(everything=True, last=True)
        except Exception as error:  # noqa: BLE001 - the folder must be released
            self._writer.problem(error)
