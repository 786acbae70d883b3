"""MLflow: a run of a tracking server, or of local files."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from cascaderank.extras import require
from cascaderank.tracking import TRACKERS

_EXPERIMENT = "cascaderank"


@TRACKERS.register
@final
class MlflowTracker:
    """Log to MLflow by its client, which needs the extra ``mlflow``.

    Its environment variables apply, such as ``MLFLOW_TRACKING_URI`` and
    ``MLFLOW_EXPERIMENT_NAME`` (default: ``cascaderank``). Characters that names of metrics must not
    have become ``_``.

    Args:
        folder: folder of the tracked run; the id of the run is in ``mlflow-id.txt``.
        name: name of the run.

    Raises:
        MissingExtraError: if the library is not installed.

    Examples:
        See ``docs/training.md``; ``train.track = ["mlflow"]`` uses it.
    """

    def __init__(self, folder: str | os.PathLike[str], *, name: str) -> None:
        self._library = require("mlflow.tracking", extra="mlflow")
        self._folder, self._name = Path(folder), name
        self._client: Any = None
        self._id = ""
        self._logged: dict[str, int] = {}
        self._resumed = False

    def begin(self, step: int) -> None:
        """Create a run, or use that of the id in the folder."""
        client = self._client = self._library.MlflowClient()
        file = self._folder / "mlflow-id.txt"
        self._resumed = bool(step) and file.exists()
        if self._resumed:
            self._id = client.get_run(file.read_text(encoding="utf-8")).info.run_id
            return
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
        found = client.get_experiment_by_name(experiment)
        place = client.create_experiment(experiment) if found is None else found.experiment_id
        self._id = client.create_run(place, tags={"mlflow.runName": self._name}).info.run_id
        self._folder.mkdir(parents=True, exist_ok=True)
        file.write_text(self._id, encoding="utf-8")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers, each unless the process that was killed has logged it for this step."""
        for name, value in values.items():
            key = re.sub(r"[^\w\-. /]", "_", name)
            if step > self._last(key):
                self._client.log_metric(self._id, key, value, step=step)

    def _last(self, key: str) -> int:
        """Return the last step that a former process has logged of a metric, or -1."""
        if self._resumed and key not in self._logged:
            history = self._client.get_metric_history(self._id, key)
            self._logged[key] = max((entry.step for entry in history), default=-1)
        return self._logged.get(key, -1)

    def text(self, name: str, text: str) -> None:
        """Add a text to the artifacts of the run."""
        self._client.log_text(self._id, text, f"{name}.txt")

    def close(self) -> None:
        """Set the run to finished."""
        if self._client is not None and self._id:
            self._client.set_terminated(self._id)
