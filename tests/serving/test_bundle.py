"""Bundles are complete or refused, replaced in one step, and hold the catalogue that is requested."""

import json
import pickletools
import shutil
import threading

import polars as pl
import pytest

from cascaderank.errors import ConfigError, DataError, RunError, SchemaError
from cascaderank.serving import Bundle, Ranker, export_run, verify_bundle
from cascaderank.serving.bundle_files import read_bundle_manifest
from tests.data.shops import write_shop
from tests.runs.conftest import untrained
from tests.serving.conftest import MARKET, SEARCHING, market_frame, market_items, request_of

ROW = market_frame(5).row(3, named=True)


@pytest.fixture
def copy(searching_bundle, tmp_path):
    return shutil.copytree(searching_bundle, tmp_path / "copy")


def manifest_of(folder, **changes):
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_manifest_describes_the_bundle(bundle, market_run):
    manifest = read_bundle_manifest(bundle)
    assert manifest.run == str(market_run)
    assert manifest.quotas == (8, 6, 3)
    assert [stage.model for stage in manifest.stages] == ["two_tower", "mlp", "din"]
    assert [stage.pair_features for stage in manifest.stages] == [(), (), ("distance",)]
    assert manifest.items.count == 30
    assert manifest.items.features == ("video", "shop", "price", "weight", "genres", "text")
    assert set(manifest.files) == {p.name for p in bundle.iterdir()} - {"bundle.json"}
    modes = {p.stat().st_mode for p in bundle.iterdir()}
    assert len(modes) == 1


def test_nothing_is_pickled(bundle):
    for path in bundle.iterdir():
        content = path.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))
        with pytest.raises(ValueError):  # noqa: PT011 - messages differ by the first bytes
            list(pickletools.genops(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "items.arrow").unlink(), "items.arrow: missing, though bundle.json"),
        (
            lambda f: (f / "item_parts.safetensors").write_bytes(
                (f / "item_parts.safetensors").read_bytes()[:99]
            ),
            "item_parts.safetensors: half-copied: expected .* bytes, found 99; copy the bundle",
        ),
        (lambda f: (f / "bundle.json").unlink(), "expected a bundle, found no bundle.json"),
        (lambda f: (f / "bundle.json").write_text("{"), "bundle.json: cannot be read as JSON"),
        (lambda f: manifest_of(f, format=2), "found 2; use a newer version of cascaderank"),
        (lambda f: manifest_of(f, format=0), "found 0; export the run again"),
        (lambda f: manifest_of(f, format="1"), "found '1'; export the run again"),
        (lambda f: manifest_of(f, stages=[]), "not the manifest of a bundle: stages"),
        (lambda f: manifest_of(f, files={}), "files: expected the files of a bundle, found no"),
        (
            lambda f: manifest_of(
                f, files={**json.loads((f / "bundle.json").read_text())["files"], "../x": {"bytes": 1, "sha256": "0" * 64}}
            ),
            "expected the files of a bundle, found '../x'",
        ),
        (
            lambda f: manifest_of(
                f, stages=[{**s, "quota": 2} for s in json.loads((f / "bundle.json").read_text())["stages"]]
            ),
            "expected the stages and quotas of config.toml",
        ),
    ],
)  # fmt: skip
def test_a_damaged_bundle_is_refused(copy, damage, message):
    damage(copy)
    with pytest.raises(RunError, match=message):
        Ranker.load(copy)


