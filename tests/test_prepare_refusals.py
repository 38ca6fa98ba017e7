"""What a preparation refuses: another plan, files that changed, a folder that cannot be written, an empty split."""

import hashlib
import json

import pytest
from test_prepare import contents, settings, stopping_after

from t5like import config
from t5like.data.prepare import prepare
from t5like.data.sources import units
from t5like.errors import UserError


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"held_out": 0.3}, r"data\.held_out"),
        ({"vocabulary": config.Vocabulary(size=300)}, r"data\.vocabulary"),
        ({"sources": (config.Source(),), "held_out": 0.3}, r"data\.sources and data\.held_out"),
    ],
)
def test_a_store_refuses_other_settings_and_names_them(tmp_path, changes, named):
    prepare(settings(tmp_path), [].append)
    before = contents(f"{tmp_path}/store")
    sentence = rf"store was prepared with other {named}: choose another data\.store, or delete that folder\.$"
    with pytest.raises(UserError, match=sentence):
        prepare(settings(tmp_path, **changes), [].append)
    assert contents(f"{tmp_path}/store") == before


def test_a_store_whose_plan_holds_settings_without_effect_or_lacks_newer_ones_is_taken(tmp_path):
    """As older versions let the former pass and wrote them down, and did not know the latter."""
    prepare(settings(tmp_path), [].append)
    file = tmp_path / "store" / "plan.json"
    plan = json.loads(file.read_text())
    plan["sources"][0]["split"] = "test"
    for newer in ("encoding", "columns", "quotes", "most_invalid"):
        plan["sources"][1].pop(newer)
    plan["vocabulary"]["lowercase"] = True
    del plan["checksum"]
    file.write_text(json.dumps(plan))
    reported = []
    prepare(settings(tmp_path), reported.append)
    assert reported == []


def test_files_of_which_an_earlier_version_began_a_preparation_may_not_change(tmp_path):
    """It noted one hash of all units."""
    data = settings(tmp_path, sources=(config.Source(kind="text", path=f"{tmp_path}/*.txt", document="line"),))
    with pytest.raises(KeyboardInterrupt):
        prepare(data, [].append, stopping_after(1, []))
    file = tmp_path / "store" / "units" / "inputs"
    hash = hashlib.sha256(repr(units(data.sources)).encode()).hexdigest()
    vocabulary = json.loads(file.read_text())["The vocabulary"]
    file.write_text(json.dumps({"The files of data.sources": hash, "The vocabulary": vocabulary}))
    before = file.read_text()
    (tmp_path / "3.txt").write_text("new")
    with pytest.raises(UserError, match=r"^The files of data\.sources changed while .* was being prepared: delete th"):
        prepare(data, [].append)
    (tmp_path / "3.txt").unlink()
    file.write_text(before)
    prepare(data, [].append)
    prepare(settings(tmp_path, "undisturbed", sources=data.sources), [].append)
    assert contents(data.store) == contents(f"{tmp_path}/undisturbed")


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"^data\.store=.*/file/store cannot be written: Not a directory\.$"):
        prepare(settings(tmp_path, "file/store"), [].append)


@pytest.mark.parametrize(
    ("held_out", "kind", "sentence"),
    [
        (0.999999, "bytes", r"^data\.sources has no train documents with data\.held_out=0\.999999: lower data\.held_o"),
        (0.999999, "bpe", r"^There is no text to learn a vocabulary from: .* is empty or held out\.$"),
    ],
)
def test_a_split_without_documents_is_a_sentence(tmp_path, held_out, kind, sentence):
    with pytest.raises(UserError, match=sentence):
        prepare(settings(tmp_path, kind=kind, held_out=held_out), [].append)
