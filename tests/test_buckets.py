"""Runs, stores and their files at gs:// and s3://, against servers on this machine that are slow, refuse and vanish."""

import dataclasses
import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import small_config

from t5like import config
from t5like.cli import main
from t5like.data import sources
from t5like.data.prepare import prepare
from t5like.errors import StorageError, UserError
from t5like.runs.checkpoints import Checkpoints
from t5like.runs.directory import RunDirectory
from t5like.runs.lines import Appended, drop_lines, read_lines
from t5like.storage import copy_folder, etils_path, local_copy, local_stage, path_of, size_of, write_small
from t5like.train.loop import train

buckets = pytest.importorskip(
    "buckets", reason="the stand-ins of buckets are not installed: pip install moto[s3] flask"
)


@pytest.fixture(scope="module", params=("gs", "s3"))
def server(request):
    with pytest.MonkeyPatch.context() as variables:
        yield from buckets.serve(request.param, variables)


@pytest.fixture
def root(server, request):
    """A folder of its own for each test."""
    return path_of(f"{server.scheme}://bucket/{request.function.__name__}")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    file = tmp_path_factory.mktemp("corpus") / "text.txt"
    words = np.random.default_rng(0).choice(["the", "model", "reads", "a", "line", "你好"], (60, 40))
    file.write_text("\n".join(" ".join(line) for line in words), "utf-8")
    return file


def run_config(corpus, run, store, **changes) -> config.Config:
    settings = {
        "data__store": str(store),
        "data__sources": (config.Source(kind="text", path=str(corpus), document="line"),),
        "data__vocabulary": config.Vocabulary(kind="bytes", size=259, sentinels=11, extra=(config.MASK,)),
        "data__held_out": 0.2,
        "model__vocab": 384,
        "model__decoder_layers": 1,
        "train__directory": str(run),
        "train__steps": 4,
        "train__log_every": 1,
        "train__save_every": 1,
        "train__keep": 2,
        "train__compilation_cache": "",
        "eval__rows": 8,
        "eval__every": 100,
        "mesh__fsdp": 1,
    }
    return small_config("gpt", **{**settings, **changes})


def test_a_path_reads_writes_lists_and_removes_as_a_local_one(root):
    write_small(root / "config.json", "{}")
    (root / "deep" / "a b.txt").write_text("你好", "utf-8")
    with (root / "deep" / "large").open("wb") as file:
        for number in range(3):
            file.write(bytes([number]) * 2**22)
    assert (root / "config.json").read_text("utf-8") == "{}" and (root / "deep" / "a b.txt").read_text() == "你好"
    assert (root / "deep").is_dir() and not (root / "deep").is_file() and not (root / "none").exists()
    assert [path.name for path in root.iterdir()] == ["config.json", "deep"]
    assert list(root.glob("*/*.txt")) == [root / "deep" / "a b.txt"] and list(root.glob("*/none")) == []
    with (root / "deep" / "large").open("rb") as file:
        file.seek(2**22 - 1)
        assert file.read(2) == b"\0\1" and len(file.read()) == 2**23 - 1
    assert size_of(root / "deep" / "large") == 3 * 2**22
    (root / "deep").rmtree()
    assert [path.name for path in root.iterdir()] == ["config.json"]
    with pytest.raises(FileNotFoundError, match="none"):
        (root / "none").read_text()


def test_an_object_appears_whole_or_not_at_all(root):
    with pytest.raises(KeyError), (root / "half").open("wb") as file:
        file.write(bytes(2**22))
        raise KeyError
    assert not (root / "half").exists()


def test_of_two_that_write_a_new_object_one_does(root):
    assert (root / "part").write_new(b"mine")
    assert not (root / "part").write_new(b"theirs") and (root / "part").read_bytes() == b"mine"
    assert (root / "part").write_new(b"mine")  # a request that arrived and whose answer did not


def test_folders_go_from_disks_to_buckets_and_back(root, tmp_path):
    (tmp_path / "new" / "in").mkdir(parents=True)
    (tmp_path / "new" / "in" / "file").write_text("text")
    copy_folder(tmp_path / "new", root / "there")
    with local_copy(root / "there") as copy:
        assert (copy / "in" / "file").read_text() == "text"
    with local_stage(root / "staged") as stage:
        (stage / "file").write_text("text")
    assert not stage.exists() and (root / "staged" / "file").read_text() == "text"
    with local_copy(tmp_path) as same, local_stage(tmp_path) as stage:
        assert same == stage == tmp_path


