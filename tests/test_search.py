"""The one loop of decoding: beams, samples, constraints and scores by the networks of all families with a decoder."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generators import build, with_options
from settings import sentence

from t5like import config
from t5like.config.beams import BeamSearch
from t5like.config.constraints import Constraints
from t5like.config.decoding import decoding_of
from t5like.config.sampling import Sampling
from t5like.infer.generate import Generator
from t5like.infer.sample import OF_COPY, OF_PROMPT
from t5like.infer.search import generate
from t5like.model.sharding import make_mesh

PROMPTS = [[10, 20, 30], [40] * 9, [5, 6]]
BEAMS = BeamSearch(num_beams=4, num_return_sequences=3)
DRAWN = Sampling(temperature=1.0)


def answers(generator: Generator, params: Any, prompts: list[list[int]] = PROMPTS, first: int = 0) -> Any:
    return generator.answers(params, [generator.frame.around(prompt) for prompt in prompts], first)


def log_likelihood(generator: Generator, params: Any, prompt: list[int], answer: list[int]) -> float:
    """log p(answer | prompt) by one pass without a cache, among the tokens that may be chosen."""
    net, framed = generator.network.inference_net, generator.frame.around(prompt)
    encoder = net.model.encoder_layers > 0
    before = [0] if encoder else framed
    batch = row("decoder", [*before, *answer]) | (row("encoder", framed) if encoder else {})
    logits = np.array(net.apply({"params": params}, batch), np.float64)[0, len(before) - 1 :]
    shifted = logits - logits.max(-1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return float(sum(log_probs[at, token] for at, token in enumerate(answer)))


def row(stack: str, ids: list[int]) -> dict[str, jax.Array]:
    places = np.arange(len(ids), dtype=np.int32)[None]
    named = {"input_tokens": np.array([ids], np.int32), "segment_ids": np.ones_like(places), "positions": places}
    return {f"{stack}_{name}": jnp.asarray(x) for name, x in named.items()}


@pytest.mark.parametrize("family", ["t5", "gpt"])
def test_beams_have_the_scores_of_the_full_forward_alone_and_in_a_crowd(family, one_device):
    """Each beam's sum is that of its tokens in one pass, and other prompts change neither tokens nor scores."""
    generator, params = build(family)
    beams = with_options(generator, beams=BEAMS)
    together = answers(beams, params)
    greedy = answers(generator, params).tokens[:, 0]
    for number, prompt in enumerate(PROMPTS):
        for tokens, length, score in zip(
            *(x[number] for x in (together.tokens, together.lengths, together.scores)), strict=False
        ):
            answer = tokens[:length].tolist()
            whole = log_likelihood(generator, params, prompt, answer) / length
            assert score == pytest.approx(whole, abs=1e-4)
        assert len({*map(tuple, together.tokens[number].tolist())}) == 3
        best = together.scores[number, 0]
        plain = greedy[number].tolist()
        assert best >= log_likelihood(generator, params, prompt, plain) / len(plain) - 1e-5
    alone = answers(beams, params, PROMPTS[1:2])
    np.testing.assert_array_equal(alone.tokens[0], together.tokens[1])
    np.testing.assert_allclose(alone.scores[0], together.scores[1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"beams": BEAMS}, {"sampling": DRAWN}, {}])
def test_answers_are_the_same_on_a_mesh_of_data_fsdp_and_tensor(options, mesh):
    generator, params = build("t5")
    asked = with_options(generator, **options)
    split = answers(asked, params)
    with jax.set_mesh(make_mesh(config.Mesh(fsdp=1), jax.devices()[:1])):
        one = answers(asked, jax.device_get(params))
    np.testing.assert_array_equal(split.tokens, one.tokens)
    np.testing.assert_allclose(split.scores, one.scores, atol=1e-4)


def test_samples_of_one_prompt_are_those_that_it_has_alone_by_their_seeds(one_device):
    """They share the prompt's keys, and each is drawn as if its row stood alone."""
    generator, params = build("gpt")
    drawn = with_options(generator, sampling=DRAWN, beams=BeamSearch(num_return_sequences=3), scores=True)
    many = answers(drawn, params)
    assert len({*map(tuple, many.tokens[0].tolist())}) == 3
    single = with_options(generator, sampling=DRAWN, scores=True)
    np.testing.assert_array_equal(answers(single, params).tokens[:, 0], many.tokens[:, 0])
    own = with_options(single, seed=(OF_PROMPT + 2 * OF_COPY) % 2**31)  # that of answer 2 to prompt 1
    np.testing.assert_array_equal(answers(own, params, [PROMPTS[1]] * 3).tokens[0, 0], many.tokens[1, 2])
    for number, prompt in enumerate(PROMPTS):
        for tokens, length, scores in zip(
            *(x[number] for x in (many.tokens, many.lengths, many.log_probs)), strict=False
        ):
            whole = log_likelihood(generator, params, prompt, tokens[:length].tolist())
            assert scores.sum() == pytest.approx(whole, abs=1e-4)


