"""The training loop: plain PyTorch, checkpointed, and the same bits after a kill."""

import json
import math
from typing import final

import torch
from safetensors.torch import save
from torch import Tensor, nn

from cascaderank.cascade import Cascade
from cascaderank.config import RelevanceSettings, TrainSettings
from cascaderank.data.loader import RequestLoader
from cascaderank.errors import ConfigError, RunError
from cascaderank.metrics.cascade_recall import cascade_recall_metric
from cascaderank.metrics.recall import recall_metric
from cascaderank.objectives import Objective
from cascaderank.training.checkpoint import TrainState, load_checkpoint, save_checkpoint
from cascaderank.training.optimizer import Optimizers, build_optimizer
from cascaderank.training.progress import Progress, Silent
from cascaderank.training.run_folder import RunFolder, write_atomically
from cascaderank.training.seeding import random_state, set_random_state

_LOOK_EVERY = 10  # steps between looks at the loss: each look makes a GPU wait


@final
class Trainer:
    """Minimise an objective over a cascade, and keep the weights that validate best.

    An epoch ends with the joint recall of the validation requests. Training stops after
    ``settings.epochs``, or when ``settings.patience`` epochs brought nothing better. A checkpoint
    is written every ``settings.checkpoint_every`` steps and after each epoch; :meth:`fit` on a
    folder that has one goes on from there and ends with the bits it would have ended with.

    Args:
        cascade: what is trained; moved to ``device``.
        objective: what is minimised; its own parameters are trained too.
        train: loader of the training requests.
        validation: loader of the validation requests.
        relevance: what counts as ground truth.
        settings: how long and how fast.
        folder: where checkpoints, metrics and weights go.
        device: where to compute.
        progress: hears how far it is.

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
        settings: TrainSettings,
        folder: RunFolder,
        device: torch.device | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.cascade = cascade.to(self.device)
        self.objective = objective.to(self.device)
        self._train, self._validation = train, validation
        self._relevance, self._settings, self._folder = relevance, settings, folder
        self._progress = progress or Silent()
        self._optimizer = build_optimizer(self.cascade, self.objective, settings)
        self._state = TrainState()
        self._best_weights: dict[str, Tensor] = {}

    def fit(self) -> TrainState:
        """Train to the end, from the checkpoint if there is one, and write the best weights.

        Returns:
            How it ended.

        Raises:
            RunError: if the loss is no longer a number, or the checkpoint is damaged.
        """
        if self._folder.checkpoint.exists():
            self._resume()
        else:
            self._folder.metrics.write_bytes(b"")
            self._best_weights = _copied(self.cascade)
        while not self._state.stopped:
            self._epoch()
        self.cascade.load_state_dict(self._best_weights)
        write_atomically(self._folder.weights, save(_copied(self.cascade, to="cpu")))
        return self._state

    def _epoch(self) -> None:
        state, settings = self._state, self._settings
        total = self._train.batches_per_epoch
        self._progress.start(f"epoch {state.epoch + 1}/{settings.epochs}", total)
        self._progress.advance(state.batch)
        self.cascade.train()
        # Sums stay on the device, so that no step waits for it. MPS has no float64.
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        sums = {k: torch.tensor(v, dtype=exact, device=self.device) for k, v in state.sums.items()}
        for batch in self._train.epoch(state.epoch, start=state.batch):
            batch = batch.to(self.device)  # noqa: PLW2901 - the same batch elsewhere
            if batch.labels is None:
                raise ConfigError("training needs labels; the loader gave a batch without")
            out = self.objective(
                self.cascade(batch), batch.labels, mask=batch.mask, levels=batch.levels
            )
            self._optimizer.zero_grad(set_to_none=True)
            out.total.backward()
            self._optimizer.clip(settings.clip_norm)
            self._optimizer.step()
            for name, value in {"loss": out.total, **out.terms}.items():
                sums[name] = sums.get(name, 0) + value.detach().to(exact)
            state.step, state.batch = state.step + 1, state.batch + 1
            look = state.batch % _LOOK_EVERY == 0 or state.batch == total
            self._progress.advance(1, self._seen(sums) if look else "")
            if state.batch < total and state.step % settings.checkpoint_every == 0:
                self._take_stock(sums)
                self._save()
        self._take_stock(sums)
        self._close_epoch()

    def _take_stock(self, sums: dict[str, Tensor]) -> None:
        """Move the sums into the state, having seen that they are numbers worth keeping."""
        self._seen(sums)
        self._state.sums = {name: float(value) for name, value in sums.items()}

    def _seen(self, sums: dict[str, Tensor]) -> str:
        """Means of the epoch so far, as a note; raises when they are not numbers."""
        means = {name: float(value) / self._state.batch for name, value in sums.items()}
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise RunError(
                f"{', '.join(broken)} is no longer a number at step {self._state.step}; "
                "lower train.learning_rate or train.clip_norm, or raise the temperature"
            )
        return "  ".join(f"{name} {value:.4f}" for name, value in means.items())

    def _close_epoch(self) -> None:
        """Validate, note what was seen, keep the best weights, and decide whether to go on."""
        state, settings = self._state, self._settings
        validation = self._validate()
        record = {
            "epoch": state.epoch,
            "step": state.step,
            "train": {name: value / state.batch for name, value in state.sums.items()},
            "weights": {n: float(w) for n, w in self.objective.weights().items()},
            "validation": validation,
        }
        recall = validation["joint_recall"]
        if recall is not None and recall > state.best:
            state.best, state.best_epoch = recall, state.epoch
            self._best_weights = _copied(self.cascade)
        self._progress.stop(
            f"loss {record['train']['loss']:.4f}  validation recall "  # type: ignore[index]
            f"{'undefined' if recall is None else f'{recall:.4f}'}"
        )
        line = json.dumps(record, allow_nan=False) + "\n"
        with self._folder.metrics.open("ab") as metrics:
            metrics.write(line.encode())
        state.metrics_bytes = self._folder.metrics.stat().st_size
        state.epoch, state.batch, state.sums = state.epoch + 1, 0, {}
        # With nothing to validate by, the last weights are as good a choice as any.
        if recall is None:
            state.best_epoch, self._best_weights = state.epoch - 1, _copied(self.cascade)
        waited = state.epoch - 1 - state.best_epoch
        state.stopped = state.epoch >= settings.epochs or waited >= settings.patience
        self._save()

    @torch.no_grad()
    def _validate(self) -> dict[str, float | None]:
        """Mean joint recall, and the recall of each stage over whole lists."""
        self.cascade.eval()
        values: dict[str, list[Tensor]] = {}
        k, threshold = self._relevance.top, self._relevance.threshold
        quotas = self.cascade.quotas
        for batch in self._validation.epoch(0):
            if batch.labels is None:
                raise ConfigError("validation needs labels; the loader gave a batch without")
            scores = self.cascade(batch.to(self.device)).cpu()
            ask = {"k": k, "threshold": threshold, "mask": batch.mask}
            values.setdefault("joint_recall", []).append(
                cascade_recall_metric(scores, batch.labels, quotas=quotas, **ask)
            )
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


def _mean(values: Tensor) -> float | None:
    mean = float(values.double().nanmean())
    return None if math.isnan(mean) else mean
