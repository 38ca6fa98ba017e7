"""Weights that torch.save wrote are read as they are, and a pickle that asks for more is refused before it runs."""

import json
import pathlib
import pickle
import tracemalloc
import zipfile
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from command_line import ROOT
from damage import INDEX, WEIGHTS, damaged, file, refused
from golden_runs import assert_same_tensors, tensors_of
from settings import sentence
from torch_format import (
    View,
    call,
    dictionary,
    literal,
    name_of,
    program,
    storage_of,
    tensor_of,
    whole,
    write_row,
    write_weights,
    write_zip,
)

from t5like.convert.files import open_weights
from t5like.convert.importing import import_run
from t5like.convert.options import ImportOptions
from t5like.convert.pickles import open_pickle

PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
GOLDEN = ROOT / "tests" / "golden"
NUMBERS = np.arange(24, dtype=np.float32) + 0.5
STORAGES = {
    "0": NUMBERS,
    "1": NUMBERS.astype(ml_dtypes.bfloat16),
    "2": NUMBERS.astype(np.float16),
    "3": np.arange(5),
    "4": np.array([True, False]),
}
VIEWS = {
    "whole": View("0", 0, (4, 6), (6, 1)),
    "transposed": View("0", 0, (6, 4), (1, 6)),
    "part": View("0", 7, (2, 3), (6, 1)),
    "brain": View("1", 2, (3,), (2,)),
    "half": View("2", 0, (24,), (1,)),
    "counts": View("3", 0, (5,), (1,)),
    "truth": View("4", 0, (2,), (1,)),
    "scalar": View("0", 3, (), ()),
    "empty": View("0", 24, (0, 6), (6, 1)),
}
EXPECTED = {
    "whole": NUMBERS.reshape(4, 6),
    "transposed": NUMBERS.reshape(4, 6).T,
    "part": NUMBERS.reshape(4, 6)[1:3, 1:4],
    "brain": STORAGES["1"][2:7:2],
    "half": STORAGES["2"],
    "counts": STORAGES["3"],
    "truth": STORAGES["4"],
    "scalar": NUMBERS[3],
    "empty": np.zeros((0, 6), np.float32),
}


@pytest.mark.parametrize("write", [write_zip, write_row])
def test_tensors_are_views_of_the_storages_that_they_share(write, tmp_path):
    more = [literal(None)] if write is write_row else []
    write(tmp_path / PICKLE, program(STORAGES, VIEWS, *more), STORAGES)
    found = {name: tensor.read() for name, tensor in open_pickle(tmp_path / PICKLE).items()}
    assert_same_tensors(
        found, {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in EXPECTED.items()}
    )


@pytest.mark.parametrize("name", ["t5_1_0", "gpt2"])
def test_a_pickled_folder_is_imported_as_the_same_run(name, tmp_path):
    source = damaged(tmp_path, name, file(WEIGHTS, None))
    write_weights(source / PICKLE, tensors_of(GOLDEN / name))
    assert_same_tensors(tensors_of(source), tensors_of(GOLDEN / name))
    import_run(source, tmp_path / "run", ImportOptions())
    assert json.loads((tmp_path / "run" / "import.json").read_text())["non_finite"] == []


def test_shards_are_read_by_their_index_and_safetensors_come_first(tmp_path):
    parts = {"first.bin": {"a": NUMBERS, "b": NUMBERS * 2}, "second.bin": {"c": NUMBERS * 3}}
    for name, tensors in parts.items():
        write_weights(tmp_path / name, tensors)
    index = {"weight_map": {name: file for file, tensors in parts.items() for name in tensors}}
    (tmp_path / PICKLE_INDEX).write_text(json.dumps(index))
    found = open_weights(tmp_path)
    np.testing.assert_array_equal(found.read("c"), NUMBERS * 3)
    assert sorted(found.names()) == ["a", "b", "c"]
    (tmp_path / "second.bin").unlink()
    assert sentence(open_weights, tmp_path).startswith(f"{tmp_path} lacks second.bin, which {PICKLE_INDEX} names: ")
    source = damaged(tmp_path / "both", "gpt2")
    (source / PICKLE).write_bytes(b"no weights at all")
    assert "wte.weight" in {name.removeprefix("transformer.") for name in open_weights(source).names()}


def test_one_tensor_at_a_time_is_in_memory(tmp_path):
    large = {name: np.full(2**20, number, np.float32) for number, name in enumerate("abcdef")}
    write_weights(tmp_path / PICKLE, large)
    tracemalloc.start()
    tensors = open_pickle(tmp_path / PICKLE)
    assert [tensor.read()[0] for tensor in tensors.values()] == [0, 1, 2, 3, 4, 5]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 3 * 4 * 2**20


def commands(mark: pathlib.Path) -> dict[str, bytes]:
    """Pickles that would make the file `mark`, by the way they take."""
    touch = literal(f"touch {mark}")
    tensor = tensor_of(storage_of("FloatStorage", "0", 24), VIEWS["whole"])
    build = name_of("torch._utils", "_rebuild_tensor_v2") + b"}" + literal("x") + literal(1) + b"sb0"
    return {
        "posix.system": dictionary({"a": call(name_of("posix", "system"), touch)}),
        "os.system": dictionary({"a": tensor, "b": call(name_of("os", "system"), touch)}),
        "builtins.eval": dictionary({"a": call(name_of("builtins", "eval"), literal(f"open({str(mark)!r}, 'w')"))}),
        "torch.load": dictionary({"a": call(name_of("torch", "load"), touch)}),
        "torch._utils.os.system": dictionary({"a": call(name_of("torch._utils", "os.system"), touch)}),
        "subprocess.run": pickle.dumps(_Runs(mark), 4),
        "os.popen": b"\x80\x02(" + touch + b"ios\npopen\n.",
        "collections.abc": b"\x80\x02" + build + name_of("collections.abc", "system") + b".",
    }


