"""``cascaderank prepare``: output as a table or JSON, and one-line errors without side effects."""

import gzip
import json
import subprocess
import sys

import polars as pl
import pytest
from typer.testing import CliRunner

from cascaderank.cli import app
from cascaderank.cli.prepare import source_options
from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import ConfigError

LETOR = "2 qid:1 1:0.5 2:3\n0 qid:1 2:1\n1 qid:2 1:1\n"
CSV = "request_id,video,price,when\n1,7,0.5,2024-05-01\n1,8,1.5,2024-05-01\n2,9,2.5,2024-05-02\n"
RUN = "q1 Q0 d1 1 2.5 x\nq1 Q0 d2 2 1.5 x\n"
QRELS = "q1 0 d1 1\n"


def prepare(*words):
    return CliRunner().invoke(app, ["prepare", *map(str, words)])


def contents(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def inputs(tmp_path):
    folder = tmp_path / "inputs"
    for name, text in {
        "letor/q.txt": LETOR,
        "trec/bm25.a.run": RUN,
        "trec/qrels.a.txt": QRELS,
        "long/rows.csv": CSV,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


LONG = ("--set", "item_features=['video', 'price']", "--set", "timestamp=when")


def test_the_table_summarises_the_data_set(inputs, tmp_path):
    done = prepare("letor", "--from", inputs / "letor", "--to", tmp_path / "log")
    assert done.exit_code == 0, done.output
    lines = {" ".join(line.split()) for line in done.stdout.splitlines()}
    assert {
        "log",
        "requests 2",
        "candidates 3; 1.5 per request, from 1 to 2",
        "item features 2 numeric",
        "label 0: 1, 1: 1, 2: 1",
        "files 1",
    } <= lines
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stderr == f"wrote the data set to {tmp_path / 'log'}\n"


def test_json_is_one_object_with_the_same_summary(inputs, tmp_path):
    done = prepare("long", "--from", inputs / "long", "--to", tmp_path / "log", *LONG, "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert done.stderr == ""
    assert summary["source"] == "long"
    assert summary["path"] == str(tmp_path / "log")
    assert (summary["requests"], summary["candidates"], summary["days"]) == (2, 3, 2)
    assert summary["features"]["item"] == {"categorical": 1, "numeric": 1}
    assert summary["notes"]["taken_as_categorical"] == ["video"]
    assert summary["time_range"] == ["2024-05-01T00:00:00+00:00", "2024-05-02T00:00:00+00:00"]
    assert summary["seconds"] >= 0


def test_several_files_and_options_reach_the_source(inputs, tmp_path):
    more = tmp_path / "more.txt.gz"
    more.write_bytes(gzip.compress(b"1 qid:3 5:1\n"))
    done = prepare(
        "letor", "--from", inputs / "letor/q.txt", "--from", more, "--to", tmp_path / "log",
        "--set", "features=6", "--set", "transform=none", "--set", "name=3",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    log = RequestLog.open(tmp_path / "log")
    assert log.manifest.requests == 3
    assert log.manifest.name == "3"
    assert [f.transform for f in log.schema.features] == ["none"] * 6


def test_runs_and_judgments_are_prepared_from_a_folder(inputs, tmp_path):
    done = prepare("trec", "--from", inputs / "trec", "--to", tmp_path / "log")
    assert done.exit_code == 0, done.output
    frame = pl.concat(RequestLog.open(tmp_path / "log").frames())
    assert frame["bm25_rr"].to_list() == [[1.0, 0.5]]
    assert "candidates unjudged" in done.stdout


def test_the_synthetic_funnel_needs_no_files(tmp_path):
    done = prepare("synthetic", "--to", tmp_path / "log", "--set", "requests=20", "--set",
                   "items=200", "--set", "users=10", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["requests"] == 20
    assert sum(summary["levels"].values()) == summary["candidates"]


def test_a_data_set_is_replaced_only_with_overwrite(inputs, tmp_path):
    words = ("letor", "--from", inputs / "letor", "--to", tmp_path / "log")
    assert prepare(*words).exit_code == 0
    before = contents(tmp_path / "log")
    done = prepare(*words, "--set", "name=second")
    assert done.exit_code == 2
    assert done.stderr == (
        f"cascaderank prepare: --to: {tmp_path / 'log'} already has a data set; choose another "
        "folder, or add --overwrite\n"
    )
    assert contents(tmp_path / "log") == before
    assert prepare(*words, "--set", "name=second", "--overwrite").exit_code == 0
    assert RequestLog.open(tmp_path / "log").manifest.name == "second"


def test_a_folder_that_is_no_data_set_is_never_replaced(inputs, tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "thesis.tex").write_text("years of work")
    done = prepare("letor", "--from", inputs, "--to", tmp_path / "log", "--overwrite")
    assert done.exit_code == 2
    assert (tmp_path / "log" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("source", "name", "text", "message"),
    [
        ("letor", "q.txt", LETOR + "1 qid:3 2:x\n", "q.txt, line 4: expected a number"),
        (
            "letor",
            "q.txt",
            LETOR + "1 qid:1 1:1\n",
            "q.txt, line 4: expected the lines of query 1 together",
        ),
        ("letor", "q.txt", LETOR + "1 qid:3 1:nan\n", "found 1 that are not, first in line 4"),
        ("letor", "q.txt", "", "q.txt"),
        ("trec", "bm25.a.run", RUN + "q1 Q0 d3 3 x x\n", "bm25.a.run, line 3: expected an int"),
        ("trec", "qrels.a.txt", "q9 0 d1 1\n", "judgments of the queries of the runs, found none"),
        ("long", "rows.csv", CSV + "2,9\n", "rows.csv, line 5: expected 4 fields"),
        ("long", "rows.csv", CSV + "2,9,1,2024-05-09\n", "'when': expected one value per request"),
        ("long", "rows.csv", CSV + "3,9,1,soon\n", "expected ISO 8601 such as"),
        ("long", "rows.csv", CSV + "3,9,,2024-05-09\n", "null values: price (1 of 4)"),
        ("long", "rows.csv", CSV + ",9,1,2024-05-09\n", "(request_id) is empty in 1 of 4 rows"),
    ],
)
def test_invalid_files_are_reported_in_one_line_and_nothing_is_changed(
    inputs, tmp_path, source, name, text, message
):
    options = LONG if source == "long" else ()
    words = (source, "--from", inputs / source, "--to", tmp_path / "out/log", "--overwrite")
    (tmp_path / "out").mkdir()
    assert prepare(*words, *options).exit_code == 0
    before = contents(tmp_path / "out")
    (inputs / source / name).write_text(text)
    done = prepare(*words, *options)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("cascaderank prepare: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert contents(tmp_path / "out") == before
    assert RequestLog.open(tmp_path / "out/log").manifest.requests >= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["leotr"],
            "no source called 'leotr' (did you mean 'letor'?); there are ",
        ),
        (["letor", "--set", "feature=3"], "no option 'feature' (did you mean 'features'?)"),
        (["letor", "--set", "features=many"], "features='many'"),
        (["letor", "--set", "features=[1]"], "features=[1]"),
        (["letor", "--set", "missing=perhaps"], "missing='perhaps'"),
        (["letor", "--set", "transform=cube"], "'standardise'"),
        (["letor", "--set", "features"], "--set: expected name=value"),
        (["letor", "--set", "=3"], "--set: expected name=value"),
        (["letor", "--set", "overwrite=true"], "no option 'overwrite'"),
        (["letor", "--set", "progress=1"], "no option 'progress'"),
        (["trec", "--set", "order=docid"], "'score' or 'rank'"),
        (["long", "--set", "buckets={video='many'}"], "buckets={'video': 'many'}"),
    ],
)
def test_invalid_arguments_are_reported_before_any_work(inputs, tmp_path, words, message):
    done = prepare(*words, "--from", tmp_path / "absent", "--to", tmp_path / "log")
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("cascaderank prepare: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "log").exists()


def test_all_invalid_options_are_reported_at_once():
    with pytest.raises(ConfigError) as error:
        source_options("letor", ["featurs=3", "missing=7", "name"])
    assert all(word in str(error.value) for word in ("featurs", "missing=7", "name=value"))


def test_a_dry_run_prints_options_that_prepare_the_log_and_writes_nothing(inputs, tmp_path):
    words = ("long", "--from", inputs / "long", "--set", "timestamp=when")
    before = contents(tmp_path)
    done = prepare(*words, "--dry-run")
    assert done.exit_code == 0, done.output
    assert (done.stderr, contents(tmp_path)) == ("", before)
    (tmp_path / "options.toml").write_text(done.stdout)
    done = prepare("long", "--from", inputs / "long", "--to", tmp_path / "log", "--options",
                   tmp_path / "options.toml", "--set", "name=renamed")  # fmt: skip
    assert done.exit_code == 0, done.output
    log = RequestLog.open(tmp_path / "log")
    assert log.schema.names == ("video", "price")
    assert log.manifest.name == "renamed"
    facts = json.loads(prepare(*words, "--dry-run", "--json").stdout)
    assert facts["options"]["timestamp"] == "when"
    assert [c["name"] for c in facts["columns"]] == ["request_id", "video", "price", "when"]


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("request = 'x'", [], "options.toml: source 'long' has no option 'request' (did you mean"),
        ("overwrite = true", [], "options.toml: source 'long' has no option 'overwrite'"),
        ("request_id = x", [], "options.toml: expected TOML: Invalid value (at line 1"),
        ("level_names = 'a'", [], "options.toml: source 'long': level_names='a'"),
        (None, [], "options.toml: cannot be read: No such file"),
        ("", ["--to"], "--to: expected the folder of the data set to write, found none"),
    ],
)
def test_mistakes_in_a_file_of_options_are_reported(inputs, tmp_path, text, words, message):
    path = tmp_path / "options.toml"
    if text is not None:
        path.write_text(text)
    target = () if words == ["--to"] else ("--to", tmp_path / "log")
    done = prepare("long", "--from", inputs / "long", "--options", path, *target)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_source_without_anything_to_infer_has_no_dry_run(inputs):
    done = prepare("letor", "--from", inputs / "letor", "--dry-run")
    assert done.exit_code == 2
    assert "source 'letor' infers no options from files; expected long" in done.stderr


def test_files_of_an_unquoted_glob_are_read_in_order(inputs, tmp_path):
    files = [inputs / f"letor/{name}.txt" for name in "abc"]
    for i, file in enumerate(files):
        file.write_text(f"1 qid:{i} 1:1\n")
    done = prepare("letor", "--from", *files, "--to", tmp_path / "log")
    assert done.exit_code == 0, done.output
    frame = pl.concat(RequestLog.open(tmp_path / "log").frames())
    assert frame["request_id"].to_list() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("label=is_click", "is_click"),
        ("label='is_click'", "is_click"),
        ("label=7", "7"),
        ("label = a=b ", "a=b"),
        ("item_features=['a', \"b\"]", ("a", "b")),
        ("buckets={a=3, b.c=4}", None),
        ("buckets={a=3}", {"a": 3}),
        ("level_names=[]", ()),
        ("rows_at_once=1_000", 1000),
        ("label=a\nlevel = 3", "a\nlevel = 3"),
    ],
)
def test_values_are_toml_or_plain_text(text, value):
    name = text.partition("=")[0].strip()
    if value is None:
        with pytest.raises(ConfigError):
            source_options("long", [text])
    else:
        assert source_options("long", [text]) == {name: value}


def test_missing_files_are_reported(tmp_path):
    done = prepare("letor", "--from", tmp_path / "absent.txt", "--to", tmp_path / "log")
    assert done.exit_code == 2
    assert "absent.txt: expected LETOR files, found no such file or folder" in done.stderr
    done = prepare("trec", "--to", tmp_path / "log")
    assert done.exit_code == 2
    assert "found no file or folder; give one with --from" in done.stderr


def test_importing_the_command_loads_nothing_heavy():
    code = (
        "import sys, cascaderank.cli.prepare\n"
        "print([m for m in ('torch', 'polars', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.data
@pytest.mark.parametrize(
    ("source", "folder", "requests", "candidates"),
    [("letor", "clueweb09_ltr", 61, 26_646), ("trec", "trec_dl", 97, 27_359)],
)
def test_real_data_are_prepared_by_one_command(
    data_folder, tmp_path, source, folder, requests, candidates
):
    if not (data_folder / folder).is_dir():
        pytest.skip(f"no {folder}")
    done = prepare(source, "--from", data_folder / folder, "--to", tmp_path / "log", "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["requests"], summary["candidates"]) == (requests, candidates)
