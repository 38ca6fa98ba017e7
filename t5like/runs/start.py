"""The initialisation source of a run: the checkpoint of another that `train.init_from` or `train.branch_from` names.

Its parameters fit if they are of the same model and its token ids mean the same pieces. Heads may come and go, and have
other labels, but not where the whole state is taken. All of it is checked before data is prepared, as far as it is
known by then.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from t5like import config
from t5like.config import Config, Data, presets
from t5like.config.conditions import effective
from t5like.data.vocabulary import Bytes, Vocabulary, load_pieces, make_vocabulary, open_vocabulary
from t5like.errors import UserError
from t5like.model.adapters import is_adapter
from t5like.model.network import Network
from t5like.optim.groups import group_of, is_own
from t5like.runs.base import base_of
from t5like.runs.changes import UNTRAINED, Changes, branch_changes, differences, is_other_text, listed
from t5like.runs.checkpoints import Checkpoints, DamagedCheckpointError
from t5like.runs.damage import with_good
from t5like.runs.directory import RunDirectory, named_checkpoint, relocated
from t5like.runs.shapes import first_difference, shapes_of
from t5like.storage import is_remote, path_of

BODY = ("embedding", "positions", "token_types", "embedding_norm", "encoder", "decoder")
"""First names of the parameters that every model of a kind has; all others are those of heads, which runs may add and
leave out."""
SCORES = ("head/kernel", "head/bias")
"""Parameters of all heads of labels; those of one kind of labels mean nothing to another."""


class Start(NamedTuple):
    """A checkpoint of another run, with whose parameters a run starts, or with its whole state."""

    run: RunDirectory
    step: int
    whole: bool = False
    why: str = ""
    """The reason of the step, if the run has a best one."""

    @property
    def field(self) -> str:
        """The field of the config that names it."""
        return "branch_from" if self.whole else "init_from"


class InitSource(NamedTuple):
    """The checkpoint that a run is initialised from: parameters of heads and of adapters that only the run has are
    `new`, those of heads that only the checkpoint has are `left_out`, with the decoder where the run has an encoder
    alone. Those that both have, but of another head or of other labels, are `replaced`: they begin anew."""

    start: Start
    new: list[str]
    left_out: list[str]
    replaced: list[str]

    def __str__(self) -> str:
        return str(self.start.run.checkpoints / str(self.start.step))

    def differences(self, config: Config) -> Iterator[str]:
        """A line for each kind of difference that the source has from the run."""
        run = self.start.run
        if config.data.vocabulary.path == str(run.vocabulary):
            yield f"The vocabulary is that of {run.path}."
        if heads := [path for path in self.new if not is_adapter(path)]:
            yield f"Not in {run.path}, so with initial values: {', '.join(heads)}."
        if self.left_out:
            names = dict.fromkeys("the decoder" if _is_of_decoder(path) else path for path in self.left_out)
            yield f"Only in {run.path}, so left out: {', '.join(names)}."
        if self.replaced:
            yield f"Of another head in {run.path}, so with initial values: {', '.join(self.replaced)}."
        if changed := self.changed(config):
            yield f"Otherwise than in {run.path}: {listed(changed)}."

    def changed(self, config: Config) -> Changes:
        """The differences from the run of the source that matter: those of the model, or all of a branch."""
        if self.start.whole:
            return branch_changes(self.start.run, config)
        changed = differences(self.start.run, config).items()
        own = (*UNTRAINED, *(name for name, _ in changed if name.startswith("model.lora.")))
        return {name: pair for name, pair in changed if name.startswith("model.") and name not in own}


def find_start(config: Config) -> Start:
    """The checkpoint that `train.init_from` or `train.branch_from` names.

    Raises:
      UserError: it is the run's own directory, no run directory, or there is no such checkpoint.
    """
    whole, named = bool(config.train.branch_from), config.train.branch_from or config.train.init_from
    given, (run, step) = f"train.{'branch_from' if whole else 'init_from'}={named}", named_checkpoint(named)
    if run.path.resolve() == path_of(config.train.directory).resolve():
        raise UserError(f"{given} is the run's own directory: choose another train.directory, or leave it out.")
    if not (run.path / presets.FILE).is_file():
        raise UserError(f"{given} is not a run directory: {run.path} has no {presets.FILE}.")
    if not (steps := run.steps()):
        raise UserError(f"{given} holds no checkpoint: train there first, or name another run.")
    if step is not None and step not in steps:
        raise UserError(f"{given} is not there: {run.path} has checkpoints of the steps {', '.join(map(str, steps))}.")
    if not whole and run.config().model.lora.rank:
        raise UserError(
            f"{given} holds adapters alone: name {base_of(run).path}, or make one run of both by `t5like export "
            f"{run.path} FOLDER` and `t5like import FOLDER RUN`."
        )
    with Checkpoints(run.checkpoints) as checkpoints:
        # One that is named is checked when it is read.
        check = checkpoints.require_whole if step is None else lambda step: None
        (step, why), _ = with_good(run, run.config().train.best, step, check)
    return Start(run, step, whole, why)


def check_start(run: RunDirectory, config: Config) -> Start | None:
    """The checkpoint that a new run starts with, if any; checked before anything is written.

    Raises:
      UserError: the run's own newest checkpoint has no optimizer state, or `train.init_from` names no checkpoint, or
        one of another vocabulary, as far as that is known before data is prepared, or none where there are adapters.
    """
    if run.exists() and (steps := run.steps()):
        with Checkpoints(run.checkpoints) as checkpoints:
            for step in reversed(steps):
                with contextlib.suppress(DamagedCheckpointError):
                    checkpoints.require_optimizer_state(step)
                    break
        return None
    if not (config.train.init_from or config.train.branch_from):
        if rank := config.model.lora.rank:
            raise UserError(
                f"model.lora.rank={rank} adapts a model that is there: name its run by train.init_from=RUN, or set "
                "model.lora.rank=0."
            )
        return None
    start = find_start(config)
    check_vocabulary_early(start, config.data)
    return start


def find_source(start: Start, network: Network) -> InitSource:
    """Compare the parameters of the checkpoint with those of the run.

    Raises:
      UserError: they differ in more than parameters of heads, and a decoder of the source.
    """
    with Checkpoints(start.run.checkpoints) as checkpoints:
        there = checkpoints.param_shapes(start.step)
    lora = network.config.model.lora
    here = {path: shape for path, shape in shapes_of(network.params).items() if not start.whole or is_own(path, lora)}
    both, keys = here.keys() & there.keys(), ({*here} - {*there}, {*there} - {*here})
    new, left_out = ([], []) if start.whole else map(_heads, keys)
    same_head = network.config.model.head == start.run.config().model.head
    replaced = [path for path in _heads(both) if here[path] != there[path] or (path in SCORES and not same_head)]
    replaced = [] if start.whole else replaced
    if network.config.model.family == "encoder" and not start.whole:
        left_out = sorted({*left_out, *filter(_is_of_decoder, there)})
    if fixed := [path for path in new + replaced if not is_own(path, lora)]:
        has = f"{start.run.path} has {'another' if fixed[0] in replaced else 'no'} {fixed[0]}"
        part = group_of(fixed[0])
        raise UserError(f"{has}, which would keep its initial values: add {part} to model.lora.train.")
    shared = [{p: shape for p, shape in tree.items() if p not in new + left_out + replaced} for tree in (there, here)]
    if difference := first_difference(*shared):
        changed = {n: p for n, p in differences(start.run, network.config).items() if n.startswith("model.")}
        remedy = f"set model.* to the same as there{': ' if changed else ''}{listed(changed)}"
        given = getattr(network.config.train, start.field)
        raise UserError(f"train.{start.field}={given} does not fit: {difference}; {remedy}.")
    return InitSource(start, new, left_out, replaced)


def _is_of_decoder(path: str) -> bool:
    return path.startswith("decoder/")


def _heads(paths: Iterable[str]) -> list[str]:
    return sorted(path for path in paths if path.split("/")[0] not in BODY or is_adapter(path))


def check_vocabulary_early(start: Start, data: Data) -> None:
    """Raise the error of `require_vocabulary` before data is prepared, where it is already certain, so that a mistake
    costs seconds and not hours."""
    settings, store = data.vocabulary, path_of(data.store)
    file = path_of(settings.path)
    if settings.kind == "bytes":
        require_vocabulary(start, make_vocabulary(Bytes(), settings), settings)
    elif settings.path and file.exists():
        require_vocabulary(start, make_vocabulary(load_pieces(file, settings.lowercase), settings), settings)
    elif not (settings.path or is_remote(store) or store.exists()) and is_other_text(data, _data_of(start.run)):
        raise UserError(_other_vocabulary(start, "would be learned here", settings))


def _data_of(run: RunDirectory) -> Data:
    return relocated(run.config(), str(run.path)).data


def require_vocabulary(start: Start, vocabulary: Vocabulary, given: config.Vocabulary) -> None:
    """Raises `UserError` if a token id means another piece in the run that this one starts from; `given` are the
    settings of the config, which the sentence corrects."""
    there = open_vocabulary(start.run.vocabulary)
    shared = there.special.keys() & vocabulary.special.keys()
    if there.hash != vocabulary.hash or any(there.special[name] != vocabulary.special[name] for name in shared):
        raise UserError(_other_vocabulary(start, "this run's", given))


def _other_vocabulary(start: Start, whose: str, given: config.Vocabulary) -> str:
    """A sentence: the vocabulary is another one than the source's, and the settings that make it the same."""
    there = open_vocabulary(start.run.vocabulary)
    extra = [name for name in there.special if name not in there.pieces.special and not name.startswith("<extra_id_")]
    sentinels = len(there.sentinels)
    if isinstance(there.pieces, Bytes):
        settings = {"kind": "bytes", "size": there.pieces.size}
    else:
        settings = {"kind": "file", "path": start.run.vocabulary, "size": there.size - len(extra) - sentinels}
    settings |= {"sentinels": sentinels, "extra": " ".join(extra) or ()}
    used = effective(config.Vocabulary, vars(given) | settings)
    defaults = {field.name: field.default for field in dataclasses.fields(given)}
    settings |= {n: defaults[n] for n, value in vars(given).items() if n not in used and value != defaults[n]}
    remedy = ", ".join(f"data.vocabulary.{name}={value}" for name, value in settings.items())
    return f"{start.run.path} has another vocabulary than {whose}: set {remedy}."
