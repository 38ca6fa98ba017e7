"""Log-likelihoods of texts behind a prompt, in the rows that the objective would make of them in training."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from t5like.data.draws import Draws
from t5like.data.features import ROUND
from t5like.data.objectives import make_features
from t5like.data.ragged import Ragged
from t5like.data.rows.layout import lay_out
from t5like.data.vocabulary import Vocabulary
from t5like.infer.score import log_probabilities
from t5like.model.network import Network
from t5like.model.sharding import Params, row_parts, shard
from t5like.model.transformer import Transformer
from t5like.signals import uninterrupted
from t5like.train.step import targets_and_weights

Features = dict[str, np.ndarray]


def log_likelihoods(
    network: Network,
    vocabulary: Vocabulary,
    params: Params,
    prompts: Sequence[str],
    candidates: Sequence[Sequence[str]],
    batch: int,
    between: Callable[[], None] = uninterrupted,
) -> list[Float[np.ndarray, " candidates"]]:
    """log p(candidate and its end | prompt), in nats, of each candidate of each prompt.

    An encoder reads each prompt once for all of its candidates. `between` is called before each batch.
    """
    most = max((len(texts) for texts in candidates), default=1)
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    found: list[np.ndarray] = [np.zeros(0)] * len(prompts)
    rows = max(batch // most, 1)
    rows += -rows % row_parts(network.inference_net.rules)
    for start in range(0, len(order), rows):
        between()
        numbers = order[start : start + rows]
        full = [*numbers, *[numbers[-1]] * (rows - len(numbers))]
        # What a prompt has fewer than others is filled up with its last candidate.
        texts = [[*candidates[n], *[candidates[n][-1]] * (most - len(candidates[n]))] for n in full]
        features = pair_features(network, vocabulary, [prompts[n] for n in full], texts)
        scores = _scores(params, {name: jnp.asarray(x) for name, x in features.items()}, network.inference_net, most)
        for number, row in zip(numbers, np.asarray(jax.device_get(scores), np.float64), strict=False):
            found[number] = row[: len(candidates[number])]
    return found


def pair_features(
    network: Network, vocabulary: Vocabulary, prompts: Sequence[str], texts: Sequence[Sequence[str]]
) -> Features:
    """The features of each prompt with each of its texts, one row after the other; an encoder's only once a prompt."""
    most = len(texts[0])
    encoded = vocabulary.encode_documents([*prompts, *(text for each in texts for text in each)])
    first = [encoded[number] for number in range(len(prompts)) for _ in range(most)]
    parts = tuple(map(_ragged, (first, encoded[len(prompts) :])))
    return rows_of(parts, network, vocabulary, most)


def rows_of(parts: tuple[Ragged, ...], network: Network, vocabulary: Vocabulary, repeats: int = 1) -> Features:
    """The features of examples in a row each, no longer than they have to be; of those of an encoder each `repeats`th
    row where a decoder reads it several times."""
    data, count = network.config.data, len(parts[0].lengths)
    keys = np.zeros(count, np.uint64)
    features = make_features(parts, Draws(keys, keys), data, vocabulary)
    batch = lay_out(features, np.arange(count), count, data, vocabulary)
    for stack, length in data.lengths.items():
        used = int((batch[f"{stack}_segment_ids"] > 0).any(axis=0).sum())
        kept = min(-(-max(used, 1) // ROUND) * ROUND, length)
        batch |= {n: x[:, :kept] for n, x in batch.items() if n.startswith(stack) and x.ndim == 2}
    if len(data.lengths) == 2:
        batch |= {name: x[::repeats] for name, x in batch.items() if name.startswith("encoder")}
    return batch


def _ragged(sequences: Sequence[np.ndarray]) -> Ragged:
    return Ragged(np.concatenate(sequences).astype(np.int32), np.array(list(map(len, sequences)), np.int64))


@functools.partial(jax.jit, static_argnames=("net", "most"))
def _scores(params: Params, features: dict[str, Array], net: Transformer, most: int) -> Float[Array, "prompts most"]:
    _, weights = targets_and_weights(features)
    likelihoods = jnp.sum(weights * log_probabilities(net, params, features, most), axis=1).reshape(-1, most)
    return shard(likelihoods, net.rules, None, None)  # whole on every process
