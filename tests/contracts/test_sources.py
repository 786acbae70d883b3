"""Contract of every source; a new source needs an entry in MAKERS that writes a small input."""

import inspect
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.data.log.validation import CANDIDATE_COLUMNS, FrameCheck
from cascaderank.data.sources import NOT_OPTIONS, SOURCES
from cascaderank.errors import CascadeRankError, ConfigError, DataError
from cascaderank.schema import Role
from tests.data.sources.recflow_files import history, row, write_day
from tests.data.sources.short_videos import MIDNIGHT, rand_videos, users, write_rand, write_rec


@dataclass
class Input:
    """A small valid input of a source and the request log that it must become."""

    candidates: dict[object, int]
    """Number of candidates by request id."""
    files: list[Path] = field(default_factory=list)
    """Files that the source must be able to read; empty if the source reads none."""
    options: dict[str, object] = field(default_factory=dict)
    items: tuple[str, dict[object, set[object]]] | None = None
    """Feature that holds the item id and its values by request id, if items have ids."""

    def __post_init__(self):
        self.from_ = () if not self.files else self.files[0].parent


def letor_input(folder):
    path = folder / "queries.txt"
    path.write_text("2 qid:7 1:0.5 2:1\n0 qid:7 2:3 # a comment\n1 qid:8 1:1\n")
    return Input({"7": 2, "8": 1}, [path])


def trec_input(folder):
    run, qrels = folder / "bm25.run", folder / "qrels.txt"
    run.write_text("q1 Q0 d2 1 9.5 x\nq1 Q0 d1 2 8.0 x\nq2 Q0 d9 1 3.5 x\n")
    qrels.write_text("q1 0 d1 2\nq2 0 d9 1\n")
    return Input({"q1": 2, "q2": 1}, [run, qrels])


def long_input(folder):
    path = folder / "rows.csv"
    path.write_text("request_id,video,label\na,7,0\nb,7,1\na,9,1\n")
    items = {"a": {7, 9}, "b": {7}}
    return Input({"a": 2, "b": 1}, [path], {"item_features": ("video",)}, ("video", items))


def recflow_input(folder):
    items = {1: {11, 12, 13}, 2: {11, 14}}
    rows = [
        row(request, video, "rank_pos" if video % 2 else "rank_neg", i)
        for request, videos in items.items()
        for i, video in enumerate(sorted(videos))
    ]
    day, seen = "2024-01-13", history([(5, 6, 1, 2, 0, 1_700_000_000_000)])
    write_day(folder, day, rows, dict.fromkeys(items, seen))
    files = [folder / "all_stage" / f"{day}.feather", folder / f"seq_effective_50_dict/{day}.pkl"]
    found = Input({1: 3, 2: 2}, files, items=("video", items))
    found.from_ = folder
    return found


def kuairand_input(folder):
    shown = {1: [3, 4, 5], 2: [3]}
    exposures = pl.DataFrame(
        [
            {
                "user_id": user,
                "video_id": video,
                "time_ms": MIDNIGHT + 1000 * video,
                "is_click": 1,
                "is_like": 0,
                "long_view": 1,
                "play_time_ms": 5000,
                "duration_ms": 4000,
            }
            for user, videos in shown.items()
            for video in videos
        ]
    )
    write_rand(folder, exposures, videos=rand_videos(), people=users([1, 2]))
    items = {f"{user}-20220425": set(videos) for user, videos in shown.items()}
    candidates = {request: len(videos) for request, videos in items.items()}
    return Input(candidates, sorted(folder.iterdir()), items=("video_id", items))


def kuairec_input(folder):
    write_rec(folder, user_ids=(0, 5, 7), video_ids=tuple(range(6)))
    (folder / "big_matrix.csv").unlink()
    items = {str(user): {1, 2, 3, 4, 5} for user in (5, 7)}
    return Input(
        dict.fromkeys(items, 5),
        sorted(folder.iterdir()),
        {"matrix": "small"},
        ("video_id", items),
    )


def synthetic_input(folder):
    options = {"requests": 6, "users": 4, "items": 100}
    return Input(dict.fromkeys(range(6), 40), options=options)


