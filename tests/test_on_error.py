"""Records that are skipped are counted and shown in the report, the manifest and the statistics."""

import dataclasses
import json

import pytest
from settings import sentence
from test_held_out import data_of
from test_prepare import documents

from t5like import config
from t5like.data.prepare import prepare
from t5like.data.statistics import as_text


@pytest.fixture
def data(tmp_path):
    lines = [json.dumps({"text": f"text {n}"}) for n in range(30)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines[:10], '{"text": broken}', *lines[10:], '{"txt": "x"}']))
    return data_of(tmp_path, config.Source(kind="jsonl", path=f"{tmp_path}/a.jsonl"), held_out=0.2)


def test_skipped_records_are_reported_with_the_first_of_them(data, tmp_path):
    skipping = dataclasses.replace(data.sources[0], on_error="skip")
    assert "a.jsonl, line 11, is not JSON: Expecting value. Mend it" in sentence(prepare, data, [].append)
    heard: list[str] = []
    prepare(dataclasses.replace(data, sources=(skipping,)), heard.append)
    (line,) = (line for line in heard if line.startswith("Source"))
    assert line == (
        f"Source 'jsonl': 2 records skipped, e.g. {tmp_path}/a.jsonl, line 11, is not JSON: Expecting value."
    )
    assert len(documents(data, "train") + documents(data, "validation")) == 30
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    skipped = manifest["sources"][0]["skipped"]
    assert skipped["count"] == 2 and "line 32, has no field 'text'" in skipped["examples"][1]
    shown = as_text(manifest)
    assert "jsonl: 2 records skipped that could not be read, for example\n" in shown and skipped["examples"][1] in shown


def test_a_store_of_which_nothing_was_skipped_says_nothing_of_it(data, tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": f"text {n}"}) for n in range(30)))
    prepare(data, [].append)
    assert "skipped" not in json.loads((tmp_path / "store" / "manifest.json").read_text())["sources"][0]