@pytest.mark.parametrize("place", ("local", "bucket"))
def test_lines_are_appended_joined_and_dropped(place, root, tmp_path, monkeypatch):
    monkeypatch.setattr("t5like.runs.lines.PART", 30)  # bytes: two lines
    log = (tmp_path if place == "local" else root) / "metrics.jsonl"
    for steps in (range(5), range(5, 8)):
        lines = Appended(log)
        for step in steps:
            lines.append({"step": step})
        lines.close()
    assert [record["step"] for record in read_lines(log)] == list(range(8))
    drop_lines(log, lambda record: record["step"] < 6)
    assert [record["step"] for record in read_lines(log)] == list(range(6))
    if place == "bucket":
        assert [size_of(path) for path in sorted((root / "metrics").iterdir())] == [24, 24, 12, 12, 0]


def test_two_processes_that_append_lose_no_line(root):
    logs = [Appended(root / "events.jsonl") for _ in range(2)]
    for number in range(6):
        logs[number % 2].append({"number": number})
    assert sorted(record["number"] for record in read_lines(root / "events.jsonl")) == list(range(6))


@pytest.mark.parametrize(
    ("place", "sentence"),
    [("ftp://host/run", "gs:// and s3:// are possible"), ("gs://", "names no bucket"), ("s3:///run", "no bucket")],
)
def test_a_place_that_cannot_be_is_a_sentence(place, sentence):
    with pytest.raises(UserError, match=sentence):
        path_of(place)


def test_a_store_in_a_bucket_has_the_bytes_of_a_local_one(root, corpus, tmp_path):
    local, there = (run_config(corpus, "unused", place).data for place in (tmp_path / "store", root / "store"))
    assert prepare(local, print).hash == prepare(there, print).hash
    left, right = (sorted(path.name for path in (etils_path(d.store) / "train").iterdir()) for d in (local, there))
    assert left == right and "units" not in [path.name for path in (root / "store").iterdir()]
    for name in left:
        assert (tmp_path / "store" / "train" / name).read_bytes() == (root / "store" / "train" / name).read_bytes()


@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet", "tfrecord"])
def test_sources_in_a_bucket_give_the_same_documents(root, tmp_path, kind):
    import pyarrow
    import pyarrow.parquet
    import tensorflow as tf

    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a.text").write_text("one\n二\n")
    (tmp_path / "deep/a.jsonl.gz").write_bytes(gzip.compress('{"text": "one"}\n{"text": "二"}'.encode()))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", "二"]}), tmp_path / "deep/a.parquet")
    with tf.io.TFRecordWriter(str(tmp_path / "deep/a.tfrecord")) as writer:
        for text in ("one", "二"):
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
            writer.write(tf.train.Example(features=tf.train.Features(feature={"text": feature})).SerializeToString())
    copy_folder(tmp_path, root)
    for path in (f"{root}/*/a.{kind}*", f"{root}/deep/a.{kind}{'.gz' if kind == 'jsonl' else ''}"):
        lines = {"document": "line"} if kind == "text" else {}
        (source,) = given = (config.Source(kind=kind, path=path, **lines),)
        documents = [document for unit in sources.units(given) for document in sources.read(source, unit)]
        assert [document.parts for document in documents] == [("one",), ("二",)]
    with pytest.raises(UserError, match="No file matches"):
        sources.units((config.Source(kind=kind, path=f"{root}/b*"),))


def test_checkpoints_in_a_bucket_are_kept_pruned_and_restored(root):
    """Sharded arrays, the newest two of three; one that was not ended is none."""
    sharding = jax.sharding.NamedSharding(jax.make_mesh((8,), ("data",)), jax.sharding.PartitionSpec("data"))
    params = {"one": {"kernel": jax.device_put(jnp.arange(64.0).reshape(16, 4), sharding)}}
    with Checkpoints(root, keep=2, vocabulary_hash="a") as checkpoints:
        for step in range(1, 4):
            checkpoints.save_params(jax.tree.map(lambda array, step=step: array + step, params), step)
        checkpoints.wait()
    (root / "3" / "commit_success.txt").copy(root / "4" / "state" / "d")
    assert RunDirectory(root.parent / "none").steps() == []
    with Checkpoints(root, vocabulary_hash="a") as checkpoints:
        assert checkpoints.steps() == [2, 3]
        assert checkpoints.param_shapes() == {"one/kernel": (16, 4)}
        abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), params)
        step, restored = checkpoints.restore_params(abstract)
    assert step == 3 and restored["one"]["kernel"].sharding == sharding
    np.testing.assert_array_equal(restored["one"]["kernel"], params["one"]["kernel"] + 3)


