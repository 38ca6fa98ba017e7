"""Filters keep the tokens that naive sorting keeps, and those that transformers keeps, in rows of all kinds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5like.convert.original import has_transformers
from t5like.infer import filters
from t5like.infer.filters import History, Penalties, Warpers, process, warp

NEUTRAL = dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0)
SETTINGS: list[dict[str, Any]] = [
    *[dict(top_k=k) for k in (1, 7, 300, 5000)],
    *[dict(top_p=p) for p in (0.01, 0.5, 0.9, 0.999)],
    *[dict(min_p=p) for p in (0.001, 0.2, 1.0)],
    *[dict(typical_p=p) for p in (0.05, 0.5, 0.95)],
    dict(temperature=0.6),
    dict(temperature=1.7, top_k=400, top_p=0.9, min_p=0.02, typical_p=0.8),
    dict(temperature=0.7, top_k=20, top_p=0.8),
    {},
]
VOCAB = 1500


def warpers(rows: list[dict[str, Any]]) -> Warpers:
    """The settings of rows, neutral where they have none."""
    columns = {name: [row.get(name, value) for row in rows] for name, value in NEUTRAL.items()}
    return Warpers(
        **{name: jnp.asarray(x, jnp.int32 if name == "top_k" else jnp.float32) for name, x in columns.items()}
    )


def scores_of(kind: str, rows: int, vocab: int = VOCAB) -> np.ndarray:
    """Scores from flat to peaked; `tied`: in steps, many equal; `bfloat16`: with the ties of that type."""
    drawn = np.random.default_rng(len(kind)).normal(size=(rows, vocab)).astype(np.float32)
    drawn *= np.linspace(0.3, 6, rows, dtype=np.float32)[:, None]
    if kind == "tied":
        drawn = np.round(drawn)
    if kind == "bfloat16":
        drawn = np.array(jnp.asarray(10 + 4 * drawn, jnp.bfloat16).astype(jnp.float32))
    if kind == "masked":
        drawn[:, ::3] = -np.inf
    return drawn


KINDS = ("normal", "tied", "bfloat16", "masked")


def probabilities(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def naive(row: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """The filtered scores of one row, in float64, by sorting."""
    given, row = NEUTRAL | settings, row.astype(np.float64) / np.float32(settings.get("temperature", 1))
    if k := given["top_k"]:
        row = np.where(row < np.sort(row)[::-1][min(k, len(row)) - 1], -np.inf, row)
    if given["top_p"] < 1:
        order = np.argsort(-row, kind="stable")
        shares = probabilities(row)[order]
        row[order[np.cumsum(shares) - shares >= np.float32(given["top_p"])]] = -np.inf
    if given["min_p"]:
        row = np.where(np.exp(row - row.max()) < np.float32(given["min_p"]), -np.inf, row)
    if given["typical_p"] < 1:
        shares = probabilities(row)
        logs = np.log(shares, where=shares > 0, out=np.full_like(shares, -np.inf))
        distance = np.abs(-logs + (shares[shares > 0] * logs[shares > 0]).sum())
        order = np.argsort(distance, kind="stable")
        last = min((np.cumsum(shares[order]) < np.float32(given["typical_p"])).sum(), len(row) - 1)
        row = np.where(distance > distance[order][last] + 1e-12, -np.inf, row)
    return row


@pytest.mark.parametrize("search", ["likeliest", "bisection"])
def test_each_row_keeps_what_sorting_keeps(search, monkeypatch):
    """On a CPU the likeliest tokens are looked at first, elsewhere never."""
    monkeypatch.setattr(filters, "platform", lambda: {"likeliest": "cpu", "bisection": "tpu"}[search])
    given = np.concatenate([scores_of(kind, len(SETTINGS)) for kind in KINDS])
    found = np.array(jax.jit(lambda *x: warp(*x))(given, warpers(SETTINGS * len(KINDS))))
    for row, (before, after) in enumerate(zip(given, found, strict=True)):
        settings = SETTINGS[row % len(SETTINGS)]
        expected = naive(before, settings)
        np.testing.assert_array_equal(after > -np.inf, expected > -np.inf, err_msg=f"{row} {settings}")
        kept = expected > -np.inf
        np.testing.assert_allclose(after[kept], expected[kept], rtol=1e-6)


def test_of_equal_scores_top_p_keeps_as_many_as_it_needs():
    """Of eight equal tokens four have half of the probability, and the fifth is needed for more; top-k keeps all."""
    rows = [dict(top_p=0.5), dict(top_p=0.51), dict(top_k=2)]
    kept = np.array(jax.jit(warp)(jnp.zeros((3, 8), jnp.float32), warpers(rows))) == 0
    assert kept.tolist() == [[True] * n + [False] * (8 - n) for n in (4, 5, 8)]


def test_filters_that_no_row_uses_are_not_computed():
    """Each is the branch of a condition of which the other one has no operation."""
    history = History(jnp.zeros((2, 3), jnp.int32), jnp.zeros((2,), jnp.int32), jnp.int32(3))
    neutral = Penalties(jnp.ones((2,), jnp.float32), jnp.zeros((2,), jnp.int32))
    programs = (
        jax.make_jaxpr(lambda x: warp(x, warpers([{}] * 2)))(jnp.zeros((2, 9), jnp.float32)),
        jax.make_jaxpr(lambda x: process(x, history, neutral))(jnp.zeros((2, 9), jnp.float32)),
    )
    for program, count in zip(programs, (4, 2), strict=True):
        conditions = [e for e in program.eqns if e.primitive.name == "cond"]
        assert len(conditions) == count
        assert not any(e.params["branches"][0].eqns for e in conditions)
        costly = ("sort", "top_k", "cumsum", "scatter", "while", "gather")
        assert not any(name in str(e) for name in costly for e in program.eqns if e not in conditions)


def test_a_penalty_acts_once_on_each_token_of_the_history_and_of_no_padding():
    history = History(jnp.array([[9, 5, 6, 5, 7], [4, 4, 4, 6, 7]], jnp.int32), jnp.array([1, 3]), jnp.int32(4))
    scores = jnp.array([[3.0, -3.0] * 5] * 2, jnp.float32)
    found = np.array(process(scores, history, Penalties(jnp.array([1.5, 3.0]), jnp.zeros((2,), jnp.int32))))
    expected = np.array(scores)
    expected[0, [5, 6]] = -4.5, 2.0
    expected[1, 6] = 1.0
    np.testing.assert_array_equal(found, expected)


def banned(tokens: list[int], size: int) -> set[int]:
    """The tokens that would complete a second n-gram."""
    grams = {tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)}
    return {token for token in range(6) if size and (*tokens[len(tokens) - size + 1 :], token)[-size:] in grams}


def histories(rows: int, slots: int = 24) -> tuple[History, list[list[int]]]:
    """Random histories of few tokens, with starts from 0 to the last column, and other tokens around them."""
    tokens = np.random.default_rng(3).integers(0, 5, (rows, slots)).astype(np.int32)
    starts, slot = np.arange(rows, dtype=np.int32) % (slots - 4), slots - 4
    own = [row[start:slot].tolist() for row, start in zip(tokens, starts, strict=True)]
    return History(jnp.asarray(tokens), jnp.asarray(starts), jnp.int32(slot)), own


def test_no_ngram_comes_twice():
    """Sizes from 0, which allows all, to more than any history has, beside each other."""
    history, own = histories(120)
    sizes = [row % 7 if row % 17 else 2**31 - 1 for row in range(120)]
    penalties = Penalties(jnp.ones((120,), jnp.float32), jnp.asarray(sizes, jnp.int32))
    found = np.array(jax.jit(process)(jnp.zeros((120, 6), jnp.float32), history, penalties))
    for row, tokens, size in zip(found, own, sizes, strict=True):
        assert set(np.flatnonzero(np.isneginf(row))) == (banned(tokens, size) if size <= len(tokens) else set())


@pytest.fixture(scope="module")
def original() -> Any:
    """The filters of transformers for some settings, in the order of its own list."""
    if not has_transformers():
        pytest.skip("torch or transformers is missing")
    import torch
    from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_positions=8, n_embd=4, n_layer=1, n_head=1))

    def filtered(scores: np.ndarray, tokens: list[int], **settings: Any) -> np.ndarray:
        config = GenerationConfig(**{"do_sample": True, "top_k": 0, **settings})
        chain = model._get_logits_processor(config, input_ids_seq_length=1, device="cpu")
        return chain(torch.tensor([tokens]), torch.from_numpy(scores[None].copy()))[0].numpy()

    return filtered


@pytest.mark.originals
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_filters_are_those_of_transformers(kind, original):
    """Which of equal scores its top-p keeps is left to torch's sort, so that those kept are compared as numbers."""
    given = scores_of(kind, len(SETTINGS))
    found = np.array(jax.jit(warp)(given, warpers(SETTINGS)))
    for before, after, settings in zip(given, found, SETTINGS, strict=True):
        expected = original(before, [0], **settings)
        if "top_p" in settings and kind in ("tied", "bfloat16"):
            after, expected = np.sort(after), np.sort(expected)
        np.testing.assert_array_equal(np.isneginf(after), np.isneginf(expected), err_msg=str(settings))
        np.testing.assert_allclose(after, expected, rtol=1e-6)


@pytest.mark.originals
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_filters_of_histories_are_those_of_transformers_in_its_order(original):
    """Penalty, n-grams, temperature and the rest at once; each row alone there, without padding."""
    rows = 60
    history, own = histories(rows)
    scores = scores_of("normal", rows, 40)
    settings = [dict(SETTINGS[row % len(SETTINGS)]) for row in range(rows)]
    penalties = [dict(repetition_penalty=1 + row / 40, no_repeat_ngram_size=row % 4) for row in range(rows)]
    given = Penalties(
        jnp.asarray([p["repetition_penalty"] for p in penalties], jnp.float32),
        jnp.asarray([p["no_repeat_ngram_size"] for p in penalties], jnp.int32),
    )
    found = jax.jit(lambda *x: warp(process(*x), warpers(settings)))(scores, history, given)
    for row in range(rows):
        expected = original(scores[row], own[row], **settings[row], **penalties[row])
        np.testing.assert_allclose(found[row], expected, rtol=2e-6, err_msg=f"{settings[row]} {penalties[row]}")
