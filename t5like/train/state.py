"""Training's own part of a run: the optimizer of a network, and the state that steps change, in place on the mesh."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import NamedSharding, PartitionSpec

from t5like.config import Config
from t5like.model.network import Network, make_network
from t5like.model.sharding import AnyMesh, Params
from t5like.optim.average import averaging, with_average
from t5like.optim.depths import depths
from t5like.optim.groups import frozen_and_trained, own_params
from t5like.optim.optimizer import make_optimizer
from t5like.optim.placement import optimizer_shardings
from t5like.runs.checkpoints import State
from t5like.train.spikes import abstract_recent


@dataclass(frozen=True)
class Training:
    """The training of a network, before it has any numbers.

    `abstract` is the state as shapes and types that carry their shardings; `shardings` is the same tree of shardings.
    """

    network: Network
    optimizer: optax.GradientTransformation
    abstract: State
    shardings: State

    @property
    def config(self) -> Config:
        """The run's config."""
        return self.network.config

    @property
    def trained(self) -> Params:
        """The abstract parameters that steps change."""
        return frozen_and_trained(self.abstract.params, self.config.optimizer, self.config.model.lora)[1]

    @property
    def mesh(self) -> AnyMesh:
        """The mesh that the state lives on."""
        return self.network.mesh

    def evaluated(self, state: State) -> Params:
        """The parameters that are evaluated: the averages where `eval.ema` asks for them."""
        return with_average(state.params, state.opt_state) if self.config.eval.ema else state.params

    def initial_state(self) -> State:
        """The state of step 0, each shard computed where it lives."""
        return jax.jit(self._initial, out_shardings=self.shardings)()

    def state_from(self, params: Params) -> State:
        """The state of step 0 with these parameters, which stay where they are; those that are missing are initial."""
        given, shardings = flatten_dict(params, sep="/"), flatten_dict(self.shardings.params, sep="/")

        def rest(given: dict[str, Any]) -> State:
            initial = flatten_dict(self.network.init(), sep="/")
            missing = {path: leaf for path, leaf in initial.items() if path not in given}
            opt_state = self.optimizer.init(unflatten_dict(given | missing, sep="/"))
            return self._begun(missing, opt_state)

        missing = {path: leaf for path, leaf in shardings.items() if path not in given}
        state = jax.jit(rest, out_shardings=self.shardings._replace(params=missing))(given)
        return state._replace(params=unflatten_dict(given | state.params, sep="/"))

    def own(self, state: State) -> State:
        """The part of a state that checkpoints hold: with adapters none of the base's parameters."""
        return state._replace(params=own_params(state.params, self.config.model.lora))

    def _initial(self) -> State:
        params = self.network.init()
        return self._begun(params, self.optimizer.init(params))

    def _begun(self, params: Params, opt_state: optax.OptState) -> State:
        """The state of step 0, in which all but parameters and optimizer state is 0."""
        others = self.abstract._replace(params={}, opt_state=())
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), others)
        return zeros._replace(params=params, opt_state=opt_state)


def make_training(config: Config, mesh: AnyMesh) -> Training:
    """Network and optimizer of a run; call it, and all that uses it, under `jax.set_mesh(mesh)`.

    Raises:
      UserError: a dimension that the mesh does not divide.
    """
    network = make_network(config, mesh)
    settings, lora = config.optimizer, config.model.lora
    optimizer = make_optimizer(settings, config.train.steps, network.axes, lora, depths(config.model, network.axes))
    if config.train.ema is not None:
        optimizer = averaging(optimizer, config.train.ema, settings, lora)
    opt_state = jax.eval_shape(optimizer.init, network.params)
    placed = optimizer_shardings(opt_state, network.params, network.shardings, network.axes)
    whole, count = NamedSharding(mesh, PartitionSpec()), jax.ShapeDtypeStruct((), jnp.int32)
    recent = abstract_recent(config.train)
    shardings = State(whole, network.shardings, placed, whole, jax.tree.map(lambda _: whole, recent))
    abstract = State(count, network.params, opt_state, count, recent)
    with_shardings = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings)
    return Training(network, optimizer, with_shardings, shardings)
