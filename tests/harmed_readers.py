"""Every reader of files that others may have written or damaged, with a whole file for each, to be harmed.

A reader gives what it read, or one sentence. Of a `guarded` file, which has a checksum or a hash, it gives what was
written or nothing.
"""

import dataclasses
import functools
import gzip
import io
import json
import pathlib
import random
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jaxtyping
import numpy as np
from beartype.roar import BeartypeCallHintViolation
from etils import epath
from harms import harmed
from preparations import settings
from small import small_config
from torch_format import View, literal, program, write_row, write_zip

from t5like import config
from t5like.commands.output import resumed
from t5like.config import presets
from t5like.convert.families import family_of, model_in
from t5like.convert.files import open_weights
from t5like.convert.kept_fields import kept_kind
from t5like.convert.pickles import open_pickle
from t5like.convert.settings import read_settings
from t5like.convert.t5x import t5x_model
from t5like.convert.t5x_files import open_t5x
from t5like.convert.tokenizer import read_tokenizer
from t5like.data import sources
from t5like.data.packing.pack_table import PackTable, make_tables
from t5like.data.prepare import prepare
from t5like.data.prepare.begin import grows_still
from t5like.data.prepare.inputs import described, prepared
from t5like.data.prepare.job import Job
from t5like.data.prepare.plan import check_plan
from t5like.data.prepare.tokenise import tokenise
from t5like.data.statistics import as_text, pack_tables
from t5like.data.store import Store
from t5like.data.vocabulary import Vocabulary, load_pieces, open_vocabulary
from t5like.errors import UserError
from t5like.infer.constraints import read_constraints, read_defaults
from t5like.json_files import CHECKSUM, json_object, sealed
from t5like.runs.base import Base, base_of, keep_base
from t5like.runs.best import evaluations
from t5like.runs.directory import RunDirectory
from t5like.runs.lines import drop_lines, read_lines
from t5like.runs.rows import keep_rows, knows_rows

GOLDEN = pathlib.Path(__file__).parent / "golden"
NUMBERS = {"0": np.arange(24, dtype=np.float32)}
VIEWS = {"a": View("0", 0, (4, 6), (6, 1)), "b": View("0", 3, (2, 3), (1, 6))}


class Reader(NamedTuple):
    """A file, and what reads it."""

    file: pathlib.Path
    read: Callable[[], object]
    guarded: bool = False


class Outcome(NamedTuple):
    """What a reader did with a harmed file: it refused it with a sentence, or read the same as before or another."""

    refused: bool
    same: bool
    sentence: str = ""


def outcomes(reader: Reader, seeds: Iterator[int]) -> Iterator[Outcome]:
    """What a reader does with its file after the harm of each seed. What it raises but a sentence is a fault."""
    whole = reader.file.read_bytes()
    expected = reader.read()
    for seed in seeds:
        content = harmed(whole, random.Random(seed))
        reader.file.write_bytes(content)
        try:
            found, outcome = reader.read(), None
        except UserError as error:
            outcome = Outcome(True, False, str(error))
        except (jaxtyping.TypeCheckError, BeartypeCallHintViolation):
            # In tests annotations are checked before all else; `benchmarks/fuzz.py` tries the readers' own checks.
            outcome = Outcome(True, False, "A value is of another type.")
        except BaseException as error:
            error.add_note(f"{reader.file.name}, seed {seed}")
            raise
        if outcome is None:
            outcome = Outcome(False, found == expected)
        reader.file.write_bytes(whole)
        yield outcome


def readers(folder: pathlib.Path) -> dict[str, Reader]:
    """All readers by name; their files are made in a folder."""
    made = {**_of_runs(folder / "run"), **_of_stores(folder / "data"), **_of_folders(folder), **_of_weights(folder)}
    return made | _of_sources(folder / "sources") | _of_t5x(folder / "t5x")


