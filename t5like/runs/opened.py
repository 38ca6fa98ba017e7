"""An opened run, as later commands use it: its config, vocabulary and parameters, restored onto the devices at hand.

The optimizer state is not read, so that a run that was imported, which has none, serves as one that was trained.
"""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import jax

from t5like.config import Config, Data, Lora
from t5like.config.training import Step
from t5like.data.objectives import trained_frame
from t5like.data.vocabulary import Frame, Vocabulary, open_vocabulary
from t5like.data.vocabulary.hugging_face import HuggingFace
from t5like.errors import UserError
from t5like.model.adapters import merged
from t5like.model.network import Network, make_network
from t5like.model.sharding import Params, make_mesh
from t5like.optim.groups import own_params
from t5like.processes.distributed import run_on_primary
from t5like.runs.base import with_base
from t5like.runs.changes import is_other_text
from t5like.runs.checkpoints import Checkpoints
from t5like.runs.damage import with_good
from t5like.runs.directory import RunDirectory, kept_vocabulary, relocated
from t5like.storage import path_of
from t5like.xla import keep_programs


@dataclass(frozen=True)
class Restored:
    """A checkpoint of a run. Use it within the `open_run` that made it, which sets the mesh."""

    run: RunDirectory
    network: Network
    vocabulary: Vocabulary
    step: int
    params: Params
    why: str = ""
    """The reason of the step, such as `the best loss, 2.31`; empty where it is the newest of a run without a best one,
    or was asked for."""

    @property
    def of_step(self) -> str:
        """The run and the step, with its reason, as part of a sentence."""
        return f"{self.run.path}, step {self.step:,}{f' ({self.why})' if self.why else ''}"

    @property
    def config(self) -> Config:
        """The run's config, with the changes of the command line."""
        return self.network.config

    @property
    def frame(self) -> Frame:
        """The frame of a prompt: the imported folder's, or that of texts in the rows that the run was trained on."""
        if self.vocabulary.frame is not None:
            return self.vocabulary.frame
        pieces = self.vocabulary.pieces
        if self.run.import_record.is_file() and isinstance(pieces, HuggingFace):  # imported before frames were kept
            return pieces.frame
        return trained_frame(self.config.data, self.vocabulary)


@contextlib.contextmanager
def open_run(config: Config, step: Step = None) -> Iterator[Restored]:
    """Restore the best checkpoint of the config's run directory, the newest where `train.best` is empty, or the one
    that `step` asks for, onto the config's mesh; with `eval.ema`, the averaged parameters.

    Raises:
      UserError: no such run, checkpoint or vocabulary, or a config that the checkpoint does not fit.
    """
    run = RunDirectory(path_of(config.train.directory))
    run.config()
    mesh = make_mesh(config.mesh)
    keep_programs(config.train.compilation_cache, mesh)
    with jax.set_mesh(mesh):
        vocabulary = open_vocabulary(run.vocabulary)
        network = make_network(config, mesh)
        own = own_params(network.params, config.model.lora)
        with Checkpoints(run.checkpoints, vocabulary_hash=vocabulary.hash) as checkpoints:
            read = functools.partial(_params, checkpoints, config, own)
            (step, why), params = with_good(run, config.train.best, step, read)
        if config.eval.ema:
            why = f"{why}, averaged".removeprefix(", ")
        if config.model.lora.rank:
            params = with_base(params, network.params, run, config)
        yield Restored(run, network, vocabulary, step, params, why)


def _params(checkpoints: Checkpoints, config: Config, own: Params, step: int) -> Params:
    """The parameters of a step, or the averaged ones."""
    if config.eval.ema:
        return checkpoints.restore_averaged(own, config.optimizer, config.model.lora, step)[1]
    return checkpoints.restore_params(own, step)[1]


def with_merged_adapters(restored: Restored) -> Restored:
    """The run as one without adapters, which are added to the matrices that they belong to."""
    config, lora = restored.config, restored.config.model.lora
    if not lora.rank:
        return restored
    plain = dataclasses.replace(config, model=dataclasses.replace(config.model, lora=Lora()))
    network = make_network(plain, restored.network.mesh)
    params = jax.jit(functools.partial(merged, lora=lora), out_shardings=network.shardings)(restored.params)
    return dataclasses.replace(restored, network=network, params=params)


def note_on_text(run: RunDirectory, data: Data) -> str:
    """A sentence on the text of an imported run that was given none; empty for others."""
    if not run.import_record.is_file() or data.sources != Data(store=data.store).sources:
        return ""
    return (
        f"{run.path} was imported without text, so Python's own library is its held-out text; give other text by "
        "--data.sources.0.kind text --data.sources.0.path FILES --data.store FOLDER."
    )


def prepare_store(restored: Restored) -> None:
    """Prepare the store of the config where it is missing, as training does.

    Other text than the run was trained on gets the vocabulary that the run keeps: none is learned anew.

    Raises:
      UserError: the store cannot be prepared, or holds tokens of another vocabulary than the run's.
    """
    from t5like.data.prepare import prepare  # most commands that open a run prepare nothing

    run, data = restored.run, restored.config.data
    settings = data.vocabulary
    at_hand = settings.kind == "bytes" or (settings.path and path_of(settings.path).exists())
    if not at_hand and is_other_text(data, relocated(run.config(), str(run.path)).data):
        settings = kept_vocabulary(settings, str(run.vocabulary.resolve()))
        data = dataclasses.replace(data, vocabulary=settings)
    report = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    if note := note_on_text(run, data):
        report(note)
    vocabulary = run_on_primary("prepare the data", lambda: prepare(data, report)) or prepare(data, report)
    if vocabulary.hash != restored.vocabulary.hash:
        raise UserError(
            f"{data.store} holds tokens of another vocabulary than {run.path}'s: choose another data.store."
        )
