"""Whatever bytes lie in a file, its reader gives a sentence or what it promises: no traceback, no hang, no other thing.

`benchmarks/fuzz.py` makes a hundred times as many cases and counts them.
"""

import pathlib
import time

import hypothesis
import pytest
from harmed_readers import Reader, outcomes, readers
from hypothesis import strategies as st

NAMES: list[str] = []


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Reader]:
    return readers(pathlib.Path(tmp_path_factory.mktemp("harmed")))


@hypothesis.settings(
    max_examples=18, deadline=None, derandomize=True, database=None, phases=[hypothesis.Phase.generate]
)
@hypothesis.given(seed=st.integers(0, 2**32))
def harm_each(made: dict[str, Reader], seed: int) -> None:
    for name, reader in made.items():
        began = time.monotonic()
        (outcome,) = outcomes(reader, iter([seed]))
        assert time.monotonic() - began < 30, f"{name}, seed {seed}, hangs"
        assert not reader.guarded or outcome.refused or outcome.same, f"{name}, seed {seed}, is read as another thing"
        if outcome.refused:
            assert "\n" not in outcome.sentence, name
            assert outcome.sentence.endswith((".", "?")), (name, outcome.sentence)


def test_a_thousand_harmed_files_are_read_or_refused_in_a_sentence(made):
    assert len(made) >= 40
    harm_each(made)