def test_text_constraints_hold_in_answers_of_all_kinds(one_device):
    """Greedy, sampled and searched answers keep to one automaton, and begin with the prefix."""
    generator, params = build("gpt")
    rules = Constraints(bad_words=("a", "e"), stop=("!",), prefix="so ", min_new_tokens=2)
    for options in ({}, {"sampling": DRAWN}, {"beams": BEAMS}):
        asked = with_options(generator, constraints=rules, tokens=12, **options)
        for texts in asked.texts(params, [generator.frame.around(prompt) for prompt in PROMPTS]):
            for each in texts:
                assert each.text.startswith("so ")
                assert not re.search("[ae!]", each.text[3:])


def test_a_grammar_is_followed_by_greedy_and_sampled_answers(one_device):
    pytest.importorskip("llguidance")
    generator, params = build("gpt")
    rules = Constraints(regex="(ab|cd)+[0-9]{2}")
    for options in ({}, {"sampling": DRAWN}):
        asked = with_options(generator, constraints=rules, tokens=24, **options)
        for texts in asked.texts(params, [generator.frame.around(prompt) for prompt in PROMPTS]):
            assert re.match("(ab|cd)*", texts[0].text)
            assert re.fullmatch("(ab|cd)+([0-9]{0,2})?|a|c|(ab|cd)+[ac]", texts[0].text), texts[0].text


@pytest.mark.parametrize("rows", [1, 4])
def test_the_loop_copies_neither_what_the_encoder_made_nor_a_layer_s_cache(rows, one_device):
    """In the compiled loop nothing of the size of a cache is copied or transposed, of beams but their own tokens'."""
    generator, params = build("t5")
    asked = with_options(generator, tokens=40, beams=BeamSearch(num_beams=rows))
    prompts, given = asked.asked([[7] * 96] * 8)
    net = generator.network.inference_net
    text = generate.lower(params, prompts, given, net=net, shape=asked.shape).compile().as_text()
    model = net.model
    bodies = [text[text.index(f"\n%{name} (") :].partition("\n}\n")[0] for name in re.findall(r"body=%([\w.]+)", text)]
    body = max(bodies, key=lambda body: body.count(" dot("))
    moved = [tuple(map(int, x.split(","))) for x in re.findall(r"= \w+\[([\d,]+)\]\S* (?:copy|transpose)\(", body)]
    own = (8 * rows, model.heads, 39, model.kv)
    assert not [shape for shape in moved if np.prod(shape) >= np.prod(own) and (rows == 1 or shape != own)], moved
    assert body.count(" dot(") > model.decoder_layers  # it is the loop of decoding


def test_a_search_in_segments_is_the_whole(one_device):
    """Streams stop between tokens, which changes none of them."""
    from t5like.infer.generate import unrolled_layers
    from t5like.infer.search import finish, go_on, start

    generator, params = build("t5")
    asked = with_options(generator, sampling=DRAWN)
    framed = [generator.frame.around(prompt) for prompt in PROMPTS]
    prompts, given = asked.asked(framed)
    fixed = {"net": generator.network.inference_net, "shape": asked.shape}
    search, layers = start(params, prompts, given, **fixed), unrolled_layers(params, generator.model)
    for until in (1, 3, 4, 6):
        search = go_on(layers, search, given, jnp.int32(until), **fixed)
    found = finish(search, **fixed)
    np.testing.assert_array_equal(np.asarray(found.tokens)[:3], asked.answers(params, framed).tokens)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temprature": 1.0}, "There is no option 'temprature' of answers; did you mean 'temperature'?"),
        ({"num_beams": 2, "temperature": 1.0}, "--temperature 1.0 samples, but --num_beams 2 searches"),
        ({"num_beams": 2, "regex": "a+"}, "--regex cannot be joined with --num_beams 2"),
        ({"min_new_tokens": 9}, "--min_new_tokens 9 is more than --tokens 8"),
        ({"stop": [""]}, "--stop has an empty string"),
    ],
)
def test_options_of_answers_that_cannot_be_are_sentences(options, expected):
    assert sentence(decoding_of, 8, 0, False, options).startswith(expected)
