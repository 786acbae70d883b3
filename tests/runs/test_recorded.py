"""Settings of runs of earlier versions keep their meaning."""

import pytest

from cascaderank.errors import RunError
from cascaderank.runs.claim import claim
from cascaderank.runs.folder import RunFolder
from cascaderank.runs.recorded import recorded_settings


def written_by_version_0_2(settings, path):
    """Write the settings as version 0.2 did, without those that it did not have."""
    lines = settings.to_toml().splitlines()
    new = ("include_zero", "decay", "warmup")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line for line in lines if not line.startswith(new)))
    return path


@pytest.fixture
def explicit(funnel, settings_for):
    def build(**changes):
        explicit = {"train__patience": 3, "train__learning_rate": 0.001, **changes}
        return settings_for(funnel, **explicit)

    return build


def test_default_temperatures_of_0_2_were_constant(explicit, tmp_path):
    old = recorded_settings(written_by_version_0_2(explicit(), tmp_path / "config.toml"))
    assert old.objective.options == {"temperature": 50.0}
    old = recorded_settings(
        written_by_version_0_2(
            explicit(objective={"name": "lcron", "relative_temperature": True}),
            tmp_path / "config.toml",
        )
    )
    assert old.objective.options == {"relative_temperature": True}


def test_label_0_was_ground_truth_in_0_2(explicit, tmp_path):
    settings = explicit(data__target="feedback")
    old = recorded_settings(written_by_version_0_2(settings, tmp_path / "config.toml"))
    assert old.ground_truth.threshold is None
    assert settings.ground_truth.threshold is not None


def test_a_run_of_0_2_resumes_if_its_settings_have_the_same_meaning(explicit, tmp_path):
    run = RunFolder(tmp_path)
    run.metrics.touch()
    run.checkpoint.touch()
    settings = explicit(objective={"name": "bce"})
    written_by_version_0_2(settings, run.config)
    claim(run, settings)
    written_by_version_0_2(explicit(), run.config)
    with pytest.raises(RunError, match=r"objective\.temperature: 50\.0, now not set"):
        claim(run, explicit())
    claim(run, explicit(objective={"name": "lcron", "temperature": 50.0}))
