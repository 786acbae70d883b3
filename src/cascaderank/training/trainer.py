"""The training loop: plain PyTorch with checkpoints; a resumed run ends with the same bits."""

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import final

import torch
from safetensors.torch import save
from torch import Tensor, nn

from cascaderank.atomic import writing
from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import DivergedError, RunError
from cascaderank.objectives import CascadeInputs, Objective, ObjectiveOutput
from cascaderank.progress import Progress, Silent
from cascaderank.regular_files import read_file
from cascaderank.runs.folder import RunFolder, write_atomically
from cascaderank.runs.seeding import random_state, set_random_state
from cascaderank.settings.run import RelevanceSettings, TrainSettings
from cascaderank.training.checkpoint import TrainState, load_checkpoint, save_checkpoint
from cascaderank.training.forward import build_forward
from cascaderank.training.learning_rate import LearningRate
from cascaderank.training.length import training_length
from cascaderank.training.optimizer import Optimizers, build_optimizer
from cascaderank.training.run_tracking import RunTracking
from cascaderank.training.scheduler import Scheduler, reached
from cascaderank.training.validation_recalls import joint_recall_key, validation_recalls
from cascaderank.training.weight_average import WeightAverage

_CHECK_EVERY = 10  # steps between checks of the loss; reading its value synchronises with the GPU


