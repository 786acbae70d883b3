"""The code and the commands of whole pages run, in the order of the page."""

from tests.pages import run_page


def test_from_a_log_to_production(tmp_path):
    output = run_page("docs/production.md", tmp_path, toml="shop.toml")
    for stage in ("retrieval", "preranking", "ranking"):
        assert stage in output
    assert (tmp_path / "item_vectors.npy").exists()
    final, nearest = output.split("the quotas allow")[-1].split("[")[1:]
    assert len(final.split()) == 8
    assert len(nearest.replace("]", "").split()) == 20


def test_batches_and_loops(tmp_path):
    output = run_page("docs/loops.md", tmp_path)
    assert "300 float32 [ 0 40 80]" in output
    assert "joint recall@10" in output
