"""Readers of TensorFlow's formats: TFRecord files of tf.train.Example, and data sets of TensorFlow Datasets.

TFRecord is read here and not by TensorFlow, so that it may lie wherever `etils.epath` reads, in any of the
compressions, and a record too long is refused before it is in memory. TensorFlow Datasets are read by its own code,
from what is on the disk; nothing is ever downloaded.
"""

import functools
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from t5like.config import Source
from t5like.data.sources.checksum import masked_crc32c
from t5like.data.sources.faults import DamagedError
from t5like.data.sources.files import readable
from t5like.data.sources.matching import Readable
from t5like.data.sources.records import Row, Wanted, column_of, too_long, unknown_field
from t5like.errors import UserError, did_you_mean
from t5like.storage import etils_path


def read_tfrecord(source: Source, name: str, start: int, stop: int | None, wanted: Wanted) -> Iterator[Row]:
    """The examples of a file; a field is a feature's name as it stands, or with the number of one of its values. In
    whole rows a feature of one value is that value.

    Raises:
      UserError: the file is no TFRecord, is damaged or cut short, or an example lacks a field.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.example.example_pb2 import Example  # pyright: ignore[reportMissingImports]

    with readable(name) as file:
        for number, content in enumerate(_frames(file, name, source)):
            where = functools.partial("{}, record {},".format, name, number)
            if content is None:
                yield Row(number, {}, where, problem=f"{too_long(source)}: raise it.")
                continue
            try:
                features = Example.FromString(content).features.feature
            except DecodeError:
                yield Row(number, {}, where, problem="is no tf.train.Example.")
                continue
            values = {name: _feature(features[name], wanted.whole or name in wanted.fields) for name in features}
            yield Row(number, values, where)


def _frames(file: Readable, name: str, source: Source) -> Iterator[bytes | None]:
    """The records of a TFRecord file: a length and its checksum, so many bytes and theirs; None: it is too long."""
    number = 0
    while header := _exactly(file, 12, empty=True):
        length, checksum = struct.unpack("<QI", header)
        where = f"{name}, record {number}"
        if checksum != masked_crc32c(header[:8]):
            raise DamagedError(f"{where}: this is no TFRecord file, or it is damaged; its length has another checksum.")
        if length > source.most_bytes:
            yield None
            _skip(file, length + 4)
        else:
            content = _exactly(file, length)
            (checksum,) = struct.unpack("<I", _exactly(file, 4))
            if checksum != masked_crc32c(content):
                raise DamagedError(f"{where}: the file is damaged; its content has another checksum.")
            yield content
        number += 1


def _skip(file: Readable, length: int) -> None:
    while length:
        length -= len(_exactly(file, min(length, 2**20)))


def _exactly(file: Readable, length: int, empty: bool = False) -> bytes:
    """So many bytes, or, where that is allowed, none at the end of the file."""
    content = file.read(length)
    while len(content) < length and (more := file.read(length - len(content))):
        content += more
    if len(content) < length and not (empty and not content):
        raise EOFError("the file ended before the end of a record")
    return content


def _feature(feature: Any, single: bool) -> Any:
    """The values of a feature, or the only one of them where a single one is looked for."""
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else []
    return (values[0] if values else None) if single and len(values) < 2 else list(values)


def tfds_shards(source: Source, split: str, wanted: Wanted) -> list[int]:
    """The size in bytes of each shard of a split, about equal shares of the split's.

    Raises:
      UserError: the data set is not on the disk, or has no such split or field.
    """
    builder = _builder(source, split)
    _check_fields(source, builder, wanted)
    lengths, total = builder.info.splits[split].shard_lengths, builder.info.splits[split].num_bytes
    return [total * length // max(1, sum(lengths)) for length in lengths]


def tfds_files(source: Source, split: str) -> list[tuple[str, int]]:
    """The paths and sizes of a split's files, of the version that is read.

    Raises:
      UserError: the data set is not on the disk, or has no such split.
    """
    from etils import epath

    paths = map(epath.Path, _builder(source, split).info.splits[split].filepaths)
    return [(str(path), path.stat().length) for path in paths]


def read_tfds(source: Source, split: str, start: int, stop: int | None, wanted: Wanted) -> Iterator[Row]:
    """The examples of the shards [start, stop) of a split; a row's number is that of the example in the split."""
    import tensorflow_datasets as tfds

    builder = _builder(source, split)
    _check_fields(source, builder, wanted)
    number = sum(builder.info.splits[split].shard_lengths[:start])
    shards = f"{split}[{start}shard:{'' if stop is None else f'{stop}shard'}]"
    media = [
        name for name, f in builder.info.features.items() if isinstance(f, (tfds.features.Image, tfds.features.Audio))
    ]
    decoders = {name: tfds.decode.SkipDecoding() for name in media if not _entered(name, wanted)}
    for values in tfds.as_numpy(builder.as_dataset(split=shards, shuffle_files=False, decoders=decoders)):
        where = functools.partial("{} {}, example {},".format, source.dataset, split, number)
        yield Row(number, _plain(values, builder.info.features, wanted.whole), where)
        number += 1


