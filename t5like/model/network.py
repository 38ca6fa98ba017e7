"""A network on a mesh: shapes, shardings and module of a config's model, before it has any numbers."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from t5like.config import Config
from t5like.data.features import features_of
from t5like.model.sharding import AnyMesh, Params, require_divided, shardings
from t5like.model.transformer import Transformer


@dataclass(frozen=True)
class Network:
    """The module of a model, and its parameters as shapes and types.

    `params` is the tree of parameters, each a `jax.ShapeDtypeStruct` with its sharding on `mesh`; `axes` has the names
    of the dimensions of each by its path, such as `decoder/blocks/self/query`.
    """

    config: Config
    mesh: AnyMesh
    net: Transformer
    params: Params
    axes: dict[str, tuple[str, ...]]

    @property
    def parameter_count(self) -> int:
        """The number of parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    @property
    def inference_net(self) -> Transformer:
        """The module for single tokens and texts of any length, neither of which can be split over devices."""
        return Transformer(self.config.model, dataclasses.replace(self.config.rules, length=()))

    @property
    def shardings(self) -> Params:
        """The sharding of each parameter."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.params)

    def init(self) -> Params:
        """The initial parameters of `train.seed`, float32; to be jitted with `shardings`."""
        return nn.unbox(_initialise(self.config, self.net))

    def initial_params(self) -> Params:
        """The initial parameters, each shard computed where it lives."""
        return jax.jit(self.init, out_shardings=self.shardings)()


def make_network(config: Config, mesh: AnyMesh) -> Network:
    """The network of a config; call it, and all that uses it, under `jax.set_mesh(mesh)`.

    Raises:
      UserError: a dimension that the mesh does not divide.
    """
    for stack, length in config.data.lengths.items():
        require_divided(f"A row of the {stack}", "length", length, config.rules, mesh)
    require_divided("Attention", "act_heads", config.model.heads, config.rules, mesh)
    net = Transformer(config.model, config.rules)
    boxed = jax.eval_shape(lambda: _initialise(config, net))
    axes = {path_name(path): box.names for path, box in jax.tree_util.tree_leaves_with_path(boxed, is_leaf=_is_box)}
    params = jax.tree.map(_placed, nn.unbox(boxed), shardings(boxed, config.rules, mesh))
    return Network(config, mesh, net, params, axes)


def abstract_batch(config: Config, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of the features of `rows` rows."""
    features = features_of(config.data).items()
    return {name: jax.ShapeDtypeStruct((rows, *feature.shape), feature.dtype) for name, feature in features}


def path_name(path: Any) -> str:
    """`decoder/blocks/self/query` for a key path of the parameters."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _placed(leaf: Any, sharding: jax.sharding.NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _initialise(config: Config, net: Transformer) -> Any:
    features = abstract_batch(config, config.train.batch).items()
    return _boxed(net, config.train.seed, tuple((name, f.shape, f.dtype) for name, f in features))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))  # so that shapes and numbers of a network are traced once
def _boxed(net: Transformer, seed: int, features: tuple[tuple[str, tuple[int, ...], np.dtype], ...]) -> Any:
    batch = {name: jnp.zeros(shape, dtype) for name, shape, dtype in features}
    return net.init(jax.random.key(seed), batch, method=Transformer.scores)["params"]


def _is_box(leaf: Any) -> bool:
    return isinstance(leaf, nn.LogicallyPartitioned)
