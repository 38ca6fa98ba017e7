"""Two runs of one config compared bit for bit: checkpoints, metrics of each step, evaluations, events, rows."""

import collections
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Collection, Iterator
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from t5like.config import Config
from t5like.data.rows.stream import Rows
from t5like.data.vocabulary import open_vocabulary
from t5like.drill import watch
from t5like.model.network import path_name
from t5like.runs.directory import RunDirectory
from t5like.storage import etils_path

Aspect = Literal["parameters", "optimizer", "metrics", "evaluations", "events", "rows", "lost", "ending"]
COMPARED: tuple[Aspect, ...] = ("parameters", "optimizer", "metrics", "evaluations", "events", "rows")
Complaint = tuple[Aspect, str]
TIMING, EVALUATION = "timing/", "eval/"
"""Beginnings of the names of figures: those that the clock gives are not compared."""
Bits = tuple[str, tuple[int, ...], bytes]
"""Type, shape and hash of an array."""


@dataclasses.dataclass(frozen=True)
class Undisturbed:
    """The run that all others are compared with; what is read of it is kept."""

    path: pathlib.Path
    arrays: dict[int, dict[str, Bits]] = dataclasses.field(default_factory=dict)
    rows: dict[int, bytes] = dataclasses.field(default_factory=dict)

    def arrays_of(self, step: int) -> dict[str, Bits]:
        """The arrays of a checkpoint."""
        if step not in self.arrays:
            self.arrays[step] = arrays_of(self.path / "checkpoints" / str(step))
        return self.arrays[step]

    def rows_of(self, step: int) -> bytes:
        """The hash of the batch of a step."""
        if step not in self.rows:
            self.rows.update(hashes_of_rows(self.path, [step]))
        return self.rows[step]


def arrays_of(checkpoint: pathlib.Path) -> dict[str, Bits]:
    """Each array of a checkpoint's state by its path, such as `params/decoder/norm/scale`."""
    handler = ocp.PyTreeCheckpointHandler()
    with ocp.Checkpointer(handler) as reader:
        described: Any = reader.metadata(checkpoint / "state")
        shapes = described.item_metadata.tree
        asked = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        args: Any = ocp.args  # their fields are not known to type checkers
        state = reader.restore(checkpoint / "state", args=args.PyTreeRestore(restore_args=asked))
    found = jax.tree_util.tree_leaves_with_path(state)
    return {path_name(path): _bits(np.asarray(leaf)) for path, leaf in found}


def _bits(array: np.ndarray) -> Bits:
    return str(array.dtype), array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()


