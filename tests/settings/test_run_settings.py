"""A config is validated before any work, and one error lists all its mistakes."""

import pytest

from cascaderank.errors import ConfigError
from cascaderank.settings.files import dotted, parsed_change, parts_of, with_changes
from cascaderank.settings.run import check_settings, read_settings

GOOD = """
[data]
path = "log"

[relevance]
top = 10

[stages.retrieval]
model = "linear"
quota = 30

[stages.ranking]
model = "mlp"
quota = 20
hidden = [8, 4]
"""


@pytest.fixture
def write(tmp_path):
    def file_of(text):
        path = tmp_path / "run.toml"
        path.write_text(text)
        return path

    return file_of


def test_a_good_config_is_read(write):
    settings = read_settings(write(GOOD))
    assert settings.quotas == (30, 20)
    assert settings.objective.name == "lcron"
    assert settings.stages["ranking"].options == {"hidden": [8, 4]}


def test_settings_survive_writing_and_reading(write):
    settings = read_settings(write(GOOD))
    assert read_settings(write(settings.to_toml())) == settings


def test_settings_of_a_comparison_are_no_settings_of_a_run(write):
    one, other = (read_settings(write(GOOD), [f"compare.seeds={n}"]) for n in (1, 2))
    assert one.to_toml() == other.to_toml()
    assert one.differences(other) == []
    assert one.differences(one.changed({"train.seed": 3})) == ["train.seed: 0, not 3"]


def test_a_setting_can_be_changed_by_its_dotted_name(write):
    changes = ["train.epochs=3", "stages.ranking.hidden=[2]", "objective.name=bce"]
    settings = read_settings(write(GOOD), changes)
    assert settings.train.epochs == 3
    assert settings.stages["ranking"].options == {"hidden": [2]}
    assert settings.objective.name == "bce"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("quota = 20", "quota = 40", "quotas must be positive and never grow; got [30, 40]"),
        (
            "quota = 20",
            "quota = 0",
            "stages.ranking.quota: Input should be greater than or equal to 1",
        ),
        ("quota = 20", "qouta = 20", "missing setting stages.ranking.quota"),
        ("hidden", "hiden", "stage 'mlp' has no option 'hiden' (did you mean 'hidden'?)"),
        ('"mlp"', '"mpl"', "no stage called 'mpl' (did you mean 'mlp'?)"),
        ("top = 10", "", "relevance: give top, threshold or both; got neither"),
        ("top = 10", "topp = 10", "unknown setting relevance.topp (did you mean 'top'?)"),
        ("[relevance]", "[relevence]", "unknown setting relevence (did you mean 'relevance'?)"),
        ("[data]", "[train]\nlerning_rate = 1\n[data]", "unknown setting train.lerning_rate"),
        ("[data]", "[train]\npatience = 0\n[data]", "train.patience: Input should be greater than"),
        ("[data]", "[train]\nepochs = 'all'\n[data]", "train.epochs: Input should be 'auto'"),
        ("[data]", "[train]\nepochs = 0\n[data]", "train.epochs"),
        ("[data]", "[data]\ntarget = 'funel'", "no target called 'funel' (did you mean 'funnel'?)"),
        ("[data]", "[objective]\nname = 'lcorn'\n[data]", "no objective called 'lcorn'"),
        (
            "[data]",
            "[objective]\ntemprature = 3\n[data]",
            "objective 'lcron' has no option 'temprature' (did you mean 'temperature'?)",
        ),
        (
            "[data]",
            "[objective]\nquotas = [3, 2]\n[data]",
            "objective: quotas cannot be set here; quotas are set in [stages]",
        ),
        (
            "[data]",
            "[data]\nsplit = { by = 'request', tset = 0.2 }",
            "unknown setting data.split.tset (did you mean 'test'?)",
        ),
        ("[data]", "[data]\nsplit = { by = 'row' }", "data.split"),
        ("[data]", "[data", "not a TOML file"),
    ],
)
def test_each_mistake_is_reported(write, old, new, message):
    assert old in GOOD
    path = write(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_settings(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_all_mistakes_are_reported_at_once(write):
    wrong = GOOD.replace("quota = 30", "quota = -1").replace("top = 10", "topp = 10")
    with pytest.raises(ConfigError) as caught:
        read_settings(write(wrong), ["train.epohs=1"])
    message = str(caught.value)
    assert "stages.retrieval.quota" in message
    assert "relevance.topp" in message
    assert "unknown setting train.epohs (did you mean 'epochs'?)" in message


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_settings(tmp_path / "nothing.toml")


@pytest.mark.parametrize("change", ["train.seed", "=3", ""])
def test_a_change_has_a_name_and_a_value(change):
    with pytest.raises(ConfigError, match="--set: expected name=value"):
        parsed_change(change)


def test_a_name_below_a_value_is_an_error(write):
    with pytest.raises(ConfigError, match="'path' is a value, not a table"):
        read_settings(write(GOOD), ["data.path.deeper=1"])


def test_a_target_may_be_a_relabelling(write):
    table = "data.target={ z = [0, 1, 2.5] }"
    settings = read_settings(write(GOOD), [table])
    assert settings.data.target.z == (0, 1, 2.5)
    assert read_settings(write(settings.to_toml())) == settings


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("{ z = [0, 2, 1] }", "data.target: z must be non-decreasing numbers of at least 0"),
        ('{ by = "stage", z = [0] }', "data.target.by: Input should be 'level' or 'feedback'"),
        ("{ zz = [0] }", "unknown setting data.target.zz (did you mean 'z'?)"),
        ("{ zz = [0] }", "missing setting data.target.z"),
        ("3", "data.target: "),
    ],
)
def test_an_invalid_target_is_reported(write, target, message):
    with pytest.raises(ConfigError) as caught:
        read_settings(write(GOOD), [f"data.target={target}"])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("target", "relevance", "threshold"),
    [
        ("label", {"top": 3}, 2.0**-126),
        ("feedback", {"top": 3}, 2.0**-126),
        ("label", {"top": 3, "threshold": 2.0}, 2.0),
        ("label", {"top": 3, "include_zero": True}, None),
        ("funnel", {"top": 3}, None),
    ],
)
def test_label_0_is_no_ground_truth_unless_included(target, relevance, threshold):
    settings = check_settings(
        {
            "data": {"path": "log", "target": target},
            "relevance": relevance,
            "stages": {"a": {"model": "linear", "quota": 5}},
        }
    )
    assert settings.ground_truth.threshold == threshold
    assert settings.ground_truth.top == 3


