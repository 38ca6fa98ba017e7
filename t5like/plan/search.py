"""The search for a run that fits, by trying: the largest batch with the cheapest remat, or the smallest slice.

Each try compiles the train step; the plan of what is found then tells whether the other programs fit too. Memory grows
with the rows that a device holds at once, so the largest batch of a policy is found by doubling and bisection; the
policies that compute less again are tried first, since they are faster, and a dearer one is taken only if it makes room
for a larger batch.
"""

import dataclasses
from collections.abc import Callable

from t5like.config import Config
from t5like.cost.devices import GIB
from t5like.errors import UserError
from t5like.model.sharding import row_parts
from t5like.plan.advice import REMAT
from t5like.plan.compiled import TooLarge, compile_program
from t5like.plan.placed import mesh_on, training_on
from t5like.plan.programs import TRAIN, Answers
from t5like.plan.topology import SLICES, Topology, slices_of

Say = Callable[[str], object]


def search(config: Config, where: Topology, kind: str, say: Say) -> tuple[Config, Topology]:
    """The config and topology that `--search batch` or `--search slice` ends with; each try is said.

    Raises:
      UserError: nothing fits, or there is nothing to search.
    """
    if not where.compiles:
        raise UserError(f"--search compiles each try, which {where.name} has no compiler for here: name a TPU slice.")
    return (
        (config, smallest_slice(config, where, say)) if kind == "slice" else (largest_batch(config, where, say), where)
    )


def smallest_slice(config: Config, where: Topology, say: Say) -> Topology:
    """The first slice of the topology's type, from the smallest up, that the config fits."""
    kind = where.name.partition(":")[0]
    if kind not in SLICES or where.slices > 1:
        raise UserError("--search slice needs one TPU slice: give --topology v5e:4x4 or another, without --slices.")
    for slice_ in slices_of(kind):
        try:
            if fits(config, slice_, say):
                return slice_
        except UserError as error:  # a mesh or a batch that so few or so many devices cannot hold
            say(f"{slice_.name}: {error}")
    raise UserError(f"No slice of {kind} holds this run: lower train.batch, or raise model.remat.")


def largest_batch(config: Config, where: Topology, say: Say) -> Config:
    """The config with the largest `train.batch` that fits, and the cheapest remat that has it."""
    found: Config | None = None
    policies, own = list(REMAT), config.model.remat
    policies = policies[policies.index(own) :] if own in policies else [own]
    for policy in policies:
        tried = dataclasses.replace(config, model=dataclasses.replace(config.model, remat=policy))
        start = rows_at_once(config, where) if found is None else 2 * found.train.batch
        found = _grow(tried, start, where, say) or found
    if found is None:
        raise UserError(
            f"Not even {rows_at_once(config, where)} rows fit {where.name}: --search slice finds one that does."
        )
    return found


def rows_at_once(config: Config, where: Topology) -> int:
    """The fewest rows of a step: one for each part that the rows are split into, and for each accumulated part."""
    return row_parts(config.rules, mesh_on(config, where)) * config.train.accumulate


def fits(config: Config, where: Topology, say: Say) -> bool:
    """True if the train step of a config fits a topology."""
    program = compile_program(training_on(config, where), where, False, Answers(), TRAIN)
    label = f"{where.name}, {config.train.batch:,} rows, remat {config.model.remat}"
    if isinstance(program, TooLarge):
        say(f"{label}: {program.needed / GIB:.2f} GiB of {program.available / GIB:.2f} do not fit")
        return False
    needed, usable = program.memory.total, where.device.memory if where.device else None
    fit = usable is None or needed <= usable
    say(f"{label}: {needed / GIB:.2f} GiB {'fit' if fit else 'do not fit'}")
    return fit


def _grow(config: Config, start: int, where: Topology, say: Say) -> Config | None:
    """The largest batch of one policy, a multiple of the fewest rows within a quarter of the true limit."""

    def with_batch(batch: int) -> Config:
        return dataclasses.replace(config, train=dataclasses.replace(config.train, batch=batch))

    unit, low, high = rows_at_once(config, where), 0, start
    while fits(with_batch(high), where, say):
        low, high = high, 2 * high
        if low >= 2**20:
            return with_batch(low)
    while low and high - low > max(unit, low // 4):
        middle = (low + high) // 2 // unit * unit
        if fits(with_batch(middle), where, say):
            low = middle
        else:
            high = middle
    return with_batch(low) if low else None
