"""Runs with adapters: checkpoints without the base, which is found again, and refused once it has changed."""

import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from golden_runs import on_one_device, tensors_of
from lora_runs import adapted_run
from settings import sentence
from small import assert_trees_close, replace
from starts import import_run, run_config, write_texts

from t5like.config import Config, Lora
from t5like.model.adapters import is_adapter
from t5like.runs.checkpoints import Checkpoints
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run, with_merged_adapters
from t5like.train.loop import train

LORA = Lora(rank=2, targets=("query", "value"))


@pytest.fixture(scope="module", autouse=True)
def single():
    with on_one_device():
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Config:
    """A run as an import makes it."""
    folder = tmp_path_factory.mktemp("base")
    settings = config_of(write_texts(folder)["first"], folder / "base")
    import_run(settings)
    return settings


def config_of(text: pathlib.Path, directory: pathlib.Path, **changes: Any) -> Config:
    return run_config(text, directory, model__max_positions=64, mesh__data=1, optimizer__name="adamw", **changes)


def on(base: Config, directory: pathlib.Path, lora: Lora = LORA, **changes: Any) -> Config:
    """A run with adapters on a base."""
    text = pathlib.Path(base.data.sources[0].path)
    changes = {"train__init_from": base.train.directory, **changes}
    return config_of(text, directory, model__lora=lora, **changes)


def leaves(settings: Config) -> dict[str, np.ndarray]:
    with open_run(settings) as restored:
        return flatten_dict(jax.device_get(restored.params), sep="/")


def test_a_run_is_its_adapters_on_the_base_that_it_knows(base, tmp_path, say):
    settings = adapted_run(base, tmp_path / "run", LORA)
    found, there = leaves(settings), leaves(base)
    assert {path for path in found if path not in there} == {path for path in found if is_adapter(path)}
    for path, leaf in there.items():
        np.testing.assert_array_equal(found[path], leaf)
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.param_shapes().keys() == found.keys() - there.keys()
    said = say("export", tmp_path / "run", tmp_path / "out")
    assert "LlamaForCausalLM" in said
    with open_run(settings) as restored:
        query = with_merged_adapters(restored).params["decoder"]["blocks"]["self"]["query"]
    exported = tensors_of(tmp_path / "out")["model.layers.1.self_attn.q_proj.weight"]
    np.testing.assert_array_equal(exported.T, np.asarray(query)[1].reshape(exported.shape[1], -1))
    assert np.abs(query - there["decoder/blocks/self/query"]).max() > 1e-3


def test_a_base_that_has_changed_or_is_gone_is_refused_and_one_that_moved_is_found(base, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(base.train.directory, folder)
    moved = replace(base, train=replace(base.train, directory=str(folder)))
    settings = adapted_run(moved, tmp_path / "run", LORA)
    folder.rename(tmp_path / "elsewhere")
    gone = f"{tmp_path}/run holds adapters of step 0 of {folder}, where that is not any more: put it back, or say "
    assert sentence(leaves, settings).startswith(gone)
    there = replace(settings, train=replace(settings.train, init_from=str(tmp_path / "elsewhere")))
    before = leaves(there)
    shutil.rmtree(tmp_path / "elsewhere")
    other = replace(moved, train=replace(moved.train, directory=str(tmp_path / "elsewhere")))
    rewritten(base, other)
    assert sentence(leaves, there) == (
        f"{tmp_path}/elsewhere has other parameters at step 0 than those that the adapters of {tmp_path}/run were "
        "trained on: put these back, or say where they lie by --train.init_from RUN."
    )
    assert "decoder/blocks/self/query_lora_a" in before


def rewritten(base: Config, other: Config) -> None:
    """Write a copy of a run with one bit of one parameter changed."""
    run, there = RunDirectory(pathlib.Path(other.train.directory)), RunDirectory(pathlib.Path(base.train.directory))
    shutil.copytree(there.path, run.path, ignore=shutil.ignore_patterns("checkpoints"))
    with open_run(base) as restored:
        params = jax.tree.map(np.array, jax.device_get(restored.params))
        matrix = params["decoder"]["blocks"]["mlp"]["up"]
        matrix[1, 3, 5] = np.nextafter(matrix[1, 3, 5], np.float32(9))
        with Checkpoints(run.checkpoints, 1, restored.vocabulary.hash) as checkpoints:
            checkpoints.save_params(params, 0)
            checkpoints.wait()


def test_what_cannot_have_adapters_is_one_sentence(base, tmp_path, say):
    settings = on(base, tmp_path / "new", train__init_from="")
    assert sentence(train, settings) == (
        "model.lora.rank=2 adapts a model that is there: name its run by train.init_from=RUN, or set model.lora.rank=0."
    )
    adapted_run(base, tmp_path / "run", LORA)
    again = on(base, tmp_path / "new", train__init_from=str(tmp_path / "run"))
    assert sentence(train, again) == (
        f"train.init_from={tmp_path}/run holds adapters alone: name {base.train.directory}, or make one run of both by "
        f"`t5like export {tmp_path}/run FOLDER` and `t5like import FOLDER RUN`."
    )
    (tmp_path / "run" / "base.json").unlink()
    assert sentence(say, "export", tmp_path / "run", tmp_path / "out").startswith(
        f"{tmp_path}/run/base.json is missing: it says what the adapters of "
    )
    told = sentence(say, "export", base.train.directory, tmp_path / "out", "--adapter")
    assert told == f"{base.train.directory} has no adapters: leave out --adapter, or train with model.lora.rank=8."


def test_adapters_that_peft_cannot_save_are_named(base, tmp_path, say):
    adapted_run(base, tmp_path / "run", replace(LORA, train=("embedding",)))
    assert sentence(say, "export", tmp_path / "run", tmp_path / "out", "--adapter") == (
        "model.lora.train has 'embedding', which PEFT does not save beside adapters: export the whole model without "
        "--adapter."
    )


@pytest.mark.slow
def test_a_resumed_run_and_a_branch_become_what_an_undisturbed_one_does(base, tmp_path, say):
    lora, course = replace(LORA, dropout=0.1), {"train__steps": 2, "train__save_every": 1, "eval__every": 2}
    whole = on(base, tmp_path / "whole", lora, **course)
    train(whole)
    train(on(base, tmp_path / "parts", lora, **course | {"train__steps": 1}))
    train(on(base, tmp_path / "parts", lora, **course))
    say("branch", tmp_path / "whole", "--at", "1", "--train.directory", tmp_path / "branch")
    train(on(base, tmp_path / "plain", Lora(), train__steps=1))
    end, *others = (leaves(RunDirectory(tmp_path / name).config()) for name in ("whole", "parts", "branch"))
    for other in others:
        assert_trees_close(other, end, rtol=0)
    assert any(np.any(leaf) for path, leaf in end.items() if path.endswith("_lora_b"))
    first, same = (lines(tmp_path / name)[0]["loss"] for name in ("whole", "plain"))
    assert first == pytest.approx(same, rel=1e-6)
    assert size_of(tmp_path / "whole" / "checkpoints" / "2") < size_of(tmp_path / "plain" / "checkpoints" / "1") / 3
    assert "loss" in say("eval", tmp_path / "whole")


def lines(run: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def size_of(folder: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
