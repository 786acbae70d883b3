"""Values of the published methods, computed outside this project."""

import json
import os
from pathlib import Path

import pytest
import torch

VALUE, GRADIENT = 1e-9, 1e-8
"""Absolute tolerances of values and gradients, in float64."""


class Golden:
    """One file of golden values."""

    def __init__(self, path):
        self.content = json.loads(path.read_text(encoding="utf-8"))
        self.stages, self.quotas = self.content["stages"], self.content["quotas"]
        self.ground_truth = self.content["ground_truth"]
        self.scores = self.tensor(self.content["scores"])
        self.levels = torch.tensor(self.content["levels"])

    @staticmethod
    def tensor(values):
        return torch.tensor(values, dtype=torch.float64)

    def labels(self, case):
        return self.tensor(self.content["cases"][case]["labels"])

    def expected(self, case, objective):
        """Expected values of an objective; skips the test if the file does not have them."""
        objectives = self.content["cases"][case]["objectives"]
        if objective not in objectives:
            pytest.skip(f"the published code has no '{objective}' for {case} labels here")
        return objectives[objective]

    def evaluate(self, objective, case):
        """The output of an objective, and the gradient of its total with respect to the scores."""
        scores = self.scores.clone().requires_grad_()
        out = objective(scores, self.labels(case), levels=self.levels)
        out.total.backward()
        return out, scores.grad


@pytest.fixture(scope="session", params=["two_stage", "three_stage"])
def golden(request):
    default = Path(__file__).parents[3] / "shared" / "golden"
    path = Path(os.environ.get("CASCADERANK_GOLDEN", default)) / f"{request.param}.json"
    if not path.is_file():
        pytest.skip(f"no golden values: {path} is absent; set CASCADERANK_GOLDEN")
    return Golden(path)
