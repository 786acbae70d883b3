"""The Triton kernels agree with the dense form; without a GPU they run in Triton's interpreter."""

import os
import subprocess
import sys

import pytest
import torch

from cascaderank.sorting import log_top_k_probability
from cascaderank.sorting._neural_sort import fused, top_k_of_lines
from tests.sorting.test_streamed import STREAMED, Dense, assert_same, logs_and_gradients, ragged

pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def on_kernels(monkeypatch):
    monkeypatch.setattr(top_k_of_lines, "use_kernels", lambda _: True)
    monkeypatch.setattr(top_k_of_lines, "sum_small_logits", None)  # must not be called
    monkeypatch.setattr(top_k_of_lines, "sum_streamed", None)


@pytest.fixture(params=[(32, 64), (8, 8)])
def tiles(request, monkeypatch):
    """From all of a list to a few of its rows and candidates."""
    for name, size in zip(("_ROWS", "_COLUMNS"), request.param, strict=True):
        monkeypatch.setattr(fused, name, size)


def on_device(*tensors):
    return [x.to(DEVICE) for x in tensors]


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("temperature", [1e-2, 0.3, 5.0, 50.0, 1e30])
def test_kernels_agree_with_the_dense_form(temperature, ties):
    scores, k, mask = ragged(0, ties=ties)
    temperature = torch.full((5,), temperature, dtype=torch.float64)
    case = on_device(scores, k, temperature, mask)
    want = logs_and_gradients(Dense(), *case)
    assert want[1].any()
    assert_same(logs_and_gradients(STREAMED, *case), want, 1e-12)


@pytest.mark.parametrize("temperature", [1e-6, 0.1, 10.0, 40.0])
def test_single_precision_is_as_exact_as_the_dense_form(temperature):
    scores = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    case = torch.tensor([1, 10, 39]), torch.full((3,), temperature), torch.ones(3, 40).bool()
    got = logs_and_gradients(STREAMED, *on_device(scores, *case))
    exact = logs_and_gradients(
        Dense(), *on_device(scores.double(), case[0], case[1].double(), case[2])
    )
    plain = logs_and_gradients(Dense(), *on_device(scores, *case))
    for one, other, want in zip(got, plain, exact, strict=True):
        assert one.isfinite().all()
        allowed = 4 * (other - want).abs().max() + 1e-5 * want.abs().max()
        assert (one - want).abs().max() <= allowed


@pytest.mark.parametrize("which", [0, 1])
def test_the_gradient_of_one_group_flows_through_its_own_rows(which, monkeypatch):
    monkeypatch.setattr(fused, "_ROWS", 4)
    scores = torch.randn(2, 30, generator=torch.Generator().manual_seed(0)).double()
    case = torch.tensor([7, 22]), torch.full((2,), 30.0).double(), torch.ones(2, 30).bool()

    def gradient(operator):
        leaf, k, temperature, mask = on_device(scores, *case)
        leaf.requires_grad_()
        logs = log_top_k_probability(leaf, k, operator=operator, temperature=temperature, mask=mask)
        return torch.autograd.grad((logs[which] * torch.arange(30.0, device=DEVICE)).sum(), leaf)

    assert_same(gradient(STREAMED), gradient(Dense()), 1e-12)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from cascaderank.sorting._neural_sort import fused

flags = {"_line_gradients": {"through_kept": True, "through_dropped": False}}
for name in ("_sum_rows", "_sum_columns", "_row_gradients", "_line_gradients"):
    kernel = getattr(fused, name)
    fixed = {"tile_rows": fused._ROWS, "tile_columns": fused._COLUMNS, **flags.get(name, {})}
    kinds = {"length": "i32", "count": "*i32", "k": "*i32", **dict.fromkeys(fixed, "constexpr")}
    signature = {argument: kinds.get(argument, "*fp32") for argument in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
    assert "ptx" in triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm
"""


def test_kernels_compile_without_a_gpu(tmp_path):
    """The interpreter accepts code that the compiler rejects."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_kernels_are_used_on_gpus_only():
    assert not fused.use_kernels(torch.zeros(1, 10))
