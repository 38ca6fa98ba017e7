"""Tokens that decoding chooses are those that the whole network would choose, whatever happens to other rows."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generators import VOCABULARY, build, with_options

from t5like import config
from t5like.config.sampling import Sampling
from t5like.errors import UserError
from t5like.infer import search
from t5like.infer.constraints import TokenConstraints
from t5like.infer.decode import DecodeState, advance, prefill, put_rows, take_rows
from t5like.infer.generate import Generator
from t5like.infer.spans import fill_sentinels, spans_of
from t5like.model.sharding import make_mesh
from t5like.model.stack import unrolled


def tokens(generator: Generator, params: Any, prompts: list[list[int]], first: int = 0) -> list[list[int]]:
    """The answers to prompts without their frame."""
    return generator.tokens(params, [generator.frame.around(prompt) for prompt in prompts], first).tolist()


def greedy_by_full_forward(generator: Generator, params: Any, prompt: list[int]) -> list[int]:
    """The same tokens without a cache: the whole row again for each token."""
    net, written = generator.network.inference_net, []
    logits_of = jax.jit(lambda batch: net.apply({"params": params}, batch))
    for _ in range(generator.most):
        decoder = [0, *written] if net.model.encoder_layers else [0, *prompt, *written]
        batch = features("decoder", decoder)
        if net.model.encoder_layers:
            batch |= features("encoder", [*prompt, VOCABULARY.eos])
        logits = np.array(logits_of(batch))[0, len(decoder) - 1]
        logits[VOCABULARY.size :] = logits[VOCABULARY.pad] = -np.inf
        written.append(int(logits.argmax()))
        if written[-1] == VOCABULARY.eos:
            break
    return written + [0] * (generator.most - len(written))


def features(stack: str, ids: list[int]) -> dict[str, jax.Array]:
    """The features of one row, padded at its end to 24 tokens."""
    places = np.arange(24, dtype=np.int32)[None]
    tokens = np.zeros((1, 24), np.int32)
    tokens[0, : len(ids)] = ids
    named = {"input_tokens": tokens, "segment_ids": (places < len(ids)).astype(np.int32), "positions": places}
    return {f"{stack}_{name}": jnp.asarray(x) for name, x in named.items()}


@pytest.mark.parametrize("family", ["t5", "gpt"])
def test_greedy_decoding_equals_the_full_forward(family, one_device):
    generator, params = build(family)
    prompts = [[10, 20, 30], [40], [7] * 12]
    for row, prompt in zip(tokens(generator, params, prompts), prompts, strict=True):
        assert row == greedy_by_full_forward(generator, params, prompt)


SAMPLED = Sampling(temperature=1.0, top_k=200, top_p=0.99)
PROMPTS = [[10, 20, 30], [40] * 9, [5, 6], [10, 20, 30], [7] * 40]
"""The same one twice, and one whose neighbours are padded to twice their length."""


@pytest.mark.parametrize("family", [pytest.param("t5", marks=pytest.mark.slow), "gpt"])
def test_a_sampled_answer_depends_on_its_prompt_its_number_and_the_seed_alone(family, one_device):
    """Not on the neighbours, their order, the size of the batch, or its padding."""
    generator, params = build(family)
    sampling = with_options(generator, sampling=SAMPLED, seed=3)
    together = tokens(sampling, params, PROMPTS)
    short = range(len(PROMPTS) - 1)
    assert [tokens(sampling, params, [PROMPTS[number]], number)[0] for number in short] == together[:-1]
    assert together[0] != together[3]  # one prompt, two numbers
    assert tokens(with_options(sampling, seed=4), params, PROMPTS) != together


def test_a_sampled_answer_is_the_same_on_any_number_of_devices(mesh):
    generator, params = build("gpt")
    sampling = with_options(generator, sampling=SAMPLED)
    split = tokens(sampling, params, PROMPTS)
    with jax.set_mesh(make_mesh(config.Mesh(fsdp=1), jax.devices()[:1])):
        assert tokens(sampling, jax.device_get(params), PROMPTS) == split


def test_other_settings_of_sampling_are_no_other_program(one_device):
    generator, params = build("gpt")

    def draw(**sampling: Any) -> list[list[int]]:
        return tokens(with_options(generator, sampling=Sampling(**sampling)), params, [[5, 6]])

    greedy = draw()
    draw(temperature=1.0)
    programs = search.generate._cache_size()
    assert draw(temperature=1e-6) == draw(temperature=9.0, top_k=1) == draw(temperature=9.0, top_p=0.001) == greedy
    assert len({str(draw(temperature=9.0, **rest)) for rest in ({}, {"top_k": 20}, {"top_p": 0.5}, {"top_k": 9})}) == 4
    assert search.generate._cache_size() == programs


STATES = [[10, 20, 30], [40] * 9, [5, 6], [7] * 12]


def prefilled(generator: Generator, params: Any, prompts: list[list[int]]) -> DecodeState:
    """The prompts, padded in front to 32, with room for six tokens behind them."""
    framed = [generator.frame.around(prompt) for prompt in prompts]
    return prefill(generator.network.inference_net, params, generator._prompts(framed, 32), 38)


def continued(generator: Generator, params: Any, state: DecodeState, count: int = 3) -> tuple[DecodeState, np.ndarray]:
    """The state after `count` of the likeliest tokens, and these, `[batch, count]`."""
    net, written = generator.network.inference_net, []
    for _ in range(count):
        written.append(jnp.argmax(state.logits, -1).astype(jnp.int32))
        state = advance(net, unrolled(params, net.model), state, written[-1])
    return state, np.stack(written, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "gpt"])
def test_rows_in_another_order_are_the_prompts_in_that_order(family, one_device):
    """A row may be left out or taken twice too, in the middle of its answer, as beams are."""
    generator, params = build(family)
    state, first = continued(generator, params, prefilled(generator, params, STATES))
    rows = [3, 0, 0, 2]
    _, then = continued(generator, params, take_rows(state, jnp.asarray(rows)))
    _, whole = continued(generator, params, prefilled(generator, params, [STATES[row] for row in rows]), 6)
    np.testing.assert_array_equal(np.concatenate([first[rows], then], axis=1), whole)
    assert len({*map(tuple, whole.tolist())}) == 3  # prompts whose answers differ


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "gpt"])
def test_a_replaced_row_goes_on_as_it_would_alone(family, one_device):
    """Row 1 gets another prompt while the others are in the middle of their answers, to which nothing happens."""
    generator, params = build(family)
    state, first = continued(generator, params, prefilled(generator, params, STATES))
    prompts = generator._prompts([generator.frame.around([9, 8, 7, 6, 5])], 32)
    # Padded in front to end where the others are.
    prompts = prompts._replace(tokens=jnp.pad(prompts.tokens, ((0, 0), (int(state.slot) - prompts.tokens.shape[1], 0))))
    new = prefill(generator.network.inference_net, params, prompts, 38)
    joined = put_rows(state, jnp.asarray([1]), new)
    assert joined.starts.tolist() != state.starts.tolist()
    _, then = continued(generator, params, joined)
    _, alone = continued(generator, params, new)
    _, whole = continued(generator, params, prefilled(generator, params, STATES), 6)
    np.testing.assert_array_equal(then[1], alone[0])
    others = [0, 2, 3]
    np.testing.assert_array_equal(np.concatenate([first, then], axis=1)[others], whole[others])
    assert then[1].tolist() != whole[1, 3:].tolist()


@pytest.mark.parametrize("family", ["t5", "gpt"])
def test_an_answer_keeps_to_its_constraints(family, one_device):
    generator, params = build(family)
    free = tokens(generator, params, PROMPTS[:2])
    banned = free[0][0]
    held = TokenConstraints((VOCABULARY.eos, free[1][3]), (banned,), first=77, last=88)
    answers = tokens(dataclasses.replace(generator, constraints=held), params, PROMPTS[:2])
    # No first token is forced without an encoder.
    assert [row[0] == 77 for row in answers] == [family == "t5"] * 2
    assert not any(banned in row for row in answers)
    for row in answers:
        stop = next((at for at, token in enumerate(row) if token in held.ends), len(row))
        assert not any(row[stop + 1 :])
        assert stop < len(row) or row[-1] == 88
    ended = dataclasses.replace(generator, constraints=TokenConstraints((free[1][2],)))
    at = free[1].index(free[1][2]) + 1
    assert tokens(ended, params, PROMPTS[:2])[1] == [*free[1][:at], *[0] * (6 - at)]


def test_nothing_follows_the_end(one_device):
    generator, params = build("gpt", model__tied=True)
    ends = jnp.zeros_like(params["embedding"]).at[VOCABULARY.eos].set(1000.0)
    params = {**params, "embedding": jnp.abs(params["embedding"]) + ends}
    params["decoder"]["norm"]["scale"] = jnp.ones_like(params["decoder"]["norm"]["scale"])
    (got,) = tokens(generator, params, [[10, 20]])
    first = got.index(VOCABULARY.eos) if VOCABULARY.eos in got else len(got)
    assert not any(got[first + 1 :])


def test_a_seed_repeats_its_draws(one_device):
    generator, params = build("gpt")
    draw = lambda seed: with_options(generator, sampling=SAMPLED, seed=seed)(params, ["ab"])  # noqa: E731
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_a_prompt_longer_than_the_positions_is_refused(one_device):
    generator, params = build("gpt", model__positions="learned", model__max_positions=24)
    with pytest.raises(UserError, match=r"need 37 tokens, but model.max_positions=24"):
        generator(params, ["x" * 30])


def test_an_empty_prompt_is_refused(one_device):
    generator, params = build("gpt")
    with pytest.raises(UserError, match="The prompt is empty"):
        generator(params, ["  "])


def test_spans_are_put_back_where_their_sentinels_stand():
    answer = "<extra_id_0> quick <extra_id_1> lazy 狗 <extra_id_1> again"
    assert spans_of(answer) == {"<extra_id_0>": "quick", "<extra_id_1>": "lazy 狗"}
    prompt = "The <extra_id_0> fox and the <extra_id_1> or <extra_id_2>."
    assert fill_sentinels(prompt, answer) == "The [quick] fox and the [lazy 狗] or [?]."