MAKERS = {
    "kuairand": kuairand_input,
    "kuairec": kuairec_input,
    "letor": letor_input,
    "long": long_input,
    "recflow": recflow_input,
    "synthetic": synthetic_input,
    "trec": trec_input,
}
"""By source: a function that writes a small valid input into a folder and describes it."""

BAD_VALUES = {
    "buckets": {"nothing": 3},
    "categorical": ("nothing",),
    "history_features": ("nothing",),
    "item_features": ("nothing",),
    "feedback": "nothing",
    "request_weight": "nothing",
    "candidate_weight": "nothing",
    "item_key": "nothing",
    "label": "nothing",
    "level": "nothing",
    "min_count": {"nothing": 3},
    "missing": ("nothing",),
    "numeric": ("nothing",),
    "position": "nothing",
    "quotas": (0, 0),
    "request_features": ("nothing",),
    "request_id": "nothing",
    "schema": Path("nothing"),
    "separator": "",
    "time_range": ("2100-01-01", "1971-01-01"),
    "time_zone": "Mars/Phobos",
    "timestamp": "nothing",
    "timestamp_format": "nothing",
    "vocabulary": {"nothing": "video"},
}
"""By option: a value of the right type that no source accepts."""

ANY_VALUE = {"name", "level_names", ("recflow", "seed")}
"""Options, of all sources or of one, for which every value of the declared type is valid."""


class Source:
    """A source with its input, written to ``target``."""

    def __init__(self, name, folder):
        assert name in MAKERS, (
            f"source '{name}' has no input to test it with; add a function to MAKERS in "
            "tests/contracts/test_sources.py"
        )
        self.name = name
        (folder / "input").mkdir()
        self.input = MAKERS[name](folder / "input")
        self.target = folder / "output" / "log"

    def __call__(self, from_=None, to=None, **options):
        from_ = self.input.from_ if from_ is None else from_
        to = to or self.target
        SOURCES[self.name](from_, to, **{**self.input.options, **options})
        return RequestLog.open(to)

    def target_files(self):
        """Bytes of all files in and beside the target, by path."""
        beside = self.target.parent
        return {
            str(p.relative_to(beside)): p.read_bytes() for p in beside.rglob("*") if p.is_file()
        }


@pytest.fixture(params=list(SOURCES))
def source(request, tmp_path):
    return Source(request.param, tmp_path)


def options_of(name):
    return [option for option in SOURCES.options(name) if option not in NOT_OPTIONS]


EVERY_OPTION = [(name, option) for name in SOURCES for option in options_of(name)]


def members(annotation):
    """Members of a union type, or the type itself."""
    if get_origin(annotation) in (Union, UnionType):
        return [m for a in get_args(annotation) for m in members(a)]
    return [annotation]


def bad_value(name, option):
    """A value that the option refuses; the type is right unless its values can be listed."""
    types = members(get_type_hints(SOURCES[name])[option])
    if bool in types or {option, (name, option)} & ANY_VALUE:
        return None
    if {int, float} & set(types):
        return -1
    if option in BAD_VALUES:
        return BAD_VALUES[option]
    if any(get_origin(t) is Literal or (inspect.isclass(t) and issubclass(t, Enum)) for t in types):
        return "nothing"
    pytest.fail(
        f"no value that option '{option}' of source '{name}' must refuse; add one to BAD_VALUES, "
        "or the option to ANY_VALUE, in tests/contracts/test_sources.py"
    )


def test_every_maker_belongs_to_a_source():
    assert set(MAKERS) <= set(SOURCES)


def test_the_log_opens_and_its_frames_are_valid(source):
    log = source()
    check = FrameCheck(log.schema, log.manifest.level_names)
    frames = [check(frame) for frame in log.frames()]
    assert sum(frame.height for frame in frames) == log.manifest.requests
    assert check.columns == log.manifest.columns
    assert log.manifest.name == source.target.name
    assert isinstance(log.manifest.extra["notes"], dict)