@pytest.mark.slow
@pytest.mark.parametrize("server", ("s3",), indirect=True)
def test_a_run_in_a_bucket_goes_on_and_serves_every_command(server, root, corpus, tmp_path, say, alone):
    """It is saved, resumed, pruned, logged and read as a local run, and has its numbers."""
    run, settings = RunDirectory(root / "run"), run_config(corpus, root / "run", root / "store")
    train(dataclasses.replace(settings, train=dataclasses.replace(settings.train, steps=2)))
    train(settings)
    assert run.steps() == [3, 4] and run.config() == settings
    train(run_config(corpus, tmp_path / "run", tmp_path / "store"))
    here, there = (read_lines(folder / "metrics.jsonl") for folder in (tmp_path / "run", root / "run"))
    losses = [[(line["step"], line["loss"]) for line in lines if "loss" in line] for lines in (here, there)]
    assert losses[0] == losses[1] and len(losses[0]) == 4
    events = [record["event"] for record in read_lines(root / "run" / "events.jsonl")]
    assert [name for name in events if name.endswith("ed") and name != "saved"] == [
        *("started", "finished", "resumed", "finished")
    ]
    assert any("tfevents" in path.name for path in (root / "run" / "tensorboard").iterdir())
    say("eval", root / "run")
    figures = json.loads((root / "run" / "eval.json").read_text("utf-8"))
    assert figures["loss"] == pytest.approx(here[-1]["eval/loss"])
    assert say("generate", root / "run", "--prompt", "the", "--tokens", 4)
    assert say("data", "verify", root / "store").startswith(f"{root / 'store'}: all files are as they were written")
    assert say("inspect", root / "run")
    assert "as LlamaForCausalLM" in say("export", root / "run", root / "folder")
    say("import", root / "folder", root / "imported", "--vocabulary", "bytes")
    assert (root / "imported" / "config.json").is_file() and RunDirectory(root / "imported").steps() == [0]


def test_a_slow_server_costs_time_alone(server, root):
    server.weather.delay = 0.3
    try:
        write_small(root / "file", "text")
        assert (root / "file").read_text() == "text"
    finally:
        server.weather.delay = 0.0


def test_a_server_that_is_busy_for_a_moment_is_asked_again(server, root):
    write_small(root / "file", "text")
    server.weather.refuses = lambda method, path: server.weather.refused < 2
    server.weather.refused = 0
    try:
        assert (root / "file").read_text() == "text" and server.weather.refused == 2
    finally:
        server.weather.refuses = lambda method, path: False


def test_a_server_that_stays_busy_is_one_sentence(server, root, monkeypatch, capsys):
    """Status 75, by which a supervisor knows that another try may do."""
    server.weather.refuses = lambda method, path: True
    monkeypatch.setattr("sys.argv", ["t5like", "eval", str(root / "run")])
    monkeypatch.setenv("T5LIKE_STORAGE_SECONDS", "1")
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        server.weather.refuses = lambda method, path: False
    said = capsys.readouterr().err
    assert ended.value.code == 75 and said.count("\n") == 1
    assert f"{root / 'run'}" in said and "cannot be reached" in said and "503" in said


@pytest.mark.slow
@pytest.mark.parametrize("server", ("gs",), indirect=True)
def test_a_server_that_vanishes_leaves_the_last_checkpoint_and_the_run_goes_on(
    server, root, corpus, monkeypatch, alone
):
    monkeypatch.setenv("T5LIKE_STORAGE_SECONDS", "1")
    settings = run_config(corpus, root / "run", root / "store", train__tensorboard=False)
    saved = Checkpoints.save

    def vanish(self, state, step, best=None):
        if step == 3:
            self.wait()
            server.vanish()
        saved(self, state, step, best)

    monkeypatch.setattr(Checkpoints, "save", vanish)
    with pytest.raises(StorageError, match=r"cannot be reached: .*; what is stored is whole"):
        train(settings)
    monkeypatch.setattr(Checkpoints, "save", saved)
    server.appear()
    assert RunDirectory(root / "run").steps() == [1, 2]
    train(settings)
    assert RunDirectory(root / "run").steps() == [3, 4]
    assert [r["step"] for r in read_lines(root / "run" / "metrics.jsonl") if "loss" in r] == [1, 2, 3, 4]