class _Runs:
    def __init__(self, mark: pathlib.Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        import subprocess

        return subprocess.run, (["touch", str(self.mark)],)


@pytest.mark.parametrize("name", commands(pathlib.Path("mark")))
@pytest.mark.parametrize("write", [write_zip, write_row])
def test_a_pickle_that_names_more_than_tensors_is_refused_before_it_runs(name, write, tmp_path):
    source = damaged(tmp_path, "gpt2", file(WEIGHTS, None))
    write(source / PICKLE, commands(tmp_path / "mark")[name], STORAGES)
    said = refused(source)
    assert said.startswith(f"SOURCE/{PICKLE} is a pickle that names {name}"), said
    assert "it was not opened" in said
    assert not (tmp_path / "mark").exists()


BROKEN = {
    "a storage that is missing": program({"9": NUMBERS}, {"a": whole("9", NUMBERS)}),
    "a tensor beyond its storage": program(STORAGES, {"a": View("0", 1, (4, 6), (6, 1))}),
    "a tensor larger than its storage": program(STORAGES, {"a": View("0", 0, (2**40,), (0,))}),
    "a negative place": program(STORAGES, {"a": View("0", -1, (4,), (1,))}),
    "another form of storage": dictionary({"a": tensor_of(literal("storage"), VIEWS["whole"])}),
    "an extension": b"\x80\x02\x82\x01.",
    "a memo of 2^31 places": b"\x80\x02}r\xff\xff\xff\x7f.",
    "nothing": b"",
    "a cut end": program(STORAGES, VIEWS)[:-20],
    "text": b"\x80\x02" + literal("weights") + b".",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_damaged_pickle_is_refused(what, tmp_path):
    write_zip(tmp_path / PICKLE, BROKEN[what], STORAGES)
    said = sentence(open_weights, tmp_path)
    assert said.startswith(f"{tmp_path}/{PICKLE} is damaged"), said


def test_other_contents_and_forms_are_refused(tmp_path):
    write_zip(tmp_path / PICKLE, dictionary({"epoch": literal(3)}), {})
    assert sentence(open_weights, tmp_path).startswith(f"{tmp_path}/{PICKLE} holds 'epoch', which is no tensor: ")
    write_zip(tmp_path / PICKLE, program(STORAGES, VIEWS), STORAGES, zipfile.ZIP_DEFLATED)
    assert "is compressed or too short" in sentence(open_weights, tmp_path)
    write_weights(tmp_path / PICKLE, {"a": np.arange(3)})
    said = sentence(open_weights(tmp_path).read, "a")
    assert said.startswith(f"The tensor 'a' of {tmp_path} is of type I64, not one of F64, F32, F16, BF16: quantised ")


def test_bytes_that_changed_are_refused_or_read_whole(tmp_path):
    write_zip(tmp_path / "whole", program(STORAGES, VIEWS), STORAGES)
    original, random, refusals = (tmp_path / "whole").read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        changed = np.frombuffer(original, np.uint8).copy()
        count = random.integers(1, 6)
        changed[random.integers(0, len(changed), count)] = random.integers(0, 256, count)
        (tmp_path / PICKLE).write_bytes(changed.tobytes())
        try:
            for tensor in open_pickle(tmp_path / PICKLE).values():
                assert tensor.read().shape == tensor.shape
        except Exception as error:
            refusals += 1
            assert type(error).__name__ == "UserError", error
            assert str(error).endswith(".") and "\n" not in str(error)
    assert refusals > 50


FORMATS = {
    "adapter_config.json": "SOURCE holds an adapter (adapter_config.json), which changes the weights of a model: load ",
    "adapter_model.safetensors": "SOURCE holds no model.safetensors, but adapter_model.safetensors, an adapter, not a ",
    "tf_model.h5": "SOURCE holds no model.safetensors, but tf_model.h5, weights of TensorFlow: load them with ",
    "flax_model.msgpack": "SOURCE holds no model.safetensors, but flax_model.msgpack, weights of Flax: load them with ",
    "model-q4.gguf": "SOURCE holds no model.safetensors, but model-q4.gguf, weights of llama.cpp: load them with ",
    "consolidated.00.pth": "SOURCE holds no model.safetensors, but consolidated.00.pth, weights as Meta released ",
    "bert_model.ckpt.index": "SOURCE holds no model.safetensors, but bert_model.ckpt.index, a checkpoint of another ",
    "model.pt": "SOURCE holds no model.safetensors, but model.pt, another pickle than pytorch_model.bin: ",
}


@pytest.mark.parametrize("name", FORMATS)
def test_weights_of_another_format_are_named_with_the_way_from_them(name, tmp_path):
    said = refused(damaged(tmp_path, "gpt2", file(WEIGHTS, None), file(name, b"weights")))
    assert said.startswith(FORMATS[name]), said
    assert INDEX not in said
