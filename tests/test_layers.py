"""The arithmetic, against the formulas of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5like.model import layers


def t5_bucket(distance: int, buckets: int, max_distance: int, causal: bool) -> int:
    """T5's relative bucket for one pair, in plain Python."""
    offset = 0
    if causal:
        distance = max(-distance, 0)
    else:
        buckets //= 2
        offset = buckets if distance > 0 else 0
        distance = abs(distance)
    exact = buckets // 2
    if distance < exact:
        return offset + distance
    far = exact + int(
        np.log(np.float32(distance / exact)) / np.log(np.float32(max_distance / exact)) * (buckets - exact)
    )
    return offset + min(far, buckets - 1)


@pytest.mark.parametrize("causal", [True, False])
def test_relative_buckets_are_those_of_the_formula(causal):
    distances = np.arange(-300, 301)
    got = layers.relative_bucket(jnp.asarray(distances), 32, 128, causal)
    assert got.tolist() == [t5_bucket(int(d), 32, 128, causal) for d in distances]
    # No distance is both positive and 0, so a bidirectional stack never uses the first bucket of that side.
    assert set(got.tolist()) == set(range(32)) - (set() if causal else {16})


def test_norms_have_unit_moments():
    x = jnp.asarray(np.random.default_rng(0).normal(3, 5, (2, 3, 64)), jnp.float32)
    one, zero = jnp.ones(64), jnp.zeros(64)
    np.testing.assert_allclose(np.square(layers.rms_norm(x, one, 1e-6)).mean(-1), 1, rtol=1e-5)
    y = np.asarray(layers.layer_norm(x, one, zero, 1e-6))
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(-1), 1, rtol=1e-5)


def test_rotary_scores_depend_on_the_distance_alone():
    query, key = (jnp.asarray(np.random.default_rng(n).normal(size=(1, 1, 1, 16)), jnp.float32) for n in (0, 1))

    def score(at_query: int, at_key: int) -> float:
        turned = (
            layers.apply_rope(x, jnp.array([[at]]), layers.rope_frequencies(16, 10_000.0))
            for x, at in ((query, at_query), (key, at_key))
        )
        return float(jnp.vdot(*turned))

    assert score(5, 2) == pytest.approx(score(105, 102), abs=1e-4)
    assert score(5, 2) != pytest.approx(score(5, 4), abs=1e-2)


def test_dropout_keeps_the_mean_and_shares_its_mask_along_the_length():
    y = np.asarray(layers.dropout(jnp.ones((64, 8, 256)), 0.25, jax.random.key(0)))
    assert y.mean() == pytest.approx(1, abs=0.02)
    assert (y == y[:, :1]).all()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