def _of_runs(folder: pathlib.Path) -> dict[str, Reader]:
    run, metrics = RunDirectory(folder), folder / "metrics.jsonl"
    folder.mkdir()
    presets.write(small_config("t5"), folder)
    keep_base(run, Base("runs/base", 100, "ab" * 32))
    lines = [{"step": step, "loss": 1.5} | ({"eval/loss": 2.0} if step % 5 == 0 else {}) for step in range(1, 41)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    metrics.write_text(text)
    (folder / "import.json").write_text(json.dumps({"from": "X", "model_type": "t5", "unused": {}, "non_finite": []}))

    def resume() -> object:
        drop_lines(metrics, lambda record: record["step"] <= 30)
        return [evaluations(run, "loss", 30), len(read_lines(metrics))]

    answers = folder / "answers.jsonl"
    made_from = {"prompts": ["a", "b"], "options": {"top": 3}}
    with resumed(str(answers), made_from, overwrite=False) as opened:
        opened.put(0, {"text": "a"})
        opened.put(2, {"text": "c"})
    beside = [answers, answers.with_name("answers.jsonl.waiting")]
    kept = [file.read_bytes() for file in beside]

    def go_on() -> object:
        with resumed(str(answers), made_from, overwrite=False) as opened:
            known = [opened.known(number) for number in range(4)]
        for file, content in zip(beside, kept, strict=True):
            if not file.exists():
                file.write_bytes(content)
        return known

    vocabularies: dict[str, Reader] = {}
    for name, file in (("t5_1_1", "spiece.model"), ("llama", "tokenizer.json")):
        place = folder / name
        Vocabulary(load_pieces(GOLDEN / name)).save(place)
        read = functools.partial(lambda place: _described(open_vocabulary(place)), place)
        vocabularies |= {f"{file} of a run": Reader(place / file, read, True)}
        vocabularies |= {f"vocabulary.json ({name})": Reader(place / "vocabulary.json", read, True)}
    return {
        "config.json": Reader(folder / "config.json", lambda: presets.read(folder)),
        "base.json": Reader(run.base, lambda: base_of(run), True),
        "import.json": Reader(run.import_record, lambda: (json_object(run.import_record), kept_kind(run))),
        "metrics.jsonl": Reader(metrics, resume),
        "--output.made_from.json": Reader(folder / "answers.jsonl.made_from.json", go_on),
        "--output.waiting": Reader(beside[1], go_on),
        **vocabularies,
    }


def _described(vocabulary: Vocabulary) -> object:
    control = vocabulary.pieces.control
    return vocabulary.hash, vocabulary.special, control, vocabulary.frame, vocabulary.encode("a house <extra_id_0>")


def _of_stores(folder: pathlib.Path) -> dict[str, Reader]:
    folder.mkdir()
    data = settings(folder, units=2, count=8)
    vocabulary, store = prepare(data, [].append), epath.Path(data.store)
    make_tables(Store(store), data, vocabulary, [].append)
    run = RunDirectory(folder / "run")
    base = small_config("gpt", train__directory=str(run.path), model__vocab=512)
    run.path.mkdir()
    presets.write(base, run.path)
    (run.checkpoints / "4" / "state").mkdir(parents=True)
    there = prepared(store)
    assert there is not None
    units = store / "units"
    units.mkdir(exist_ok=True)
    (units / "inputs").write_bytes(sealed(json.dumps(described(data, there.inputs, there.units, False))))
    (units / "00000.json").write_bytes(sealed(json.dumps(there.records[0])))
    keep_rows(run, dataclasses.replace(base, data=data))
    manifest, table = pathlib.Path(store / "manifest.json"), next(pathlib.Path(store).glob("packs/*/table.json"))

    def stats() -> object:
        opened = Store(store)
        text = as_text(opened.manifest, pack_tables(store))
        return opened.hash, prepared(store), text, PackTable(opened, data, 0, "train").rows

    early = folder / "early"
    shutil.copytree(store, early)
    for file in (early / "manifest.json", *early.glob("packs/*/table.json")):
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != CHECKSUM}))
    as_before = functools.partial(lambda place: (Store(place).hash, as_text(Store(place).manifest, pack_tables(place))))
    return {
        "manifest.json": Reader(manifest, stats, True),
        "table.json": Reader(table, stats, True),
        "plan.json": Reader(pathlib.Path(store / "plan.json"), lambda: check_plan(store, data), True),
        "units/inputs": Reader(pathlib.Path(units / "inputs"), lambda: grows_still(store), True),
        "units/N.json": Reader(
            pathlib.Path(units / "00000.json"), lambda: tokenise(Job(data.store, data), there.units[0]), True
        ),
        "store.json": Reader(run.path / "store.json", lambda: knows_rows(run), True),
        "manifest.json of an earlier version": Reader(early / "manifest.json", lambda: as_before(epath.Path(early))),
        "table.json of an earlier version": Reader(
            next(early.glob("packs/*/table.json")), lambda: as_before(epath.Path(early))
        ),
    }


