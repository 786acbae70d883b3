"""Forward pass of a training step: in float32 or bfloat16, compiled or not."""

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.errors import ConfigError
from cascaderank.settings.run import TrainSettings
from cascaderank.stages import StageOutput

Forward = Callable[[RequestBatch], tuple[StageOutput, ...]]
"""Function that returns the outputs of all stages on a batch."""


def build_forward(cascade: Cascade, settings: TrainSettings, device: torch.device) -> Forward:
    """Return :meth:`Cascade.outputs` in the precision of the settings, compiled if they require it.

    The compiled function has dynamic shapes: it is not recompiled for other list lengths or batch
    sizes.

    Args:
        cascade: cascade on ``device``.
        settings: settings of training; ``precision`` and ``compile`` apply.
        device: device of the cascade.

    Raises:
        ConfigError: if ``compile`` is set and no compiler for the device is installed.
    """
    outputs: Forward = cascade.outputs
    if settings.compile:
        _check_compiler(device)
        outputs = torch.compile(outputs, dynamic=True)

    def precision() -> AbstractContextManager[object]:
        if settings.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16)

    def forward(batch: RequestBatch) -> tuple[StageOutput, ...]:
        with precision():
            return outputs(batch)

    return forward


def _check_compiler(device: torch.device) -> None:
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise ConfigError(
                "train.compile = true needs Triton on a GPU, and Triton is not installed; "
                "run: pip install triton, or leave train.compile out"
            )
        return
    compilers = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "cl"]
    if not any(map(shutil.which, compilers)):
        raise ConfigError(
            f"train.compile = true needs a C++ compiler; found no {' or '.join(compilers)}; "
            "install one, set the environment variable CXX to its name, or leave train.compile out"
        )