@final
class Trainer:
    """Minimise an objective over a cascade, and keep the weights with the best validation value.

    The validation value is computed at the end of each epoch: by default, the joint recall of the
    validation requests. Training ends after ``settings.epochs`` epochs, or after
    ``settings.patience`` epochs without a better value; see
    :func:`~cascaderank.training.length.training_length` for their defaults.

    If the schedule has phases (see ``docs/schedules.md``), each phase starts from the best weights
    of the previous one, selected by the joint recall of the stages trained so far. Patience applies
    to the last phase only; if phases repeat, it is at least one cycle.

    With ``settings.average``, the weights that are validated, kept and written are the average over
    the steps of the phase, see :class:`~cascaderank.training.weight_average.WeightAverage`.

    A checkpoint is written every ``settings.checkpoint_every`` steps and after each epoch. If the
    folder has a checkpoint, :meth:`fit` resumes from it, and the result is bitwise identical to
    that of an uninterrupted run. The checkpoint before the last is kept, and used with a warning
    if the last is damaged.

    Args:
        cascade: cascade to train; moved to ``device``.
        objective: objective to minimise; its own parameters are trained, too.
        train: loader of the training requests.
        validation: loader of the validation requests, with labels.
        relevance: definition of the ground truth.
        decides: function that returns the validation value of the current weights, higher is
            better, NaN if undefined; called at the end of each epoch. The default is the joint
            recall of the validation requests.
        settings: settings of training.
        folder: folder of the run, for checkpoints, metrics and weights.
        device: device of the computation; the CPU by default.
        progress: receives the progress of each epoch.
        tracking: receives losses, metrics and norms of gradients; by default none are computed.

    Raises:
        ConfigError: if the settings require compiled stages and no compiler is installed, the
            schedule does not fit the stages and the objective, the warm-up is longer than a phase,
            or there are no weights to average.

    Examples:
        See ``docs/start.md``; ``cascaderank train`` builds and runs a trainer.
    """

    def __init__(
        self,
        cascade: Cascade,
        objective: Objective,
        *,
        train: RequestLoader,
        validation: RequestLoader,
        relevance: RelevanceSettings,
        decides: Callable[[], float] | None = None,
        settings: TrainSettings,
        folder: RunFolder,
        device: torch.device | None = None,
        progress: Progress | None = None,
        tracking: RunTracking | None = None,
    ) -> None:
        self._tracking = tracking or RunTracking((), folder.path, name="")
        self.device = device or torch.device("cpu")
        self.cascade = cascade.to(self.device)
        self.objective = objective.to(self.device)
        self._train, self._validation, self._decides = train, validation, decides
        self._relevance, self._settings, self._folder = relevance, settings, folder
        self._progress = progress or Silent()
        self._forward = build_forward(self.cascade, settings, self.device)
        self._optimizer = build_optimizer(
            self.cascade, self.objective, settings, batches=train.batches_per_epoch
        )
        self.length = training_length(settings, train.batches_per_epoch)
        self._scheduler = Scheduler(
            settings.schedule,
            self.cascade,
            self.objective,
            epochs=self.length.epochs,
            batches=train.batches_per_epoch,
        )
        self._timetable = self._scheduler.timetable
        self._learning_rate = LearningRate(self._optimizer, self._timetable, settings)
        self._epochs = -(-self._timetable.steps // train.batches_per_epoch)
        self._average = WeightAverage(self.cascade, settings.average)
        self._state = TrainState()
        self._best_weights: dict[str, Tensor] = {}

    def fit(self) -> TrainState:
        """Train to the end, from the checkpoint if one exists, and write the best weights.

        Returns:
            State at the end of training. The cascade has its best weights, in evaluation mode.

        Raises:
            ConfigError: if the validation requests have no labels.
            DivergedError: if the loss or a term of it is not finite.
            RunError: if both checkpoints, or the metrics up to them, are damaged, or if a file
                cannot be written.
        """
        if self._folder.resumable:
            self._resume()
        else:
            write_atomically(self._folder.metrics, b"")
            self._best_weights = _copied(self.cascade)
        settings = self._settings.model_dump_json(indent=1, exclude_none=True)
        self._tracking.begin(self._state.step, {"train": settings})
        while not self._state.stopped:
            self._train_epoch()
            self._end_epoch()
        self._scheduler.leave()
        self.cascade.eval()
        self.cascade.load_state_dict(self._best_weights)
        write_atomically(self._folder.weights, save(_copied(self.cascade, to="cpu")))
        return self._state

    def _resume(self) -> None:
        """Resume from the last checkpoint, or from the one before it if that is damaged."""
        last, previous = self._folder.checkpoint, self._folder.previous_checkpoint
        try:
            if last.exists() or not previous.exists():
                self._restore(last)
                return
        except RunError as error:
            if not previous.exists():
                raise
            reason = str(error).rpartition("; ")[0]  # without what to do if there is no other
            warnings.warn(f"{reason}; resuming from {previous.name} instead", stacklevel=3)
        self._restore(previous)
        with writing(last):
            previous.replace(last)

    def _restore(self, checkpoint: Path) -> None:
        """Restore the state of a checkpoint and cut ``metrics.jsonl`` to match it."""
        state, best_weights, random = load_checkpoint(
            checkpoint, modules=self._modules(), device=self.device
        )
        per_epoch, total = self._train.batches_per_epoch, self._timetable.steps
        expected = min(state.epoch * per_epoch + state.batch, total)
        fits = state.step == expected and state.batch < per_epoch and state.epoch <= self._epochs
        if not fits or set(state.sums) != set(state.counts):
            raise RunError(
                f"{checkpoint}: cannot resume from this checkpoint: expected a step of "
                f"{self._epochs} epochs of {per_epoch} steps each, found step {state.step}, batch "
                f"{state.batch} of epoch {state.epoch}; remove the file to train from the start"
            )
        metrics = self._folder.metrics
        written = read_file(metrics)[: state.metrics_bytes] if metrics.exists() else b""
        digest = hashlib.sha256(written).hexdigest()
        if len(written) < state.metrics_bytes or digest != (state.metrics_sha256 or digest):
            raise RunError(
                f"{metrics}: changed since {checkpoint.name} was written: expected "
                f"{state.metrics_bytes} bytes, found {len(written)}, or other ones; restore the "
                f"file from a copy, or remove {checkpoint.name} to train from the start"
            )
        self._state, self._best_weights = state, best_weights
        set_random_state(random, self.device)
        with writing(metrics), metrics.open("ab") as file:
            file.truncate(state.metrics_bytes)

    def _train_epoch(self) -> None:
        """Take the remaining steps of the current epoch."""
        state, settings = self._state, self._settings
        # The last phase may end within an epoch.
        remaining = self._timetable.steps - state.epoch * self._train.batches_per_epoch
        total = min(self._train.batches_per_epoch, remaining)
        self._progress.start(f"epoch {state.epoch + 1}/{self._epochs}", total)
        self._progress.advance(state.batch)
        self._scheduler.leave()  # validation set all stages to evaluation mode
        # Sums stay on the device, so that no step waits for it. MPS has no float64.
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        sums = {k: torch.tensor(v, dtype=exact, device=self.device) for k, v in state.sums.items()}
        for batch in self._train.epoch(state.epoch, start=state.batch):
            out = self._step(batch.to(self.device))
            for name, value in {"loss": out.total, **out.terms}.items():
                sums[name] = sums.get(name, 0) + value.detach().to(exact)
                state.counts[name] = state.counts.get(name, 0) + 1
            state.step, state.batch = state.step + 1, state.batch + 1
            checks = state.batch % _CHECK_EVERY == 0 or state.batch == total
            self._progress.advance(1, _note(self._finite_means(sums)) if checks else "")
            self._tracking.step(state.step, out)
            if state.batch == total:
                break
            if state.step % settings.checkpoint_every == 0:
                self._store(sums)
                self._save_checkpoint()
        self._store(sums)

    def _step(self, batch: RequestBatch) -> ObjectiveOutput:
        """Take one optimizer step on the stages, terms and candidates of the current phase."""
        if self._timetable.changes(self._state.step):
            self._begin_phase()
        plan = self._scheduler.enter(self._state.step)
        progress = self._state.step / self._timetable.steps
        inputs = CascadeInputs.of_batch(batch, self._forward(batch), progress=progress)
        survivors = plan.phase.candidates == "survivors"
        out = self.objective.evaluate(
            inputs,
            reached=reached(self.cascade, inputs.scores, batch.mask) if survivors else None,
            terms=plan.terms,
        )
        self._optimizer.zero_grad(set_to_none=True)
        out.total.backward()  # type: ignore[no-untyped-call]
        self._tracking.gradients(self.cascade, self._state.step)
        self._optimizer.clip(self._settings.clip_norm)
        self._learning_rate.set(self._state.step)
        self._optimizer.step()
        self._average.update()
        return out

    def _begin_phase(self) -> None:
        """Restore the best weights of the previous phase and reset the best value."""
        state = self._state
        self._average.restart()
        if state.best >= 0:
            self.cascade.load_state_dict(self._best_weights)
        state.best, state.best_epoch = -1.0, state.epoch - 1

    def _store(self, sums: dict[str, Tensor]) -> None:
        """Copy the sums into the state, after checking that they are finite."""
        self._finite_means(sums)
        self._state.sums = {name: float(value) for name, value in sums.items()}

    def _finite_means(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the means of the loss and its terms over the batches of the epoch so far.

        Raises:
            DivergedError: if a mean is not finite.
        """
        counts = self._state.counts
        means = {name: float(value) / counts[name] for name, value in sums.items()}
        diverged = {name: value for name, value in means.items() if not math.isfinite(value)}
        if diverged:
            values = ", ".join(f"{name} = {value}" for name, value in diverged.items())
            raise DivergedError(
                f"the loss is not finite at step {self._state.step} ({values}); lower "
                "train.learning_rate or train.clip_norm, or raise the temperature of the objective"
            )
        return means

    def _end_epoch(self) -> None:
        """Validate, keep the best weights, log the epoch, and decide whether training ends."""
        state, last_step = self._state, self._state.step - 1
        depth = self._scheduler.depth(last_step)
        with self._average.applied():
            validation = validation_recalls(
                self.cascade,
                self._validation,
                relevance=self._relevance,
                depth=depth,
                device=self.device,
            )
            value = validation[joint_recall_key(self.cascade, depth)]
            if self._decides is not None:
                decided = self._decides()
                value = validation["decides"] = None if math.isnan(decided) else decided
            # Without a validation value, the latest weights are kept.
            if value is None or value > state.best:
                state.best_epoch, self._best_weights = state.epoch, _copied(self.cascade)
                state.best = state.best if value is None else value
        self._log_epoch(validation)
        metric = "recall" if self._decides is None else "catalogue metric"
        self._progress.stop(
            f"loss {state.sums['loss'] / state.counts['loss']:.4f}  "
            f"validation {metric} {'undefined' if value is None else f'{value:.4f}'}"
        )
        without_improvement = state.epoch - state.best_epoch
        cycle = -(-self._timetable.cycle // self._train.batches_per_epoch)
        out_of_patience = self._timetable.is_final(last_step) and without_improvement >= max(
            self.length.patience, cycle
        )
        state.stopped = state.step >= self._timetable.steps or out_of_patience
        state.epoch, state.batch, state.sums, state.counts = state.epoch + 1, 0, {}, {}
        self._save_checkpoint()

    def _log_epoch(self, validation: dict[str, float | None]) -> None:
        """Append a line about the epoch to ``metrics.jsonl``."""
        state = self._state
        weights = self.objective.weights(state.step / self._timetable.steps)
        record = {
            "epoch": state.epoch,
            "step": state.step,
            "phase": self._timetable.phase_at(state.step - 1),
            "train": {name: value / state.counts[name] for name, value in state.sums.items()},
            "weights": {name: float(weight) for name, weight in weights.items()},
            "validation": validation,
        }
        self._tracking.epoch(record)
        line = json.dumps(record, allow_nan=False) + "\n"
        with writing(self._folder.metrics), self._folder.metrics.open("ab") as metrics:
            metrics.write(line.encode())
            metrics.flush()
            os.fsync(metrics.fileno())
        written = self._folder.metrics.read_bytes()
        state.metrics_bytes, state.metrics_sha256 = (
            len(written),
            hashlib.sha256(written).hexdigest(),
        )

    def _save_checkpoint(self) -> None:
        save_checkpoint(
            self._folder.checkpoint,
            self._state,
            modules=self._modules(),
            best_weights=self._best_weights,
            random=random_state(self.device),
            keep=self._folder.previous_checkpoint,
        )

    def _modules(self) -> dict[str, nn.Module | Optimizers]:
        """Return the objects whose state is in a checkpoint, by name."""
        return {
            "cascade": self.cascade,
            "objective": self.objective,
            "optimizer": self._optimizer,
            **self._average.modules(),
        }


def _note(means: dict[str, float]) -> str:
    """Format means for the progress bar."""
    return "  ".join(f"{name} {value:.4f}" for name, value in means.items())


def _copied(module: nn.Module, *, to: str | None = None) -> dict[str, Tensor]:
    """Return a copy of the parameters and buffers of a module, on its device or another."""
    return {
        name: value.detach().to(to or value.device, copy=True).contiguous()
        for name, value in module.state_dict().items()
    }