def _entered(name: str, wanted: Wanted) -> bool:
    """True if one of the fields is a feature of that name, or one of its values."""
    return any(field == name or field.startswith(f"{name}.") for field in wanted.fields)


def _plain(value: Any, feature: Any, whole: bool) -> Any:
    """TensorFlow Datasets' values with lists for arrays, and the names of classes instead of their numbers; -1 stands
    for a class that is not known. In `whole` rows classes within lists have their names too."""
    import tensorflow_datasets as tfds

    inner = getattr(feature, "feature", None) if whole and isinstance(feature, tfds.features.Sequence) else None
    if isinstance(value, Mapping):
        known = feature if isinstance(feature, tfds.features.FeaturesDict) else inner
        named = dict(known.items()) if isinstance(known, tfds.features.FeaturesDict) else {}
        if known is inner:  # a sequence of dictionaries comes as a dictionary of sequences
            named = {name: tfds.features.Sequence(each) for name, each in named.items()}
        return {name: _plain(each, named.get(name), whole) for name, each in value.items()}
    if isinstance(feature, tfds.features.ClassLabel):
        return feature.int2str(int(value)) if value != -1 else ""
    if hasattr(value, "to_list"):  # ragged
        value = value.to_list()
    value = value.tolist() if isinstance(value, np.ndarray) else value
    return [_plain(each, inner, whole) for each in value] if inner is not None and isinstance(value, list) else value


@functools.lru_cache(maxsize=8)
def _builder(source: Source, split: str) -> Any:
    """The data set as it lies on the disk, in which the split was found."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    builder = tfds.builder_from_directory(_directory(source))
    if split not in builder.info.splits:
        setting = next((name for name in ("split", "validation") if getattr(source, name) == split), "test")
        hint = did_you_mean(split, builder.info.splits)
        raise UserError(f"data.sources.N.{setting}: the data set {source.dataset!r} has no split {split!r}{hint}")
    return builder


def _check_fields(source: Source, builder: Any, wanted: Wanted) -> None:
    """
    Raises:
      UserError: the data set lacks a field.
    """
    known = _leaves(builder.info.features)
    for field in wanted.fields:
        if column_of(field, known) is None:
            raise UserError(unknown_field(field, known, f"the data set {source.dataset!r}", wanted.setting))


def _leaves(features: Any, above: str = "") -> list[str]:
    """Names of the features, those within a feature with a dot."""
    names: list[str] = []
    for name, feature in features.items():
        names += _leaves(feature, f"{above}{name}.") if hasattr(feature, "items") else [f"{above}{name}"]
    return names


def _directory(source: Source) -> str:
    """The folder of a data set's version, which holds its dataset_info.json.

    `name`, `name/config`, `name:version` and `name/config:version` are found in the layout that TensorFlow Datasets
    writes, name/[config/]version; without a version it is the newest.
    """
    from tensorflow_datasets.core import constants

    root = etils_path(source.path or constants.DATA_DIR)
    asked, _, version = source.dataset.partition(":")
    found = {name: path for path in _versions(root) for name in [_name(root, path)]}
    there = sorted((key for key in found if asked in (key[0], key[0].partition("/")[0])), key=_newest)
    fitting = [key for key in there if version in ("", key[1])]
    configs = {key[0] for key in fitting}
    if not fitting:
        raise UserError(_missing(source, root, sorted({name for name, _ in found}), [v for _, v in there]))
    if len(configs) > 1:
        raise UserError(
            f"The data set {asked!r} has {len(configs)} configs in {root}: set data.sources.N.dataset to one of "
            f"{', '.join(sorted(configs))}."
        )
    return str(found[fitting[-1]])


def _versions(root: Any) -> Iterator[Any]:
    """All folders of versions below the folder of data sets."""
    if root.exists():
        for pattern in ("*/*/dataset_info.json", "*/*/*/dataset_info.json"):
            yield from (path.parent for path in root.glob(pattern))


def _name(root: Any, path: Any) -> tuple[str, str]:
    """A folder's data set, with its config, and its version."""
    *name, version = path.relative_to(root).parts
    return "/".join(name), version


def _newest(key: tuple[str, str]) -> tuple[str, list[int]]:
    return key[0], [int(number) if number.isdecimal() else -1 for number in key[1].split(".")]


def _missing(source: Source, root: Any, there: list[str], versions: list[str]) -> str:
    """The sentence about a data set that is not on the disk: a version, a name, or one to be fetched."""
    import tensorflow_datasets as tfds

    asked, _, version = source.dataset.partition(":")
    if versions:
        return f"The data set {asked!r} has no version {version!r} in {root}, but {', '.join(versions)}."
    name, _, config = asked.partition("/")
    if configs := [other for other in there if config and other.partition("/")[0] == name]:
        return f"The data set {name!r} has no config {config!r} in {root}{did_you_mean(asked, configs)}"
    known = tfds.list_builders(with_community_datasets=False)
    if name not in known:
        hint = did_you_mean(asked, [*there, *known], f"that folder has {', '.join(there) or 'no data set'}")
        return f"There is no data set {asked!r} in {root}{hint}"
    return (
        f"The data set {source.dataset!r} is not in {root}: fetch it with `tfds build {source.dataset} "
        f"--data_dir={root}`, or set data.sources.N.path to the folder that has it."
    )
