"""Published values: equal to a second transcription, and complete."""

import pytest

from cascaderank.errors import ConfigError
from cascaderank.experiments.published import published_table, published_tables

METHODS = {"bce", "icc", "rankflow", "fs_ranknet", "fs_lambdaloss", "arf", "arf_v2", "lcron"}
BY_HAND = [
    ("lcron_table_2", "lcron", "joint_recall", 0.8732, 0.0005),
    ("lcron_table_2", "bce", "retrieval_recall", 0.9706, 0.0004),
    ("lcron_table_2", "arf", "retrieval_ndcg", 0.5437, 0.0110),
    ("lcron_table_2", "icc", "ranking_recall", 0.8100, 0.0003),
    ("lcron_table_3", "lcron_without_e2e", "joint_recall", 0.8710, 0.0013),
    ("lcron_table_3", "lcron_without_single", "retrieval_ndcg", 0.7142, 0.0013),
    ("lcron_table_4", "lcron_weight_0.01", "joint_recall", 0.8712, None),
    ("lcron_table_4", "lcron_weight_5", "ranking_ndcg", 0.7299, None),
    ("lcron_table_5", "arf_v2", "revenue_gain", 0.0166, None),
    ("lcron_table_6", "icc", "pre_ranking_ndcg", 0.4925, 0.0463),
    ("lcron_table_6", "lcron", "ranking_recall", 0.7338, 0.0008),
    ("lcron_table_6", "arf_v2", "joint_recall", 0.7332, 0.0020),
    ("lcron_table_7", "lcron_soft_sort", "retrieval_ndcg", 0.7035, 0.0265),
    ("lcron_table_7", "neural_sort_alone", "joint_recall", 0.8210, 0.0016),
    ("lcron_table_8", "lcron_temperature_1000", "retrieval_recall", 0.9711, None),
    ("arf_mslr", "approx_ndcg", "ndcg_at_k", 0.504, None),
    ("arf_istella", "softmax", "joint_recall", 0.357, None),
    ("arf_industry_easy", "relaxed_recall", "ndcg", 0.981, None),
    ("arf_industry_hard", "arf", "joint_recall", 0.917, None),
]


@pytest.mark.parametrize(("table", "method", "column", "mean", "std"), BY_HAND)
def test_values_agree_with_the_papers(table, method, column, mean, std):
    value = published_table(table).methods[method][column]
    assert (value.mean, value.std) == (mean, std)


def test_every_table_is_checked():
    assert {table for table, *_ in BY_HAND} == set(published_tables())


@pytest.mark.parametrize("name", published_tables())
def test_every_method_has_a_joint_recall_between_0_and_1(name):
    table = published_table(name)
    assert table.source
    assert table.title
    for values in table.methods.values():
        assert 0 < values["joint_recall"].mean < 1
        assert all(value.std is None or 0 < value.std < 0.1 for value in values.values())


@pytest.mark.parametrize("name", ["lcron_table_2", "lcron_table_6"])
def test_the_main_tables_contain_all_methods_and_lcron_is_best(name):
    table = published_table(name)
    assert set(table.methods) == METHODS
    joint = {method: values["joint_recall"].mean for method, values in table.methods.items()}
    assert max(joint, key=joint.get) == "lcron"


def test_a_cell_that_the_paper_leaves_empty_is_absent():
    assert set(published_table("lcron_table_5").methods["fs_lambdaloss"]) == {"joint_recall"}


def test_an_unknown_table_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"did you mean 'lcron_table_2'\?"):
        published_table("lcron_tabel_2")
