"""How stages are asked in a step of training: narrower, compiled, or as they are."""

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


def build_forward(cascade: Cascade, settings: TrainSettings, device: torch.device) -> Forward:
    """Return what :meth:`Cascade.outputs` does, as the settings want it done.

    Lists of any length, and batches of any size, share one compiled form.

    Raises:
        ConfigError: if it is to be compiled and nothing is there to compile it.
    """
    outputs: Forward = cascade.outputs
    if settings.compile:
        _check_compiler(device)
        outputs = torch.compile(outputs, dynamic=True)

    def narrow() -> AbstractContextManager[object]:
        if settings.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16)

    def forward(batch: RequestBatch) -> tuple[StageOutput, ...]:
        with narrow():
            return outputs(batch)

    return forward


def _check_compiler(device: torch.device) -> None:
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise ConfigError(
                "train.compile = true needs Triton on a GPU, which is not installed; "
                "pip install triton, or leave train.compile out"
            )
        return
    compilers = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "cl"]
    if not any(map(shutil.which, compilers)):
        raise ConfigError(
            f"train.compile = true needs a C++ compiler, and there is no {' or '.join(compilers)}; "
            "install one, name it in CXX, or leave train.compile out"
        )