def test_mistakes_are_attributed_to_the_file_or_to_the_changes(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(
        '[data]\npath = "log"\n[relevance]\ntop = 0\n[stages.a]\nmodel = "linear"\nquota = 3\n'
    )
    with pytest.raises(ConfigError) as failure:
        read_settings(path, ["train.epocs=3"])
    of_file, of_change = str(failure.value).split("; --set: ")
    assert of_file.startswith(f"{path}: relevance.top: ")
    assert of_change == "unknown setting train.epocs (did you mean 'epochs'?)"


def test_differences_name_settings_that_are_not_set(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(
        '[data]\npath = "log"\n[relevance]\ntop = 1\n[stages.a]\nmodel = "linear"\nquota = 3\n'
    )
    plain, started = read_settings(path), read_settings(path, ["train.start=runs/a"])
    assert started.differences(plain) == ["train.start: runs/a, now not set"]
    assert plain.differences(started) == ["train.start: not set, now runs/a"]


@pytest.mark.parametrize(
    "name", ["v1.2", "a=b", 'a"b', "x/y", "[red]", " ", "\\", "ä", '"q"', "a.b=c"]
)
def test_settings_of_a_stage_of_any_name(name):
    setting = dotted("stages", name, "quota")
    assert parts_of(setting) == ["stages", name, "quota"]
    assert parsed_change(f"{setting}=3") == (setting, 3)
    values = {"stages": {name: {"quota": 5, "model": "mlp"}, "other": {}}}
    changed = with_changes(values, {setting: 3})
    assert changed == {"stages": {name: {"quota": 3, "model": "mlp"}, "other": {}}}
    assert values["stages"][name]["quota"] == 5
