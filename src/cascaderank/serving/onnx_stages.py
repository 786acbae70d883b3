"""Stages as ONNX: one file per stage, for engines other than PyTorch."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.errors import ConfigError, DataError
from cascaderank.extras import require
from cascaderank.previous import schema_with_previous
from cascaderank.schema import Feature, FittedSchema, Kind, Role
from cascaderank.serving.bundle import Bundle
from cascaderank.settings.run import RunSettings
from cascaderank.stages.boosted_trees import BoostedTrees

_BATCH, _LIST, _HISTORY, _VALUES = 2, 3, 4, 5  # of the example; any other sizes are possible


def save_onnx(
    cascade: Cascade,
    settings: RunSettings,
    schema: FittedSchema,
    folder: str | os.PathLike[str],
) -> dict[str, str]:
    """Write each stage that is a network as ONNX, ``stage0.onnx`` for the first.

    Inputs have the names of :func:`inputs_of`, the output is ``scores``, ``[batch, list]``. The
    number of requests, candidates, entries of a history and values of a feature may differ from
    call to call. Decision trees are left out: they are no graph of tensors.

    Args:
        cascade: cascade in evaluation mode, on the CPU.
        settings: settings of the run.
        schema: fitted schema of the run.
        folder: folder for the files.

    Returns:
        Name of the file by stage; stages of decision trees are missing.

    Raises:
        ConfigError: if a stage cannot be exported, or all are decision trees.
        MissingExtraError: if a package of the extra ``onnx`` is not installed.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, extra="onnx")
    files = {}
    for number, (name, stage) in enumerate(cascade.stages.items()):
        if isinstance(stage, BoostedTrees):
            continue
        of_run = settings.stages[name]
        added = schema_with_previous(FittedSchema(features=()), of_run.previous).features
        features = (*schema.select(of_run.features), *added)
        files[name] = f"stage{number}.onnx"
        try:
            _export(stage, example_batch(features), Path(folder) / files[name])
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ConfigError(
                f"--onnx: stage '{name}' ({settings.stages[name].model}) cannot be exported as "
                f"ONNX: {reason}; export without --onnx"
            ) from error
    if not files:
        raise ConfigError(
            "--onnx: expected a stage that is a network; all stages are decision trees, which are "
            "not exported as ONNX; export without --onnx"
        )
    return files


def inputs_of(batch: RequestBatch) -> dict[str, Tensor]:
    """Return the tensors of a batch by the name of their input.

    Names are ``mask``, ``items/FEATURE``, ``request/FEATURE``, ``history/FEATURE`` and
    ``history_mask/SEQUENCE``; types, shapes and padding are those of
    :class:`~cascaderank.batch.RequestBatch`.

    Args:
        batch: requests with their candidates.

    Examples:
        >>> batch = RequestBatch(mask=torch.ones(1, 2).bool(), items={"price": torch.rand(1, 2)})
        >>> list(inputs_of(batch))
        ['mask', 'items/price']
    """
    groups = {
        "items": batch.items,
        "request": batch.request,
        "history": batch.history,
        "history_mask": batch.history_mask,
    }
    found = {"mask": batch.mask}
    for group, tensors in groups.items():
        found |= {f"{group}/{name}": tensor for name, tensor in tensors.items()}
    return found


def example_batch(features: Sequence[Feature]) -> RequestBatch:
    """Return a batch of two requests with some features; all codes and numbers are zero.

    Args:
        features: features of any role.
    """
    sizes = {Role.REQUEST: (), Role.ITEM: (_LIST,), Role.HISTORY: (_HISTORY,)}
    found: dict[Role, dict[str, Tensor]] = {role: {} for role in Role}
    for feature in features:
        values = (feature.width or _VALUES,) if feature.several else ()
        dtype = torch.int64 if feature.kind is Kind.CATEGORICAL else torch.float32
        shape = (_BATCH, *sizes[feature.role], *values)
        found[feature.role][feature.name] = torch.zeros(shape, dtype=dtype)
    sequences = dict.fromkeys(f.sequence for f in features if f.role is Role.HISTORY)
    return RequestBatch(
        mask=torch.ones(_BATCH, _LIST, dtype=torch.bool),
        items=found[Role.ITEM],
        request=found[Role.REQUEST],
        history=found[Role.HISTORY],
        history_mask={n: torch.ones(_BATCH, _HISTORY, dtype=torch.bool) for n in sequences},
    )


@final
class OnnxStage(nn.Module):
    """A stage that ONNX Runtime computes, on one thread.

    Args:
        path: file that :func:`save_onnx` wrote.

    Raises:
        DataError: if ONNX Runtime cannot load the file.
        MissingExtraError: if ONNX Runtime is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        runtime: Any = require("onnxruntime", extra="onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        try:
            self._session = runtime.InferenceSession(
                os.fspath(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no public base class
            reason = str(error).strip().splitlines()[0]
            raise DataError(f"{path}: cannot be loaded by ONNX Runtime: {reason}") from error
        self._inputs = [i.name for i in self._session.get_inputs()]

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        values = inputs_of(batch)
        feed = {name: values[name].numpy() for name in self._inputs}
        return torch.from_numpy(self._session.run(None, feed)[0])


def onnx_cascade(bundle: Bundle) -> Cascade:
    """Return the cascade of a bundle with the stages that it has as ONNX computed by ONNX Runtime.

    Args:
        bundle: a loaded bundle; its stages without a file stay modules of PyTorch.

    Raises:
        DataError: if ONNX Runtime cannot load a file.
        MissingExtraError: if ONNX Runtime is not installed.
    """
    stages = dict(bundle.cascade.stages.items())
    files = {stage.name: stage.onnx for stage in bundle.manifest.stages if stage.onnx}
    stages |= {name: OnnxStage(bundle.folder / file) for name, file in files.items()}
    return Cascade(stages, bundle.cascade.quotas, previous=bundle.cascade.previous)


def _export(stage: nn.Module, batch: RequestBatch, path: Path) -> None:
    with torch.no_grad(), _without_notes():
        shapes: Any = batch.dynamic_shapes()
        exported = torch.export.export(stage, (batch,), dynamic_shapes=shapes)
        program = torch.onnx.export(
            exported,
            dynamo=True,
            verbose=False,
            input_names=list(inputs_of(batch)),
            output_names=["scores"],
        )
        if program is None:
            raise RuntimeError("PyTorch returned no program")
        program.save(path)


@contextmanager
def _without_notes() -> Iterator[None]:
    """Silence PyTorch's notes about its own parts, such as a missing torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
