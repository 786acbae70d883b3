"""The training loop: plain PyTorch, checkpointed, and the same bits after a kill."""

import json
import math
from collections.abc import Callable
from typing import Any, final

import torch
from safetensors.torch import save
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import ConfigError, DivergedError
from cascaderank.metrics.cascade_recall import cascade_recall_metric
from cascaderank.metrics.recall import recall_metric
from cascaderank.objectives import CascadeInputs, Objective, ObjectiveOutput
from cascaderank.progress import Progress, Silent
from cascaderank.runs.folder import RunFolder, write_atomically
from cascaderank.runs.seeding import random_state, set_random_state
from cascaderank.settings.run import RelevanceSettings, TrainSettings
from cascaderank.training.checkpoint import TrainState, load_checkpoint, save_checkpoint
from cascaderank.training.forward import build_forward
from cascaderank.training.optimizer import Optimizers, build_optimizer
from cascaderank.training.scheduler import Scheduler, reached

_LOOK_EVERY = 10  # steps between looks at the loss: each look makes a GPU wait


@final
class Trainer:
    """Minimise an objective over a cascade, and keep the weights that validate best.

    An epoch ends with the joint recall of the validation requests. Training stops after
    ``settings.epochs``, or when ``settings.patience`` epochs brought nothing better. Where a
    schedule has phases (see ``docs/schedules.md``), each hands its best weights to the next,
    judged by the stages that have learned so far; patience is for the last phase, and where
    phases repeat, it is a cycle at least. A checkpoint
    is written every ``settings.checkpoint_every`` steps and after each epoch; :meth:`fit` on a
    folder that has one goes on from there and ends with the bits it would have ended with.

    Args:
        cascade: what is trained; moved to ``device``.
        objective: what is minimised; its own parameters are trained too.
        train: loader of the training requests.
        validation: loader of the validation requests.
        relevance: what counts as ground truth.
        decides: what is called at the end of an epoch and tells how good the weights are, higher
            is better; joint recall of the validation requests does if not given.
        settings: how long and how fast.
        folder: where checkpoints, metrics and weights go.
        device: where to compute.
        progress: hears how far it is.

    Raises:
        ConfigError: if stages are to be compiled and there is no compiler.

    Examples:
        See ``docs/start.md``; ``cascaderank train`` does all of it.
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
    ) -> None:
        self.device = device or torch.device("cpu")
        self.cascade = cascade.to(self.device)
        self.objective = objective.to(self.device)
        self._train, self._validation, self._decides = train, validation, decides
        self._relevance, self._settings, self._folder = relevance, settings, folder
        self._progress = progress or Silent()
        self._forward = build_forward(self.cascade, settings, self.device)
        self._optimizer = build_optimizer(self.cascade, self.objective, settings)
        self._scheduler = Scheduler(
            settings.schedule,
            self.cascade,
            self.objective,
            epochs=settings.epochs,
            batches=train.batches_per_epoch,
        )
        self._table = self._scheduler.timetable
        self._epochs = -(-self._table.steps // train.batches_per_epoch)
        self._state = TrainState()
        self._best_weights: dict[str, Tensor] = {}

    def fit(self) -> TrainState:
        """Train to the end, from the checkpoint if there is one, and write the best weights.

        Returns:
            How it ended.

        Raises:
            DivergedError: if the loss is no longer a number.
            RunError: if the checkpoint is damaged.
        """
        if self._folder.checkpoint.exists():
            self._resume()
        else:
            self._folder.metrics.write_bytes(b"")
            self._best_weights = _copied(self.cascade)
        while not self._state.stopped:
            self._epoch()
        self._scheduler.leave()
        self.cascade.eval()
        self.cascade.load_state_dict(self._best_weights)
        write_atomically(self._folder.weights, save(_copied(self.cascade, to="cpu")))
        return self._state

    def _epoch(self) -> None:
        state, settings = self._state, self._settings
        # The last phase may end within an epoch.
        left = self._table.steps - state.epoch * self._train.batches_per_epoch
        total = min(self._train.batches_per_epoch, left)
        self._progress.start(f"epoch {state.epoch + 1}/{self._epochs}", total)
        self._progress.advance(state.batch)
        self._scheduler.leave()
        # Sums stay on the device, so that no step waits for it. MPS has no float64.
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        sums = {k: torch.tensor(v, dtype=exact, device=self.device) for k, v in state.sums.items()}
        for batch in self._train.epoch(state.epoch, start=state.batch):
            out = self._step(batch.to(self.device))
            for name, value in {"loss": out.total, **out.terms}.items():
                sums[name] = sums.get(name, 0) + value.detach().to(exact)
                state.counts[name] = state.counts.get(name, 0) + 1
            state.step, state.batch = state.step + 1, state.batch + 1
            look = state.batch % _LOOK_EVERY == 0 or state.batch == total
            self._progress.advance(1, self._seen(sums) if look else "")
            if state.batch == total:
                break
            if state.step % settings.checkpoint_every == 0:
                self._take_stock(sums)
                self._save()
        self._take_stock(sums)
        self._close_epoch()

    def _step(self, batch: RequestBatch) -> ObjectiveOutput:
        """Take one step, as the phase that it is in has it."""
        if self._table.changes(self._state.step):
            self._hand_on()
        plan = self._scheduler.enter(self._state.step)
        progress = self._state.step / self._table.steps
        inputs = CascadeInputs.of_batch(batch, self._forward(batch), progress=progress)
        survivors = plan.phase.candidates == "survivors"
        out = self.objective.evaluate(
            inputs,
            reached=reached(self.cascade, inputs.scores, batch.mask) if survivors else None,
            terms=plan.terms,
        )
        self._optimizer.zero_grad(set_to_none=True)
        out.total.backward()  # type: ignore[no-untyped-call]
        self._optimizer.clip(self._settings.clip_norm)
        self._optimizer.step()
        return out

    def _hand_on(self) -> None:
        """Begin a phase with the best weights of the one before it."""
        state = self._state
        if state.best >= 0:
            self.cascade.load_state_dict(self._best_weights)
        state.best, state.best_epoch = -1.0, state.epoch - 1

    def _take_stock(self, sums: dict[str, Tensor]) -> None:
        """Move the sums into the state, having seen that they are numbers worth keeping."""
        self._seen(sums)
        self._state.sums = {name: float(value) for name, value in sums.items()}

    def _seen(self, sums: dict[str, Tensor]) -> str:
        """Means of the epoch so far, as a note; raises when they are not numbers."""
        counts = self._state.counts
        means = {name: float(value) / counts[name] for name, value in sums.items()}
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise DivergedError(
                f"{', '.join(broken)} is no longer a number at step {self._state.step}; "
                "lower train.learning_rate or train.clip_norm, or raise the temperature"
            )
        return "  ".join(f"{name} {value:.4f}" for name, value in means.items())

    def _close_epoch(self) -> None:
        """Validate, note what was seen, keep the best weights, and decide whether to go on."""
        state, settings, last = self._state, self._settings, self._state.step - 1
        depth = self._scheduler.depth(last)
        validation = self._validate(depth)
        progress = state.step / self._table.steps
        record = {
            "epoch": state.epoch,
            "step": state.step,
            "phase": self._table.phase_at(last),
            "train": {name: value / state.counts[name] for name, value in state.sums.items()},
            "weights": {n: float(w) for n, w in self.objective.weights(progress).items()},
            "validation": validation,
        }
        recall = validation[_joint(self.cascade, depth)]
        if self._decides is not None:
            found = self._decides()
            recall = validation["decides"] = None if math.isnan(found) else found
        if recall is not None and recall > state.best:
            state.best, state.best_epoch = recall, state.epoch
            self._best_weights = _copied(self.cascade)
        self._progress.stop(
            f"loss {record['train']['loss']:.4f}  validation "  # type: ignore[index]
            f"{'recall' if self._decides is None else 'search'} "
            f"{'undefined' if recall is None else f'{recall:.4f}'}"
        )
        line = json.dumps(record, allow_nan=False) + "\n"
        with self._folder.metrics.open("ab") as metrics:
            metrics.write(line.encode())
        state.metrics_bytes = self._folder.metrics.stat().st_size
        state.epoch, state.batch, state.sums, state.counts = state.epoch + 1, 0, {}, {}
        # With nothing to validate by, the last weights are as good a choice as any.
        if recall is None:
            state.best_epoch, self._best_weights = state.epoch - 1, _copied(self.cascade)
        waited = state.epoch - 1 - state.best_epoch
        cycle = -(-self._table.cycle // self._train.batches_per_epoch)
        impatient = self._table.is_final(last) and waited >= max(settings.patience, cycle)
        state.stopped = state.step >= self._table.steps or impatient
        self._save()

    @torch.no_grad()
    def _validate(self, depth: int) -> dict[str, float | None]:
        """Mean joint recall, that after ``depth`` stages, and of each stage over whole lists."""
        self.cascade.eval()
        values: dict[str, list[Tensor]] = {}
        k, threshold = self._relevance.top, self._relevance.threshold
        quotas = self.cascade.quotas
        for batch in self._validation.epoch(0):
            if batch.labels is None:
                raise ConfigError("validation needs labels; the loader gave a batch without")
            scores = self.cascade(batch.to(self.device)).cpu()
            ask: dict[str, Any] = {"k": k, "threshold": threshold, "mask": batch.mask}
            for d in sorted({depth, len(quotas)}):
                recall = cascade_recall_metric(scores[:d], batch.labels, quotas=quotas[:d], **ask)
                values.setdefault(_joint(self.cascade, d), []).append(recall)
            for name, of_stage, quota in zip(self.cascade.stage_names, scores, quotas, strict=True):
                recall = recall_metric(of_stage, batch.labels, m=quota, **ask)
                values.setdefault(f"recall/{name}", []).append(recall)
        return {name: _mean(torch.cat(parts)) for name, parts in values.items()}

    def _modules(self) -> dict[str, nn.Module | Optimizers]:
        return {
            "cascade": self.cascade,
            "objective": self.objective,
            "optimizer": self._optimizer,
        }

    def _save(self) -> None:
        save_checkpoint(
            self._folder.checkpoint,
            self._state,
            modules=self._modules(),
            best_weights=self._best_weights,
            random=random_state(self.device),
        )

    def _resume(self) -> None:
        self._state, self._best_weights, random = load_checkpoint(
            self._folder.checkpoint, modules=self._modules(), device=self.device
        )
        set_random_state(random, self.device)
        with self._folder.metrics.open("ab") as metrics:
            metrics.truncate(self._state.metrics_bytes)


def _copied(module: nn.Module, *, to: str | None = None) -> dict[str, Tensor]:
    return {
        name: value.detach().to(to or value.device, copy=True).contiguous()
        for name, value in module.state_dict().items()
    }


def _joint(cascade: Cascade, depth: int) -> str:
    """What the recall of the first stages together is called."""
    whole = depth == len(cascade.quotas)
    return "joint_recall" if whole else f"joint_recall/{cascade.stage_names[depth - 1]}"


def _mean(values: Tensor) -> float | None:
    mean = float(values.double().nanmean())
    return None if math.isnan(mean) else mean
