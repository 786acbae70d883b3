"""Inputs that depend on the other candidates: outputs of the previous stage, numbers by request."""

import pytest

from cascaderank.errors import ConfigError
from cascaderank.runs.load import load_run
from cascaderank.schema import Schema, Transform
from cascaderank.serving import Ranker, export_run, verify_bundle
from tests.data.shops import write_shop
from tests.runs.conftest import untrained
from tests.serving.conftest import MARKET, SEARCHING, STAGES, market_frame, request_of
from tests.serving.test_ranker import LONGER, check, rows_of

PREVIOUS = {"previous": ["score", "rank"]}
BY_REQUEST = Schema(
    features=tuple(
        f.model_copy(update={"transform": Transform.STANDARDISE_BY_REQUEST})
        if f.name == "distance"
        else f
        for f in MARKET.features
    )
)


def exported(folder, log, stages, **options):
    run = untrained(folder / "run", log, stages, catalogue={"item": "video"})
    export_run(run, folder / "bundle", **options)
    return load_run(run).score(LONGER), Ranker.load(folder / "bundle")


@pytest.mark.parametrize("model", ["mlp", "din"])
def test_outputs_of_the_previous_stage_are_served_as_trained(market, tmp_path, model):
    later = {n: {**SEARCHING[n], **PREVIOUS} for n in ("preranking", "ranking")}
    if model == "mlp":
        later["ranking"] = {**later["preranking"], "quota": 3}
    scored, ranker = exported(tmp_path, market, {**SEARCHING, **later})
    for number, row in enumerate(LONGER.iter_rows(named=True)):
        check(ranker.rank(request_of(row), row["video"], trace=True), scored, number)


def test_numbers_are_standardised_over_all_candidates_of_the_request(tmp_path):
    log = write_shop(
        tmp_path / "log", [market_frame()], schema=BY_REQUEST, level_names=(), name="market"
    )
    scored, ranker = exported(tmp_path, log, STAGES)
    assert ranker.needs_rows == {"ranking": ("distance",)}
    for number, row in enumerate(LONGER.iter_rows(named=True)):
        answer = ranker.rank(request_of(row), rows_of(row, ["video", "distance"]), trace=True)
        check(answer, scored, number)

    class Source:
        features = ("distance",)

        def values(self, request, keys, names):
            return {"distance": [0.0] * len(keys)}

    with pytest.raises(ConfigError, match="distance, standardised by request over all candidates"):
        Ranker.load(tmp_path / "bundle", source=Source())


def test_a_transform_of_numbers_changes_no_category(tmp_path):
    features = [
        f.model_copy(update={"transform": Transform.STANDARDISE_BY_REQUEST})
        if f.name == "shop"
        else f
        for f in MARKET.features
    ]
    schema = Schema(features=tuple(features))
    log = write_shop(tmp_path / "log", [market_frame()], schema=schema, level_names=())
    scored, ranker = exported(tmp_path, log, SEARCHING)
    assert "shop" in ranker.bundle.items.features
    for number, row in enumerate(LONGER.iter_rows(named=True)):
        check(ranker.rank(request_of(row), row["video"], trace=True), scored, number)


@pytest.mark.slow
def test_outputs_of_the_previous_stage_are_inputs_of_the_onnx_stage(market, tmp_path):
    pytest.importorskip("onnxruntime")
    stages = {**SEARCHING, "preranking": {**SEARCHING["preranking"], **PREVIOUS}}
    exported(
        tmp_path, market, stages, onnx=True
    )  # which compares the stages with those of training
    assert verify_bundle(tmp_path / "bundle").equal
