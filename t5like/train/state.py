"""What training changes, and where it lives: step, parameters and optimizer state, made in place on the mesh."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import NamedSharding, PartitionSpec

from t5like.config import Config
from t5like.model.sharding import AnyMesh, require_divided, shardings
from t5like.model.transformer import Transformer
from t5like.train.groups import path_name
from t5like.train.optimizer import make_optimizer
from t5like.train.placement import optimizer_shardings


class State(NamedTuple):
    """A run at one step (an int32 scalar). The data's whole state is `step` too: rows are addressed by number."""

    step: Any
    params: Any
    opt_state: Any


@dataclass(frozen=True)
class Plan:
    """Everything about a run that is known before it has any numbers.

    `abstract` is the state as shapes and types that carry their shardings; `shardings` is the same tree of shardings.
    """

    config: Config
    mesh: AnyMesh
    net: Transformer
    optimizer: optax.GradientTransformation
    abstract: State
    shardings: State

    def initial_state(self) -> State:
        """The state of step 0, each shard computed where it lives."""
        return jax.jit(lambda: _initial(self.config, self.net, self.optimizer), out_shardings=self.shardings)()

    def state_from(self, params: Any) -> State:
        """The state of step 0 with these parameters, which stay where they are; those that are missing are initial."""
        given, places = flatten_dict(params, sep="/"), flatten_dict(self.shardings.params, sep="/")

        def rest(given: dict[str, Any]) -> tuple[jax.Array, dict[str, Any], optax.OptState]:
            initial = flatten_dict(nn.unbox(_boxed_params(self.config, self.net)), sep="/")
            missing = {path: leaf for path, leaf in initial.items() if path not in given}
            return jnp.zeros((), jnp.int32), missing, self.optimizer.init(unflatten_dict(given | missing, sep="/"))

        missing = {path: place for path, place in places.items() if path not in given}
        shardings = self.shardings.step, missing, self.shardings.opt_state
        step, missing, opt_state = jax.jit(rest, out_shardings=shardings)(given)
        return State(step, unflatten_dict(given | missing, sep="/"), opt_state)


def plan_run(config: Config, mesh: AnyMesh) -> Plan:
    """Shapes, shardings, network and optimizer of a run; call it, and all that follows, under `jax.set_mesh(mesh)`.

    Raises:
      UserError: a dimension that the mesh does not divide.
    """
    for stack, length in config.data.lengths.items():
        require_divided(f"A row of the {stack}", "length", length, config.rules, mesh)
    require_divided("Attention", "act_heads", config.model.heads, config.rules, mesh)
    net = Transformer(config.model, config.rules)
    boxed = jax.eval_shape(lambda: _boxed_params(config, net))
    axes = {path_name(path): box.names for path, box in jax.tree_util.tree_leaves_with_path(boxed, is_leaf=_is_box)}
    optimizer = make_optimizer(config.optimizer, config.train.steps, axes)
    abstract = jax.eval_shape(lambda: _initial(config, net, optimizer))
    places = shardings(boxed, config.rules, mesh)
    whole = NamedSharding(mesh, PartitionSpec())
    placed = State(whole, places, optimizer_shardings(abstract.opt_state, abstract.params, places, axes))
    with_shardings = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, placed)
    return Plan(config, mesh, net, optimizer, with_shardings, placed)


def abstract_batch(config: Config, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Names, shapes and types of the features that the config's objective makes of `rows` rows."""
    features = {}
    for stack, length in config.data.lengths.items():
        for name in ("input_tokens", "segment_ids", "positions"):
            features[f"{stack}_{name}"] = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    predicting, length = list(config.data.lengths.items())[-1]
    features[f"{predicting}_target_tokens"] = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    features[f"{predicting}_loss_weights"] = jax.ShapeDtypeStruct((rows, length), jnp.float32)
    if config.data.objective.kind == "next_sentence":
        features["encoder_token_types"] = features["encoder_input_tokens"]
        features["labels"] = jax.ShapeDtypeStruct((rows,), jnp.int32)
    return features


def _boxed_params(config: Config, net: Transformer) -> Any:
    shapes = abstract_batch(config, config.train.batch)
    batch = {name: jnp.zeros(feature.shape, feature.dtype) for name, feature in shapes.items()}
    return net.init(jax.random.key(config.train.seed), batch, method=Transformer.scores)["params"]


def _initial(config: Config, net: Transformer, optimizer: optax.GradientTransformation) -> State:
    params = nn.unbox(_boxed_params(config, net))
    return State(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def _is_box(leaf: Any) -> bool:
    return isinstance(leaf, nn.LogicallyPartitioned)