def _of_folders(folder: pathlib.Path) -> dict[str, Reader]:
    """Files of Hugging Face's folders: config.json, tokenizers, generation_config.json."""
    found: dict[str, Reader] = {}
    for name in ("t5_1_1", "gpt2", "bert_masked", "llama", "umt5"):
        place = folder / name
        shutil.copytree(GOLDEN / name, place)
        (place / "golden.safetensors").unlink()
        if name == "t5_1_1":
            (place / "added_tokens.json").write_text("{}")
            (place / "special_tokens_map.json").write_text(json.dumps({"eos_token": "</s>", "pad_token": "<pad>"}))
        kept = RunDirectory(folder / f"run of {name}")
        kept.path.mkdir()
        shutil.copytree(place, kept.hugging_face)
        fields = read_settings(place).fields

        def model(place: pathlib.Path = place) -> object:
            settings = read_settings(place)
            return (
                family_of(settings),
                model_in(settings, open_weights(place)),
                read_tokenizer(place, settings.fields).hash,
            )

        def tokens(place: pathlib.Path = place, fields: dict[str, Any] = fields) -> object:
            return _described(read_tokenizer(place, fields))

        def answers(kept: RunDirectory = kept) -> object:
            return read_constraints(kept, 1, False), read_defaults(kept)

        found[f"{name}/config.json"] = Reader(place / "config.json", model)
        for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
            if (place / file).exists():
                found[f"{name}/{file}"] = Reader(place / file, tokens)
        for file in ("vocab.json", "merges.txt", "vocab.txt", "spiece.model"):
            if (place / file).exists():
                found[f"{name}/{file}"] = Reader(place / file, tokens)
        if (place / "generation_config.json").exists():
            found[f"{name}/generation_config.json"] = Reader(kept.hugging_face / "generation_config.json", answers)
    return found


