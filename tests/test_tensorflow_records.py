"""TFRecord files and TensorFlow Datasets are read as TensorFlow wrote them."""

import gzip
import importlib.resources
import itertools
import lzma
import struct
import sys
from typing import Literal

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from test_sources import read_all

from t5like import config
from t5like.data import sources
from t5like.data.sources import rows_of
from t5like.data.sources.checksum import crc32c, masked_crc32c
from t5like.errors import UserError

pytestmark = pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")  # TFDS's own
EXAMPLES = [{"en": f"number {n}", "zh": f"第{n}" * (n % 5)} for n in range(40)]


def write_records(path, records: list[bytes], compression: Literal["", "GZIP"] = "") -> None:
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)


def example(**features) -> bytes:
    """A tf.train.Example with the given bytes, numbers, or lists of them."""
    made = {}
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, bytes) for one in values):
            made[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif any(isinstance(one, float) for one in values):
            made[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            made[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 1023, 1024, 1025, 5000])
def test_the_checksum_is_the_one_that_tensorflow_writes(tmp_path, length):
    content = bytes(number * 7919 % 256 for number in range(length))
    write_records(tmp_path / "a", [content])
    written = (tmp_path / "a").read_bytes()
    assert struct.unpack("<I", written[-4:])[0] == masked_crc32c(content)


def test_the_checksum_has_the_published_value():
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_tfrecords_give_their_features_through_each_compression(tmp_path, suffix):
    records = [example(text=f"第{n}".encode(), label=n, tags=[b"a", b"b"], score=0.5) for n in range(20)]
    write_records(tmp_path / "a", records)
    packed = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]((tmp_path / "a").read_bytes())
    (tmp_path / f"b{suffix}").write_bytes(packed)
    fields = ("label", "text", "tags.1", "score")
    documents = read_all(kind="tfrecord", path=str(tmp_path / f"b{suffix}"), fields=fields)
    assert [d.parts for d in documents] == [(str(n), f"第{n}", "b", "0.5") for n in range(20)]
    assert [d.record for d in documents] == list(range(20))


def test_tensorflows_own_compression_is_read(tmp_path):
    write_records(tmp_path / "a.gz", [example(text=b"caf\xe9")], "GZIP")
    (document,) = read_all(kind="tfrecord", path=str(tmp_path / "a.gz"))
    assert (document.parts, document.invalid) == (("caf\ufffd",), 1)


@pytest.mark.parametrize(
    ("record", "fields", "sentence"),
    [
        (
            example(text=b"x", body=b"y"),
            ("bodi",),
            r"fields: .*a, record 1, has no field 'bodi'; did you mean 'body'\?",
        ),
        (
            example(text=[b"x", b"y"]),
            ("text",),
            r"record 1, has in the field 'text' a list of 2 values: name .*text\.0",
        ),
        (b"\xff\xff\xff", ("text",), r"a, record 1, is no tf\.train\.Example"),
        (example(text=b"x" * 2000), ("text",), r"a, record 1, is longer than data\.sources\.N\.most_bytes=1000"),
    ],
    ids=["no such field", "a list", "no example", "too long"],
)
def test_a_record_that_is_not_as_said_is_a_sentence(tmp_path, record, fields, sentence):
    write_records(tmp_path / "a", [example(text=b"x", bodi=b"x"), record])
    with pytest.raises(UserError, match=sentence):
        read_all(kind="tfrecord", path=str(tmp_path / "a"), fields=fields, most_bytes=1000)


