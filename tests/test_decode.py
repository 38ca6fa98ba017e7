"""Tokens that decoding chooses are those that the whole network would choose."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import random_batch, random_params, small_config

from t5like import config
from t5like.config.options import Sampling
from t5like.data.vocabulary import Bytes, Vocabulary
from t5like.errors import UserError
from t5like.infer.decode import choose
from t5like.infer.generate import Generator, fill_sentinels, inference_net, spans_of

VOCABULARY = Vocabulary(Bytes(), [config.MASK], 11)


def build(family: str, **changes: Any) -> tuple[Generator, Any]:
    settings = small_config(family, model__vocab=384, **changes)
    net = inference_net(settings)
    return Generator(net, VOCABULARY, Sampling(), 6), random_params(net, random_batch(settings))


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
    got = generator.tokens(params, prompts)
    for row, prompt in zip(got.tolist(), prompts, strict=True):
        assert row == greedy_by_full_forward(generator, params, prompt)


def test_a_prompt_s_answer_does_not_depend_on_its_neighbours_or_the_mesh(mesh):
    generator, params = build("gpt")
    prompts = [[10, 20, 30], [40] * 9, [5, 6]]
    together = generator.tokens(params, prompts)
    alone = np.concatenate([generator.tokens(params, [prompt]) for prompt in prompts])
    np.testing.assert_array_equal(together, alone)


def test_nothing_follows_the_end(one_device):
    generator, params = build("gpt", model__tied=True)
    ends = jnp.zeros_like(params["embedding"]).at[VOCABULARY.eos].set(1000.0)
    params = {**params, "embedding": jnp.abs(params["embedding"]) + ends}
    params["decoder"]["norm"]["scale"] = jnp.ones_like(params["decoder"]["norm"]["scale"])
    got = generator.tokens(params, [[10, 20]])
    first = int(np.flatnonzero(got[0] == VOCABULARY.eos)[0]) if VOCABULARY.eos in got[0] else got.shape[1]
    assert (got[0, first + 1 :] == 0).all()


LOGITS = jnp.log(jnp.array([[0.4, 0.3, 0.2, 0.1]]))


def chosen(count: int = 4000, **sampling: Any) -> np.ndarray:
    """The share of each of the four tokens among many draws."""
    keys = jax.random.split(jax.random.key(0), count)
    draws = jax.vmap(lambda key: choose(LOGITS, key, Sampling(**sampling))[0])(keys)
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
    draw = lambda seed: Generator(generator.net, VOCABULARY, Sampling(temperature=1.0), 6, seed)(params, ["ab"])  # noqa: E731
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
