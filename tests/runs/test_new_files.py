"""Files to write: those of a run, a data set or a bundle are not replaced by others."""

import pytest

from cascaderank.errors import ConfigError
from cascaderank.runs.new_files import check_free, new_file


@pytest.mark.parametrize(
    ("record", "content"),
    [
        ("checksums.sha256", "9366  config.toml\n00  report.json\n"),
        ("manifest.json", '{"parts": [{"path": "report.json"}]}'),
        ("bundle.json", '{"files": {"report.json": {"bytes": 1}}}'),
    ],
)
def test_a_file_of_a_run_a_data_set_or_a_bundle_is_kept(tmp_path, record, content):
    (tmp_path / record).write_text(content)
    for name in (record, "report.json", "my-report.json", "other.html"):
        (tmp_path / name).touch()
    link = tmp_path / "sub" / "link.html"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "report.json")
    for path in (tmp_path / record, tmp_path / "report.json", link):
        with pytest.raises(ConfigError, match=f"belongs to the run.*{record}"):
            check_free([path], overwrite=True)
    check_free([tmp_path / "my-report.json", tmp_path / "other.html"], overwrite=True)
    with pytest.raises(ConfigError, match="belongs"), new_file(tmp_path / "report.json"):
        pass
    assert (tmp_path / "report.json").read_text() == ""
