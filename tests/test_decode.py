"""Tokens that decoding chooses are those that the whole network would choose."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import random_batch, random_params, small_config

from t5like import config
from t5like.config.sampling import Sampling
from t5like.data.objectives import trained_frame
from t5like.data.vocabulary import Bytes, Vocabulary
from t5like.errors import UserError
from t5like.infer import decode
from t5like.infer.constraints import Constraints
from t5like.infer.decode import choose, settings_of
from t5like.infer.generate import Generator, fill_sentinels, inference_net, spans_of
from t5like.model.sharding import make_mesh

VOCABULARY = Vocabulary(Bytes(), [config.MASK], 11)


def build(family: str, **changes: Any) -> tuple[Generator, Any]:
    settings = small_config(family, model__vocab=384, **changes)
    net = inference_net(settings)
    frame = trained_frame(settings.data, VOCABULARY)
    return Generator(net, VOCABULARY, frame, Sampling(), 6), random_params(net, random_batch(settings))


def tokens(generator: Generator, params: Any, prompts: list[list[int]], first: int = 0) -> list[list[int]]:
    """The answers to prompts without their frame."""
    return generator.tokens(params, [generator.frame.around(prompt) for prompt in prompts], first).tolist()


def greedy_by_full_forward(generator: Generator, params: Any, prompt: list[int]) -> list[int]:
    """The same tokens without a cache: the whole row again for each token."""
    net, written = generator.net, []
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


@pytest.mark.parametrize("family", ["t5", "gpt"])
def test_a_sampled_answer_depends_on_its_prompt_its_number_and_the_seed_alone(family, one_device):
    """Not on the neighbours, their order, the size of the batch, or its padding."""
    generator, params = build(family)
    sampling = dataclasses.replace(generator, sampling=SAMPLED, seed=3)
    together = tokens(sampling, params, PROMPTS)
    short = range(len(PROMPTS) - 1)
    assert [tokens(sampling, params, [PROMPTS[number]], number)[0] for number in short] == together[:-1]
    assert together[0] != together[3]  # one prompt, two numbers
    assert tokens(dataclasses.replace(sampling, seed=4), params, PROMPTS) != together


def test_a_sampled_answer_is_the_same_on_any_number_of_devices(mesh):
    generator, params = build("gpt")
    sampling = dataclasses.replace(generator, sampling=SAMPLED)
    split = tokens(sampling, params, PROMPTS)
    with jax.set_mesh(make_mesh(config.Mesh(fsdp=1), jax.devices()[:1])):
        assert tokens(sampling, jax.device_get(params), PROMPTS) == split


def test_another_temperature_is_no_other_program(one_device):
    generator, params = build("gpt")

    def draw(temperature: float, top_p: float) -> list[list[int]]:
        sampling = Sampling(temperature=temperature, top_p=top_p)
        return tokens(dataclasses.replace(generator, sampling=sampling), params, [[5, 6]])

    sharp, programs = draw(0.01, 0.9), decode.generate._cache_size()
    assert draw(9.0, 0.99) != sharp
    assert decode.generate._cache_size() == programs


@pytest.mark.parametrize("family", ["t5", "gpt"])
def test_an_answer_keeps_to_its_constraints(family, one_device):
    generator, params = build(family)
    free = tokens(generator, params, PROMPTS[:2])
    banned = free[0][0]
    held = Constraints((VOCABULARY.eos, free[1][3]), (banned,), first=77, last=88)
    answers = tokens(dataclasses.replace(generator, constraints=held), params, PROMPTS[:2])
    # No first token is forced without an encoder.
    assert [row[0] == 77 for row in answers] == [family == "t5"] * 2
    assert not any(banned in row for row in answers)
    for row in answers:
        stop = next((at for at, token in enumerate(row) if token in held.ends), len(row))
        assert not any(row[stop + 1 :])
        assert stop < len(row) or row[-1] == 88
    ended = dataclasses.replace(generator, constraints=Constraints((free[1][2],)))
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


LOGITS = jnp.log(jnp.array([[0.4, 0.3, 0.2, 0.1]]))


def chosen(count: int = 4000, **sampling: Any) -> np.ndarray:
    """The share of each of the four tokens among many draws."""
    keys = jax.random.split(jax.random.key(0), count)
    draws = choose(jnp.tile(LOGITS, (count, 1)), keys, *settings_of(Sampling(**sampling)))
    return np.bincount(draws, minlength=4) / count


def test_sampling_follows_the_distribution():
    np.testing.assert_allclose(chosen(temperature=1.0), [0.4, 0.3, 0.2, 0.1], atol=0.03)


def test_temperature_sharpens():
    sharp = np.array([0.4, 0.3, 0.2, 0.1]) ** 2
    np.testing.assert_allclose(chosen(temperature=0.5), sharp / sharp.sum(), atol=0.03)


def test_temperature_zero_takes_the_likeliest():
    np.testing.assert_array_equal(chosen(50), [1, 0, 0, 0])


def test_top_k_keeps_the_k_likeliest():
    np.testing.assert_allclose(chosen(temperature=1.0, top_k=2), [4 / 7, 3 / 7, 0, 0], atol=0.03)


@pytest.mark.parametrize(("top_p", "kept"), [(0.39, 1), (0.41, 2), (0.71, 3), (1.0, 4)])
def test_top_p_keeps_the_fewest_that_reach_the_share(top_p, kept):
    assert (chosen(temperature=1.0, top_p=top_p) > 0).tolist() == [True] * kept + [False] * (4 - kept)


def test_a_seed_repeats_its_draws(one_device):
    generator, params = build("gpt")
    draw = lambda seed: dataclasses.replace(generator, sampling=SAMPLED, seed=seed)(params, ["ab"])  # noqa: E731
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
