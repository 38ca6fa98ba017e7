"""A T5 and a GPT-2 have the answers that transformers gave, through the loop of decoding."""

import dataclasses

import jax
import pytest
from beam_goldens import ORDER, assert_same, cases_of
from chains import search_of
from golden_runs import on_one_device, opened

from t5like.config.constraints import Constraints
from t5like.config.decoding import Decoding
from t5like.convert.verify import generator_like_original
from t5like.infer.constraints import TokenConstraints


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t5_1_1", "gpt2"])
def test_models_have_the_answers_of_transformers(name, tmp_path):
    cases = cases_of(name)
    assert len(cases) >= 60
    with on_one_device(), opened(name, tmp_path / "run") as golden, jax.default_matmul_precision("highest"):
        for case in cases:
            options = Decoding(
                tokens=case["max_new_tokens"],
                beams=search_of("hf", *(case[name] for name in ORDER[:3])),
                constraints=Constraints(min_new_tokens=case["min_new_tokens"]),
            )
            plain = generator_like_original(golden.restored, 1)
            ends = TokenConstraints(tuple(case["ends"]))
            generator = dataclasses.replace(plain, decoding=options, constraints=ends)
            assert_same([case], generator.answers(golden.restored.params, [case["prompt"]]))