def test_request_ids_item_ids_and_counts_are_kept(source):
    log = source()
    frame = pl.concat(log.frames())
    counted = next(c for c in frame.columns if is_of_items(log, c))
    lengths = frame[counted].list.len().to_list()
    assert dict(zip(frame["request_id"], lengths, strict=True)) == source.input.candidates
    assert log.manifest.requests == len(source.input.candidates)
    assert log.manifest.candidates == sum(source.input.candidates.values())
    if source.input.items is not None:
        feature, items = source.input.items
        found = zip(frame["request_id"], frame[feature].to_list(), strict=True)
        assert {request: sorted(ids) for request, ids in found} == {
            request: sorted(ids) for request, ids in items.items()
        }


def is_of_items(log, column):
    features = [f.name for f in log.schema.of(Role.ITEM)]
    return column in (*CANDIDATE_COLUMNS, *features)


def test_equal_inputs_are_equal_bytes(source, tmp_path):
    log = source()
    before = source.target_files()
    again = source(overwrite=True)
    assert source.target_files() == before
    assert again.fingerprint == log.fingerprint
    elsewhere = source(to=tmp_path / "elsewhere" / "log")
    assert elsewhere.fingerprint == log.fingerprint


def test_progress_rises_to_its_total(source):
    calls = []
    source(progress=lambda done, total: calls.append((done, total)))
    assert calls
    done, totals = zip(*calls, strict=True)
    assert len(set(totals)) == 1
    assert list(done) == sorted(done)
    assert 0 <= done[0] <= done[-1] == totals[-1]


def test_a_data_set_is_replaced_only_with_overwrite(source):
    source(name="first")
    before = source.target_files()
    with pytest.raises(DataError, match=re.escape(str(source.target))):
        source(name="second")
    assert source.target_files() == before
    assert source(name="second", overwrite=True).manifest.name == "second"


class ConversionError(Exception):
    pass


def interrupt_writing(patch):
    """Make the writer fail after it has accepted a frame."""
    write = RequestLogWriter.write

    def write_and_fail(self, frame, **options):
        write(self, frame, **options)
        raise ConversionError

    patch.setattr(RequestLogWriter, "write", write_and_fail)


def interrupt_publishing(patch):
    """Make the writer fail after all frames are written."""

    def fail(self):
        raise ConversionError

    patch.setattr(RequestLogWriter, "close", fail)


INTERRUPTIONS = [interrupt_writing, interrupt_publishing]


@pytest.mark.parametrize("interrupt", INTERRUPTIONS)
def test_a_conversion_that_fails_leaves_no_data_set(source, monkeypatch, interrupt):
    with monkeypatch.context() as patch:
        interrupt(patch)
        with pytest.raises(ConversionError):
            source()
    assert not source.target.exists()
    left = [p.name for p in source.target.parent.glob("*")]
    assert not [name for name in left if not name.startswith(".log.unfinished")]
    whole = source(to=source.target.parent.with_name("whole") / "log")
    assert source().fingerprint == whole.fingerprint


@pytest.mark.parametrize("interrupt", INTERRUPTIONS)
def test_a_conversion_that_fails_keeps_the_data_set_to_replace(source, monkeypatch, interrupt):
    source(name="first")
    before = source.target_files()
    with monkeypatch.context() as patch:
        interrupt(patch)
        with pytest.raises(ConversionError):
            source(name="second", overwrite=True)
    after = source.target_files()
    assert {path: after.get(path) for path in before} == before
    assert {path for path in after if path.startswith("log/")} == set(before)


def test_a_path_that_does_not_exist_is_named(source, tmp_path):
    absent = tmp_path / "absent"
    for from_ in (absent, (absent,)):
        with pytest.raises(CascadeRankError, match=re.escape(str(absent))):
            source(from_)
    assert not source.target.exists()


def test_no_path_is_an_error_of_sources_that_read_files(source):
    if not source.input.files:
        source(())
        return
    for from_ in ((), None):
        with pytest.raises(DataError, match=r"found (no|none|0)\b.*--from"):
            SOURCES[source.name](from_, source.target, **source.input.options)
    assert not source.target.exists()


def test_every_missing_file_is_an_error_that_names_its_folder(source):
    for file in source.input.files:
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(DataError) as error:
            source()
        assert str(file.parent) in str(error.value), file.name
        assert not source.target.exists()
        file.write_bytes(content)
    source()


