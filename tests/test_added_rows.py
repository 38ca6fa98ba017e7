"""Rows for pieces that a model never saw, and exports in types that cannot hold every number."""

import json
import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
from damage import GOLDEN, damaged, refused, weights
from golden_runs import float32, on_one_device, tensors_of
from settings import sentence

from t5like.convert.exporting import export_run
from t5like.convert.importing import import_run
from t5like.convert.options import ExportOptions, ImportOptions
from t5like.convert.rows import rows_for
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run


@pytest.fixture(scope="module", autouse=True)
def single() -> Iterator[None]:
    with on_one_device():
        yield


def with_more_pieces(folder: pathlib.Path, count: int) -> None:
    """Adds pieces to a tokenizer.json as `add_tokens` does."""
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text("utf-8"))
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    size = max(content["model"]["vocab"].values()) + 1
    size = max([size, *(token["id"] + 1 for token in content["added_tokens"])])
    content["added_tokens"] += [
        {"id": size + n, "content": f"<|new_{n}|>", "special": True, **flags} for n in range(count)
    ]
    file.write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize("name", ["llama", "marian"])
def test_a_flag_adds_rows_for_pieces_that_the_model_never_saw(name, tmp_path, say):
    source = damaged(tmp_path, name, lambda folder: with_more_pieces(folder, 3))
    assert "--add_rows True gives these rows" in refused(source)
    said = say("import", source, tmp_path / "run", "--add_rows", "True")
    assert "Added 3 rows to the 320 of the embedding, each the mean of these." in said
    with open_run(float32(RunDirectory(tmp_path / "run").config())) as restored:
        export_run(restored, tmp_path / "out", ExportOptions())
    before, after = tensors_of(GOLDEN / name), tensors_of(tmp_path / "out")
    longer = [key for key in before if before[key].shape != after[key].shape]
    assert len(longer) == 2
    for key in longer:
        old, new = before[key].reshape(320, -1), after[key].reshape(323, -1)
        np.testing.assert_array_equal(new[:320], old)
        np.testing.assert_allclose(new[320:], np.tile(old.mean(0), (3, 1)), atol=1e-6)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 323


def test_rows_stay_a_multiple_that_devices_share():
    assert (rows_for(130, 128), rows_for(323, 320), rows_for(385, 384)) == (256, 323, 512)


def test_an_export_in_a_type_that_cannot_hold_a_number_is_refused_with_its_tensor(tmp_path):
    query = "encoder.block.1.layer.0.SelfAttention.q.weight"

    def enlarged(tensors: dict[str, np.ndarray]) -> None:
        tensors[query][2, 3] = -70_000.0

    source = damaged(tmp_path, "t5_1_1", weights(enlarged))
    import_run(source, tmp_path / "run", ImportOptions())
    with open_run(float32(RunDirectory(tmp_path / "run").config())) as restored:
        said = sentence(export_run, restored, tmp_path / "out", ExportOptions(dtype="float16"))
        assert said == (
            f"--dtype float16 holds numbers up to 6.55e+04, but the tensor {query!r} has 7e+04: export with --dtype "
            "bfloat16."
        )
        assert not (tmp_path / "out").exists()
        export_run(restored, tmp_path / "out", ExportOptions(dtype="bfloat16"))
    assert float(tensors_of(tmp_path / "out")[query][2, 3]) == pytest.approx(-70_000, rel=0.01)