def _of_weights(folder: pathlib.Path) -> dict[str, Reader]:
    def weights(place: pathlib.Path) -> object:
        tensors = open_weights(place)
        return {name: (tensors.shape(name), tensors.read(name).tobytes()) for name in sorted(tensors.names())}

    def pickled(file: pathlib.Path) -> object:
        return {name: tensor.read().tobytes() for name, tensor in open_pickle(file).items()}

    from safetensors.numpy import save_file

    shards = folder / "shards"
    shards.mkdir()
    save_file({"a": NUMBERS["0"]}, shards / "one.safetensors")
    save_file({"b": NUMBERS["0"] * 2}, shards / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    zipped, row = folder / "zip.bin", folder / "row.bin"
    write_zip(zipped, program(NUMBERS, VIEWS), NUMBERS)
    write_row(row, program(NUMBERS, VIEWS, literal(None)), NUMBERS)
    return {
        "model.safetensors": Reader(shards / "one.safetensors", lambda: weights(shards)),
        "model.safetensors.index.json": Reader(shards / "model.safetensors.index.json", lambda: weights(shards)),
        "pytorch_model.bin (zip)": Reader(zipped, lambda: pickled(zipped)),
        "pytorch_model.bin (before)": Reader(row, lambda: pickled(row)),
    }


def _of_sources(folder: pathlib.Path) -> dict[str, Reader]:
    """Files of text, which may be in any state: what is damaged is a sentence that names it, or U+FFFD."""
    import pyarrow
    import pyarrow.ipc
    import pyarrow.parquet

    folder.mkdir()
    rows = [{"text": f'line {n} of it, "quoted" é 中'} for n in range(20)]
    table = pyarrow.table({"text": [row["text"] for row in rows]})
    stream = io.BytesIO()
    with pyarrow.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    jsonl = "".join(json.dumps(row) + "\n" for row in rows).encode()
    saved = folder / "saved"
    saved.mkdir()
    (saved / "data-0.arrow").write_bytes(stream.getvalue())
    (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}))
    contents = {
        "text": "".join(row["text"] + "\n" for row in rows).encode(),
        "jsonl": jsonl,
        "json": json.dumps(rows).encode(),
        "csv": b"text,n\n" + b"".join(b'"a, ""b""\nc",%d\n' % n for n in range(20)),
        "tsv": b"text\tn\n" + b"".join(b"a b\t%d\n" % n for n in range(20)),
        "conll": "".join(f"word{n} O\nthe B-X\n\n" for n in range(20)).encode(),
        "arrow": stream.getvalue(),
    }
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    contents["parquet"] = (folder / "a.parquet").read_bytes()
    found = {}
    for kind, content in contents.items():
        path = folder / f"a.{kind}"
        path.write_bytes(content)
        fields = {"fields": ("text",)} if kind in ("csv", "tsv") else {}
        found[f"source {kind}"] = _source(path, config.Source(kind=kind, path=str(path), **fields))
    packed = folder / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(jsonl, mtime=0))
    found["source jsonl.gz"] = _source(packed, config.Source(kind="jsonl", path=str(packed)))
    state = config.Source(kind="arrow", path=str(saved))
    return found | {"state.json of a saved data set": _source(saved / "state.json", state)}


def _source(file: pathlib.Path, source: config.Source) -> Reader:
    def read() -> object:
        return [list(sources.read(source, unit)) for unit in sources.units((source,))]

    return Reader(file, read)


def _t5x_tree() -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a T5 of one layer in each stack, by T5X's names."""
    yield "token_embedder/embedding", np.zeros((16, 4), np.float32)
    attentions = {"encoder": ["attention"], "decoder": ["self_attention", "encoder_decoder_attention"]}
    norms = {
        "attention": "attention",
        "self_attention": "self_attention",
        "encoder_decoder_attention": "cross_attention",
    }
    for stack, names in attentions.items():
        yield f"{stack}/{stack}_norm/scale", np.ones(4, np.float32)
        yield f"{stack}/relpos_bias/rel_embedding", np.zeros((2, 8), np.float32)
        yield f"{stack}/layers_0/mlp/wi/kernel", np.zeros((4, 8), np.float32)
        yield f"{stack}/layers_0/mlp/wo/kernel", np.zeros((8, 4), np.float32)
        yield f"{stack}/layers_0/pre_mlp_layer_norm/scale", np.ones(4, np.float32)
        for name in names:
            yield f"{stack}/layers_0/pre_{norms[name]}_layer_norm/scale", np.ones(4, np.float32)
            for part in ("query", "key", "value", "out"):
                shape = (6, 4) if part == "out" else (4, 6)
                yield f"{stack}/layers_0/{name}/{part}/kernel", np.zeros(shape, np.float32)


def _of_t5x(folder: pathlib.Path) -> dict[str, Reader]:
    from t5x_format import write_legacy

    place = write_legacy(folder / "checkpoint_7", dict(_t5x_tree()))
    gin = folder / "config.gin"
    gin.write_text("network.T5Config.dropout_rate = 0.1\nnetwork.T5Config:\n  mlp_activations = ('relu',)\n")

    def model() -> object:
        return t5x_model(open_t5x(place), gin)

    return {"T5X's checkpoint": Reader(place / "checkpoint", model), "T5X's config.gin": Reader(gin, model)}