JUNK = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff\xfe\x00\n1 qid:\xff\n"


def test_every_file_of_a_wrong_kind_is_named(source):
    for file in source.input.files:
        content = file.read_bytes()
        file.write_bytes(JUNK)
        with pytest.raises(DataError) as error:
            source()
        assert str(file) in str(error.value)
        assert not source.target.exists()
        file.write_bytes(content)
    source()


def test_every_empty_file_is_named_and_reported_as_empty(source):
    for file in source.input.files:
        content = file.read_bytes()
        file.write_bytes(b"")
        with pytest.raises(DataError) as error:
            source()
        assert str(file) in str(error.value)
        assert "empty" in str(error.value).replace(str(file), ""), file.name
        assert not source.target.exists()
        file.write_bytes(content)
    source()


def test_every_option_has_a_default_and_a_description(source):
    function = SOURCES[source.name]
    parameters = inspect.signature(function).parameters
    assert list(parameters)[:2] == ["from_", "to"]
    documented = described_arguments(inspect.getdoc(function))
    assert list(documented) == list(parameters)
    for name, parameter in list(parameters.items())[2:]:
        assert parameter.kind is parameter.KEYWORD_ONLY, name
        assert parameter.default is not parameter.empty, name
        assert len(documented[name].split()) >= 2, name
    assert {"name", *NOT_OPTIONS} <= set(parameters)


def described_arguments(text):
    """Description by argument, from the ``Args:`` section of a docstring."""
    section = text.partition("\nArgs:\n")[2].partition("\n\n")[0]
    found = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


@pytest.mark.parametrize(("name", "option"), EVERY_OPTION)
def test_an_option_of_a_wrong_type_is_refused_by_name(name, option, tmp_path):
    source, wrong = Source(name, tmp_path), object()
    (mistake,) = SOURCES.option_mistakes(name, {option: wrong})
    assert mistake.startswith(f"source '{name}': {option}=")
    with pytest.raises(ConfigError, match=rf"source '{name}': {option}="):
        source(**{option: wrong})
    assert not source.target.exists()


@pytest.mark.parametrize(("name", "option"), EVERY_OPTION)
def test_an_option_out_of_range_is_refused_by_name(name, option, tmp_path):
    value = bad_value(name, option)
    if value is None:
        return
    source = Source(name, tmp_path)
    if option == "schema":  # replaces the options of features
        source.input.options = {}
    with pytest.raises(CascadeRankError) as error:
        source(**{option: value})
    message = str(error.value).replace(str(tmp_path), "")
    assert option in message
    parts = value if isinstance(value, (tuple, dict)) else [value]
    assert all(str(part) in message for part in parts), message
    assert not source.target.exists()


@pytest.mark.parametrize(
    ("name", "option"),
    [case for case in EVERY_OPTION if int in members(get_type_hints(SOURCES[case[0]])[case[1]])],
)
def test_an_integer_of_64_bits_is_read_or_refused_by_name(name, option, tmp_path):
    source = Source(name, tmp_path)
    for value in (2**31, 2**40, 2**63 - 1):
        refusal = f"{option}, or memory"
        try:
            source(overwrite=True, **{option: value})
        except CascadeRankError as error:
            refusal = str(error)
        assert option in refusal or "memory" in refusal


@pytest.mark.parametrize("name", ["long", "recflow"])
def test_there_are_as_many_buckets_as_a_feature_can_have(name, tmp_path):
    source = Source(name, tmp_path)
    log = source(buckets={"video": 2**40})
    assert log.schema["video"].buckets == 2**40
    with pytest.raises(ConfigError, match=r"buckets: .*1,?099,?511,?627,?776"):
        source(overwrite=True, buckets={"video": 2**40 + 1})


def test_an_unknown_option_is_refused_by_name(source):
    option = options_of(source.name)[0]
    with pytest.raises(ConfigError, match=rf"no option '{option}s' \(did you mean '{option}'"):
        source(**{f"{option}s": 1})
    assert not source.target.exists()
