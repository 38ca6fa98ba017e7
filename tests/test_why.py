"""`t5like why`: a step of a run as it was, its rows by their losses and its gradient by groups of parameters."""

import json
import pathlib
from collections.abc import Iterator

import pytest
from golden_runs import on_one_device
from settings import sentence
from starts import run_config, write_texts

from t5like.cli import run
from t5like.config import Config
from t5like.train.loop import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Iterator[Config]:
    """Four steps, of which the last is saved alone, so that why begins where the run did."""
    folder = tmp_path_factory.mktemp("run")
    changes = dict(train__steps=4, eval__every=4, mesh__data=1, train__accumulate=2, model__dropout=0.1)
    config = run_config(write_texts(folder)["first"], folder / "run", **changes)
    with on_one_device():
        train(config)
        yield config


@pytest.mark.slow
def test_a_step_is_made_again_as_it_was(trained, say):
    """Dropout and accumulation included: its loss and the norm of its gradient are those that were logged."""
    directory = trained.train.directory
    found = json.loads(say("why", directory, "--step", 3, "--json"))
    metrics = [json.loads(line) for line in (pathlib.Path(directory) / "metrics.jsonl").read_text().splitlines()]
    (logged,) = (line for line in metrics if line["step"] == 3 and "gradient_norm" in line)
    assert found["parameters_of"] == 2 and found["parameters_not_finite"] == {}
    assert found["loss"] == pytest.approx(logged["loss"], rel=1e-6)
    assert found["gradient_norm"] == pytest.approx(logged["gradient_norm"], rel=1e-5)
    squares = sum(group["norm"] ** 2 for group in found["groups"].values())
    assert squares == pytest.approx(found["gradient_norm"] ** 2, rel=1e-6)
    assert {"embedding", "decoder attention", "decoder mlp", "decoder norm"} <= found["groups"].keys()
    losses = [row["loss"] for row in found["rows"]]
    assert losses == sorted(losses, reverse=True) and sorted(row["row"] for row in found["rows"]) == list(range(8))
    shown = [json.loads(line) for line in say("inspect", directory, "--step", 3, "--json").splitlines()]
    assert {row["row"]: (row["documents"], row["text"]) for row in found["rows"]} == {
        row["row"]: (row["documents"], row["text"]) for row in shown
    }


@pytest.mark.slow
def test_people_see_the_worst_rows_with_their_text(trained, say):
    text = say("why", trained.train.directory, "--step", 1, "--rows", 2)
    assert text.startswith(f"Step 1 of {trained.train.directory}, with the parameters of step 0: loss ")
    assert text.count("\nloss ") == 2 and text.count(": source text") == 2 and "decoder mlp" in text


@pytest.mark.slow
def test_a_step_that_is_not_there_is_a_sentence(trained):
    assert "has those from 1 to 4" in sentence(run, ["why", trained.train.directory, "--step", "9"])
