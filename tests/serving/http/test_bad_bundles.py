"""A damaged, a half-copied and an older bundle are refused by one line, whatever reads them."""

import json
import shutil

import pytest

from tests.command_line import cascaderank
from tests.serving.conftest import market_frame


def damage(folder):
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def cut_short(folder):
    path = folder / "item_parts.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def leave_out(folder):
    (folder / "golden.parquet").unlink()


def leave_out_manifest(folder):
    (folder / "bundle.json").unlink()


def cut_manifest_short(folder):
    path = folder / "bundle.json"
    path.write_bytes(path.read_bytes()[:300])


def of_format(number):
    def change(folder):
        path = folder / "bundle.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": number}))

    return change


CASES = [
    (damage, "weights.safetensors: changed since the export: expected sha256"),
    (cut_short, "item_parts.safetensors: half-copied: expected"),
    (leave_out, "golden.parquet: missing, though bundle.json lists it"),
    (leave_out_manifest, "expected a bundle, found no bundle.json"),
    (cut_manifest_short, "bundle.json: cannot be read as JSON"),
    (of_format(0), "expected a bundle of format 1, found 0; export the run again"),
    (of_format(2), "expected a bundle of format 1, found 2; use a newer version"),
]


@pytest.mark.parametrize(("ruin", "text"), CASES)
def test_commands_refuse_it_by_one_line(searching_bundle, tmp_path, ruin, text):
    folder = shutil.copytree(searching_bundle, tmp_path / "bundle")
    ruin(folder)
    requests = tmp_path / "requests.jsonl"
    market_frame(2).write_ndjson(requests)
    for words in (
        ("serve", folder, "--port", 0),
        ("serve", searching_bundle, "--port", 0, "--bundle", f"b={folder}", "--shadow", "b"),
        ("verify", folder),
        ("score", folder, requests, "--to", tmp_path / "scores.parquet"),
    ):
        done = cascaderank(*words)
        assert done.returncode == 2, (words, done.stderr)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert text in done.stderr
        assert done.stdout == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "requests.jsonl"]