def test_a_folder_that_is_no_bundle_is_neither_loaded_nor_replaced(searching_run, tmp_path):
    with pytest.raises(RunError, match=r"expected a bundle, found no bundle\.json"):
        Bundle.load(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="expected a bundle or an empty folder, found other files"):
        export_run(searching_run, tmp_path)
    with pytest.raises(RunError, match="expected a folder, found a file"):
        export_run(searching_run, tmp_path / "notes.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_newer_catalogue_replaces_that_of_the_log(searching_run, tmp_path):
    items = market_items(40).with_columns(pl.lit("new").alias("unused"))
    for name, write in (
        ("items.parquet", items.write_parquet),
        ("items.jsonl", items.write_ndjson),
    ):
        write(tmp_path / name)
        manifest, result = export_run(searching_run, tmp_path / "new", items=tmp_path / name)
        assert result.equal
        assert (manifest.items.count, manifest.items.source) == (40, str(tmp_path / name))
        # min_count = 20: rare videos of the log and the ten new ones are out of vocabulary.
        assert manifest.items.out_of_vocabulary["video"] >= 10
        ranker = Ranker.load(tmp_path / "new")
        assert ranker.rank(request_of(ROW), quotas=(40, 40, 40)).stages[0].came == 40
        assert 100 + 3 * 39 in ranker.rank(request_of(ROW), quotas=(40, 40, 40)).ids


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("items.csv", lambda f: f, ConfigError, "must end with .parquet, .jsonl, .ndjson"),
        ("items.parquet", lambda f: f.drop("price"), SchemaError, "no column price; found"),
        ("items.parquet", lambda f: f[[0, 1, 1]], DataError, "1 row repeat the 'video'"),
        ("items.parquet", lambda f: f.head(0), DataError, "one row per item, found none"),
        ("items.parquet", lambda f: f.with_columns(pl.lit(None).alias("video")), DataError, "'video' is null in 30 rows"),
        ("items.parquet", lambda f: f.with_columns(pl.lit("a").alias("price")), SchemaError, "items.parquet: numeric feature 'price' must be numbers"),
        ("items.parquet", lambda f: f.with_columns(pl.col("video") + 5000), DataError, "no candidate of the golden requests is among the items"),
    ],
)  # fmt: skip
def test_a_wrong_catalogue_is_refused(searching_run, tmp_path, name, change, error, message):
    change(market_items()).write_parquet(tmp_path / name)
    with pytest.raises(error, match=message):
        export_run(searching_run, tmp_path / "new", items=tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_features_that_change_over_time_are_of_the_item_if_stated(market, tmp_path):
    genres = pl.when(pl.col("genres").list.len() > 0).then(pl.col("genres").list.reverse())
    changing = market_items().with_columns(pl.col("price") * 2, genres)
    frames = [market_frame(40), market_frame(40, items=changing)]
    frames[1] = frames[1].with_columns(pl.col("request_id") + " later")
    log = write_shop(tmp_path / "log", frames, schema=MARKET, level_names=())
    run = untrained(tmp_path / "run", log, SEARCHING, catalogue={"item": "video"})
    manifest, _ = export_run(run, tmp_path / "bundle")
    assert [stage.pair_features for stage in manifest.stages] == [("price",)] * 3, "not genres"
    manifest, result = export_run(run, tmp_path / "bundle", latest=["pri*"])
    assert result.equal
    assert [stage.pair_features for stage in manifest.stages] == [()] * 3
    raw = Ranker.load(tmp_path / "bundle").bundle.items.raw
    found = dict(zip(raw["video"], raw["price"], strict=True))
    expected = dict(zip(changing["video"], changing["price"], strict=True))
    assert found == pytest.approx({k: expected[k] for k in found}, nan_ok=True)
    with pytest.raises(SchemaError, match="no feature 'prize'"):
        export_run(run, tmp_path / "bundle", latest=["prize"])


def test_a_log_without_identity_of_items_needs_rows(market, tmp_path):
    run = untrained(tmp_path / "run", market, SEARCHING)
    manifest, result = export_run(run, tmp_path / "bundle")
    assert manifest.items is None
    assert result.equal
    ranker = Ranker.load(tmp_path / "bundle")
    assert not ranker.searches
    assert len(ranker.needs_rows["ranking"]) == 6
    rows = {name: ROW[name] for name in ranker.needs_rows["ranking"]}
    assert set(ranker.rank(request_of(ROW), rows).ids) <= set(range(len(ROW["video"])))
    with pytest.raises(DataError, match="the bundle has no catalogue of items to search"):
        ranker.rank(request_of(ROW))
    with pytest.raises(DataError, match="found keys; the bundle has no catalogue"):
        ranker.rank(request_of(ROW), [100])
    with pytest.raises(ConfigError, match="names no feature that identifies an item"):
        export_run(run, tmp_path / "bundle", latest=["price"])


def test_readers_see_the_old_or_the_new_bundle_while_it_is_replaced(
    searching_run, market_run, tmp_path
):
    path, stop, found, errors = tmp_path / "bundle", threading.Event(), set(), []
    export_run(searching_run, path)
    old = Ranker.load(path)

    def read():
        while not stop.is_set():
            try:
                loaded = Bundle.load(path)
                found.add((loaded.manifest.run, "ranking" in loaded.parts))
            except Exception as error:  # noqa: BLE001 - reported by the test
                errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for run in (market_run, searching_run, market_run):
        export_run(run, path)
    stop.set()
    reader.join()
    assert not errors
    assert found <= {(str(searching_run), True), (str(market_run), False)}
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert old.rank(request_of(ROW)).ids  # the former files are still mapped


def test_a_bundle_that_is_replaced_after_its_manifest_was_read_is_loaded(
    copy, market_run, bundle, monkeypatch
):
    from cascaderank.serving import bundle as module

    read, manifests = module.read_bundle_manifest, []

    def replaced(folder):
        manifests.append(read(folder))
        if len(manifests) == 1:
            shutil.rmtree(copy)
            shutil.copytree(bundle, copy)
        return manifests[-1]

    monkeypatch.setattr(module, "read_bundle_manifest", replaced)
    assert Bundle.load(copy).manifest.run == str(market_run)
    assert manifests[0] != manifests[1]


def test_a_bundle_that_would_not_serve_what_was_trained_is_not_written(
    searching_run, tmp_path, monkeypatch
):
    from cascaderank.serving import export as module

    plain = module.parts_of_items
    monkeypatch.setattr(
        module, "parts_of_items", lambda *a: {n: p + 0.1 for n, p in plain(*a).items()}
    )
    with pytest.raises(RunError, match="bundle: not written, since it would not serve what was"):
        export_run(searching_run, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_the_destination_is_checked_before_the_run_is_read(tmp_path):
    (tmp_path / "file").write_text("notes")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes").touch()
    for to, message in [
        ("file", r"file: expected a folder, found a file; choose another$"),
        ("file/bundle", r"file: expected a folder, found a file; choose another$"),
        ("other", "other: expected a bundle or an empty folder, found other files"),
    ]:
        with pytest.raises(RunError, match=message):
            export_run(tmp_path / "no run", tmp_path / to)
    assert (tmp_path / "file").read_text() == "notes"


def test_a_run_is_not_taken_for_a_bundle(searching_run, tmp_path):
    expected = (
        f"{searching_run}: expected a bundle, found a run; write one with "
        f"`cascaderank export {searching_run} --to BUNDLE`"
    )
    for load in (Ranker.load, verify_bundle):
        with pytest.raises(RunError) as caught:
            load(searching_run)
        assert str(caught.value) == expected
    with pytest.raises(RunError, match=r"found no bundle\.json; .* `cascaderank export RUN --to B"):
        verify_bundle(tmp_path)


def test_the_data_set_of_the_run_can_be_elsewhere(searching_run, market, tmp_path, monkeypatch):
    run = shutil.copytree(searching_run, tmp_path / "run")
    config = run / "config.toml"
    config.write_text(config.read_text().replace(str(market.path), "gone"))
    with pytest.raises(DataError, match="gone: the data set of the run is not here"):
        export_run(run, tmp_path / "bundle")
    manifest, _ = export_run(run, tmp_path / "bundle", dataset=market.path, golden=5, name="shop")
    assert (manifest.name, manifest.golden) == ("shop", 5)
    assert verify_bundle(tmp_path / "bundle").requests == 5