def hashes_of_rows(run: pathlib.Path, steps: Collection[int]) -> dict[int, bytes]:
    """The hashes of the batches of steps, counted from 1, as the run's own config, store and vocabulary make them."""
    config: Config = RunDirectory(run).config()
    rows = Rows(config.data, open_vocabulary(etils_path(run / "vocabulary")), "train")
    found = {}
    for step in steps:
        numbers = (step - 1) * config.train.batch + config.train.row_offset + np.arange(config.train.batch)
        digest = hashlib.sha256()
        for name, array in sorted(rows(numbers).items()):
            digest.update(f"{name} {array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
        found[step] = digest.digest()
    return found


def complaints(undisturbed: Undisturbed, run: pathlib.Path, forgiven: Collection[int] = ()) -> list[Complaint]:
    """The differences of a run that was disturbed and has ended. The lines of the steps `forgiven` were damaged on
    purpose, and need not be there."""
    return [
        *_of_checkpoints(undisturbed, run),
        *of_metrics(_figures(undisturbed.path), _figures(run), forgiven),
        *of_events(watch.records(undisturbed.path / "events.jsonl"), watch.records(run / "events.jsonl")),
        *_of_rows(undisturbed, run),
    ]


def _of_checkpoints(undisturbed: Undisturbed, run: pathlib.Path) -> Iterator[Complaint]:
    """Compare the last checkpoint, and all others that both runs have kept."""
    before, now = watch.saved(undisturbed.path), watch.saved(run)
    if now[-1:] != before[-1:]:
        yield "parameters", f"the newest checkpoint is {now[-1:]}, not {before[-1:]}"
    for step in sorted({*before} & {*now}):
        left, right = undisturbed.arrays_of(step), arrays_of(run / "checkpoints" / str(step))
        for path in sorted(left.keys() | right.keys()):
            if left.get(path) != right.get(path):
                aspect: Aspect = "parameters" if path.startswith("params") else "optimizer"
                yield aspect, f"{path} of step {step} differs"
                break


class Figures(NamedTuple):
    """Of each step its lines of figures, in the order of the log; and the steps in this order."""

    lines: dict[int, list[dict[str, Any]]]
    order: list[int]


def _figures(run: pathlib.Path) -> Figures:
    lines, order = collections.defaultdict(list), []
    for record in watch.records(run / "metrics.jsonl"):
        values = {name: value for name, value in record.items() if not name.startswith(TIMING)}
        if isinstance(step := values.pop("step", None), int) and values:
            lines[step].append(values)
            order.append(step)
    return Figures(lines, order)


def of_metrics(before: Figures, now: Figures, forgiven: Collection[int]) -> Iterator[Complaint]:
    """Compare the lines of each step, those of evaluations apart."""
    if now.order != sorted(now.order):
        yield "metrics", "the steps of metrics.jsonl do not ascend"
    for aspect in ("metrics", "evaluations"):
        wrong = {}
        for step in sorted(before.lines.keys() | now.lines.keys()):
            left, right = (
                [line for line in part.lines.get(step, []) if kind(line) == aspect] for part in (before, now)
            )
            texts = [[json.dumps(line, sort_keys=True) for line in lines] for lines in (left, right)]
            lacks = step in forgiven and set(texts[1]) <= set(texts[0])
            if texts[0] != texts[1] and not lacks:
                wrong[step] = _difference(left, right)
        if wrong:
            step = min(wrong)
            more = f" and {len(wrong) - 1} later ones" if len(wrong) > 1 else ""
            yield aspect, f"those of step {step}{more} differ: {wrong[step]}"


def kind(line: dict[str, Any]) -> Aspect:
    """The aspect that a line of metrics belongs to."""
    return "evaluations" if any(name.startswith(EVALUATION) for name in line) else "metrics"


def _difference(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> str:
    """The first difference of two lists of lines in words."""
    if len(left) != len(right):
        return f"there are {len(right)} lines, not {len(left)}"
    for one, other in zip(left, right, strict=True):
        for name in one.keys() | other.keys():
            if one.get(name) != other.get(name):
                return f"{name} is {other.get(name)}, not {one.get(name)}"
    return "their order"


def of_events(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> Iterator[Complaint]:
    """Hold the events of a disturbed run to what they promise: a step that was said to be saved is there, a run that a
    signal stopped goes on from there, it ends once, as the undisturbed one did, and saves all that this one saved."""
    newest = 0
    for number, event in enumerate(now):
        step = event.get("step", 0)
        match event.get("event"):
            case "saved" | "preempted":
                newest = max(newest, step)
            case "damaged":
                newest = 0
            case "started" | "resumed" if step < newest:
                yield "events", f"{event['event']} at step {step}, after {newest} was said to be saved"
            case "finished" if number != len(now) - 1:
                yield "events", f"finished at step {step}, before other events"
    ends = [[_timeless(event) for event in events if event.get("event") == "finished"] for events in (before, now)]
    if ends[0] != ends[1]:
        yield "events", f"its end is {ends[1]}, not {ends[0]}"
    steps = {event["step"] for event in before if event.get("event") == "saved"}
    known = {event["step"] for event in now if event.get("event") in ("saved", "save_failed", "resumed")}
    if missing := sorted(steps - known):  # a kill may come between a commit and its event
        yield "events", f"no event says that {', '.join(map(str, missing))} was saved"


def _timeless(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "time"}


def _of_rows(undisturbed: Undisturbed, run: pathlib.Path) -> Iterator[Complaint]:
    """Compare the batches of the steps that the run began with each time, and of its last."""
    events = watch.records(run / "events.jsonl")
    begun = {event["step"] + 1 for event in events if event.get("event") in ("started", "resumed")}
    last = RunDirectory(run).config().train.steps
    for step, found in hashes_of_rows(run, sorted({step for step in begun if step <= last} | {last})).items():
        if found != undisturbed.rows_of(step):
            yield "rows", f"those of step {step} differ"
