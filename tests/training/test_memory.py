"""The peak is that of the measured computation, without earlier peaks."""

import pytest
import torch

from cascaderank.training import memory
from cascaderank.training.memory import PeakMemory

CPU = torch.device("cpu")
BLOCK = 2**26  # float32 values: 256 MiB


def test_work_before_is_not_counted():
    peak = PeakMemory(CPU)
    if not peak._was_reset:
        pytest.skip("only Linux can reset the peak, if the kernel permits it")
    before = peak.bytes()
    block = torch.ones(BLOCK)
    del block
    assert peak.bytes() - before > 3.5 * BLOCK
    assert PeakMemory(CPU).bytes() - before < BLOCK


def test_without_a_reset_the_whole_process_is_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "no folder" / "clear_refs")
    peak = PeakMemory(CPU)
    assert not peak._was_reset
    before = peak.bytes()
    assert before >= 2**24
    block = torch.ones(BLOCK)
    del block
    assert peak.bytes() >= before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_the_tensors_are_counted():
    peak = PeakMemory(torch.device("cuda"))
    before = peak.bytes()
    block = torch.ones(BLOCK, device="cuda")
    del block
    assert peak.bytes() - before == 4 * BLOCK
