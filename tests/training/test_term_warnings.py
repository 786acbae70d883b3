"""A run names the terms of its objective that trained nothing."""

import json

import pytest

from cascaderank.training.term_warnings import term_warnings
from cascaderank.training.train_run import train_run


@pytest.mark.parametrize(
    ("epochs", "told"),
    [
        ([{"loss": 0.0, "a": 0.0, "b": 0.0}], "the terms 'a', 'b' of the objective were 0 in 1 ep"),
        (
            [{"loss": 1.0, "a": 1.0, "b": 0.0}] * 3,
            "the term 'b' of the objective was 0 in 3 epochs",
        ),
        ([{"loss": 1.0, "a": 0.0}, {"loss": 1.0, "a": 1e-30}], None),
        ([{"loss": 0.0}], None),
        ([], None),
    ],
)
def test_terms_that_are_0_in_all_epochs_are_named(tmp_path, epochs, told):
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps({"train": epoch}) + "\n" for epoch in epochs))
    warnings = term_warnings(file)
    assert len(warnings) == (told is not None)
    assert told is None or told in warnings[0]


@pytest.mark.parametrize(("cuts", "warned"), [([5000], True), ([10, 5000], False)])
def test_cuts_that_no_list_has_are_pointed_out(funnel, settings_for, tmp_path, cuts, warned):
    objective = {"name": "cut_likelihood", "cuts": cuts, "coupling": 0.0}
    result = train_run(settings_for(funnel, objective=objective, train__epochs=1), tmp_path / "run")
    told = [w for w in result.warnings if "trained nothing" in w]
    assert len(told) == warned
    assert all("'cuts/retrieval', 'cuts/ranking'" in warning for warning in told)