def test_every_cut_and_every_changed_byte_of_a_tfrecord_is_a_sentence(tmp_path):
    write_records(tmp_path / "a", [example(text=b"some text")] * 2)
    whole = (tmp_path / "a").read_bytes()
    for place in range(1, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        for content in {bytes(damaged), whole[:place]} - {whole[: len(whole) // 2]}:
            (tmp_path / "b").write_bytes(content)
            with pytest.raises(
                UserError, match=r"b(, record \d: |, record \d, is longer| cannot be read: the file ended)"
            ):
                read_all(kind="tfrecord", path=str(tmp_path / "b"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Data sets that TensorFlow Datasets' own writer wrote: one in two versions, and one with two configs."""
    folder = tmp_path_factory.mktemp("tfds")
    features = {
        "translation": tfds.features.Translation(languages=("en", "zh")),
        "label": tfds.features.ClassLabel(names=["even", "odd"]),
        "score": tf.float32,
        "tags": tfds.features.Sequence(tfds.features.Text()),
        "photo": tfds.features.Image(shape=(2, 2, 3)),
        "ner": tfds.features.Sequence(tfds.features.ClassLabel(names=["O", "B"])),
        "answers": tfds.features.Sequence({"text": tfds.features.Text(), "start": tf.int32}),
        "turns": tfds.features.Sequence(tfds.features.Sequence(tfds.features.Text())),
    }
    photo = [[[0, 0, 0]] * 2] * 2
    rows = [
        (
            n,
            {
                "translation": e,
                "label": n % 2,
                "score": 3.8,
                "tags": ["a", "b"],
                "photo": tf.constant(photo, tf.uint8).numpy(),
                "ner": ["B", "O"],
                "answers": {"text": ["x", f"第{n}"], "start": [1, 2]},
                "turns": [["a"], [], ["b", "词"]],
            },
        )
        for n, e in enumerate(EXAMPLES)
    ]
    with pytest.MonkeyPatch.context() as patch:
        # Its writer imports a backport that it asks for before Python 3.9 alone.
        patch.setitem(sys.modules, "importlib_resources", importlib.resources)
        for name, named in {"pairs": ["1.0.0", "1.10.0", "1.9.0"], "many": ["one", "two"]}.items():
            for version in named:
                tfds.dataset_builders.store_as_tfds_dataset(
                    name=name,
                    version="1.0.0" if name == "many" else version,
                    config=version if name == "many" else None,
                    features=tfds.features.FeaturesDict(features),
                    split_datasets={"train": rows[: 20 if version == "1.9.0" else 30], "test": rows[30:]},
                    data_dir=folder,
                    disable_shuffling=True,
                    download_config=tfds.download.DownloadConfig(num_shards=3),
                )
    return str(folder)


def pairs(data_dir: str, **settings) -> config.Source:
    given = {"dataset": "pairs", "fields": ("translation.en", "translation.zh"), **settings}
    return config.Source(kind="tfds", path=data_dir, **given)


def read_units(source: config.Source) -> list[tuple]:
    units = sources.units((source,))
    return [(unit.split, d.parts, sources.document_id(unit, d)) for unit in units for d in sources.read(source, unit)]


def test_a_tensorflow_data_set_is_read_back_by_name(data_dir):
    expected = [(None, (e["en"], e["zh"]), f"train#{n}") for n, e in enumerate(EXAMPLES[:30])]
    assert read_units(pairs(data_dir)) == expected
    assert read_units(pairs(data_dir, dataset="pairs:1.10.0")) == expected  # the newest, not the last by name
    assert len(read_units(pairs(data_dir, dataset="pairs:1.9.0"))) == 20
    assert read_units(pairs(data_dir, dataset="many/two")) == expected


def test_units_of_a_tensorflow_data_set_are_its_shards(data_dir, monkeypatch):
    monkeypatch.setattr(sources, "UNIT_BYTES", 100)
    units = sources.units((pairs(data_dir),))
    assert [[(p.name, p.start, p.stop) for p in unit.parts] for unit in units] == [
        [("train", n, n + 1)] for n in range(3)
    ]


def test_a_split_of_its_own_is_what_is_held_out(data_dir):
    found = read_units(pairs(data_dir, validation="test"))
    splits = {split: [parts for _, parts, _ in group] for split, group in itertools.groupby(found, lambda row: row[0])}
    assert {split: len(parts) for split, parts in splits.items()} == {"train": 30, "validation": 10}
    assert splits["validation"] == [(e["en"], e["zh"]) for e in EXAMPLES[30:]]


def test_classes_are_read_by_name_and_lists_by_number(data_dir):
    found = read_units(pairs(data_dir, fields=("label", "score", "tags.1")))
    assert [parts for _, parts, _ in found[:2]] == [("even", "3.8", "b"), ("odd", "3.8", "b")]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dataset": "pear"}, r"^There is no data set 'pear' in .*; did you mean 'pairs'\?$"),
        ({"dataset": "qqqqqq"}, r"^There is no data set 'qqqqqq' in .*; that folder has many/one, many/two, pairs\.$"),
        (
            {"dataset": "imdb_reviews"},
            r"is not in .*: fetch it with `tfds build imdb_reviews --data_dir=.*`, or set data",
        ),
        (
            {"dataset": "many"},
            r"^The data set 'many' has 2 configs in .*: set data\.sources\.N\.dataset to .* many/two\.$",
        ),
        ({"dataset": "many/twi"}, r"^The data set 'many' has no config 'twi' in .*; did you mean 'many/two'\?$"),
        (
            {"dataset": "pairs:2.0.0"},
            r"^The data set 'pairs' has no version '2\.0\.0' in .*, but 1\.0\.0, 1\.9\.0, 1\.10",
        ),
        (
            {"split": "tain"},
            r"^data\.sources\.N\.split: the data set 'pairs' has no split 'tain'; did you mean 'train'\?$",
        ),
        ({"validation": "dev"}, r"^data\.sources\.N\.validation: the .* has no split 'dev'; there are test, train\.$"),
        ({"fields": ("translation.fr",)}, r"fields: the data set 'pairs' has no field 'translation\.fr'; did you mean"),
        (
            {"fields": ("translation",)},
            r"pairs train, example 0, has in the field 'translation' several fields: name one",
        ),
        ({"fields": ("tags",)}, r"has in the field 'tags' a list of 2 values: name one of them, 'tags\.0'"),
        ({"fields": ("photo",)}, r"has in the field 'photo' a list"),
        ({"fields": ("translation.en",), "most_bytes": 3}, r"example 0, is longer than data\.sources\.N\.most_bytes=3"),
    ],
)
def test_what_a_data_set_does_not_have_is_a_sentence_that_names_what_it_has(data_dir, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        read_units(pairs(data_dir, **settings))


def test_whole_rows_of_a_data_set_are_plain_values_with_the_names_of_classes(data_dir):
    source = pairs(data_dir, test="test")
    row, *_ = rows_of(source, "test", ("answers.text", "photo.0"))
    assert row.values["ner"] == ["B", "O"] and row.values["turns"] == [["a"], [], ["b", "词"]]
    assert row.values["answers"] == {"text": ["x", "第30"], "start": [1, 2]}
    assert (row.values["translation"], row.values["label"]) == (EXAMPLES[30], "even")
    assert type(row.values["score"]) is float and row.values["photo"] == [[[0, 0, 0]] * 2] * 2
    with pytest.raises(UserError, match=r"^data\.sources\.N\.test: the .* has no split 'dev'; there are"):
        next(rows_of(pairs(data_dir, test="dev"), "test"))


def test_whole_rows_of_tfrecords_have_the_value_of_a_single_one_and_lists_of_several(tmp_path):
    write_records(tmp_path / "a", [example(text="第".encode(), label=3, tags=[b"a", b"b"], none=[])])
    (row,) = rows_of(config.Source(kind="tfrecord", path=str(tmp_path / "a")), "train")
    assert row.values == {"text": "第", "label": 3, "tags": ["a", "b"], "none": None}
