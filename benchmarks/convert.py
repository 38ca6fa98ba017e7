"""Time and memory of `t5like import` and `t5like export` for a folder of T5 1.1 base's size with random weights.

    python benchmarks/convert.py [ARCHITECTURE]      t5_1_1_base by default; bytes serve as its vocabulary

Prints one line of JSON for each command: seconds in all, the most memory that the process ever held beside what Python,
JAX and Orbax take for a model of a few thousand parameters, and the size of the weights, in MB (10^6 bytes).
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import safetensors.numpy

from t5like.config import Model
from t5like.convert.layout import names_of, their_shape
from t5like.convert.t5 import settings_of, tensor_mappings
from t5like.model.architectures import architecture
from t5like.model.sharding import Params

PROGRAM = "import sys; from t5like.cli import main; sys.argv = ['t5like', *sys.argv[1:]]; main()"


def write_folder(folder: pathlib.Path, name: str, **changes: int) -> int:
    """A Hugging Face folder of the architecture with random weights, in files of 500 MB; returns the bytes of them."""
    from t5like.runs.shapes import shapes_of

    model = architecture(name, dtype="float32", **changes)
    folder.mkdir()
    settings = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "dtype": "float32"}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    (folder / "config.json").write_text(json.dumps(settings | ids | settings_of(model, "t5")))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer", "extra_ids": 0}))
    random, tensors, files = np.random.default_rng(0), {}, []
    for path, shape in shapes_of(abstract(model)).items():
        mapping = tensor_mappings(model)[path]
        for tensor in names_of(mapping, shape):
            one = their_shape(mapping, shape[1:] if mapping.stacked else shape)
            tensors[tensor] = random.standard_normal(one, np.float32)
            if sum(x.nbytes for x in tensors.values()) > 5e8:
                files.append(tensors)
                tensors = {}
    files.append(tensors)
    weight_map = {}
    for number, each in enumerate(files, 1):
        file = f"model-{number:05}-of-{len(files):05}.safetensors"
        safetensors.numpy.save_file(each, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(each, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return sum(x.nbytes for each in files for x in each.values())


def abstract(model: Model) -> Params:
    """Shapes of the model's parameters."""
    import jax

    from t5like.config import Config, Data, Mesh, Objective, Train, Vocabulary
    from t5like.model.sharding import make_mesh
    from t5like.train.state import make_training

    data = Data(
        store="-",
        vocabulary=Vocabulary(kind="bytes", size=259, sentinels=0),
        objective=Objective(kind="prefix"),
        length=8,
    )
    mesh = make_mesh(Mesh(fsdp=1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        config = Config(model=model, data=data, train=Train(directory="-", steps=1, batch=1))
        return make_training(config, mesh).abstract.params


def measured(*arguments: object) -> tuple[float, float]:
    """Seconds and megabytes of a command."""
    watch = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr); "
    watch += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
    began = time.monotonic()
    command = [sys.executable, "-c", watch, sys.executable, "-c", PROGRAM, *map(str, arguments)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return time.monotonic() - began, peak / 1e6


def main() -> None:
    name = sys.argv[1] if sys.argv[1:] else "t5_1_1_base"
    with tempfile.TemporaryDirectory() as scratch:
        at = pathlib.Path(scratch)
        write_folder(at / "small", name, embed=16, mlp=16, heads=2, kv=8, vocab=384, encoder_layers=1, decoder_layers=1)
        size = write_folder(at / "large", name)
        for command, given, made in (("import", "{}", "{}_run"), ("export", "{}_run", "{}_back")):
            _, floor = measured(command, at / given.format("small"), at / made.format("small"))
            seconds, peak = measured(command, at / given.format("large"), at / made.format("large"))
            line = {"command": command, "architecture": name, "seconds": round(seconds, 1), "peak_mb": round(peak)}
            print(json.dumps(line | {"peak_beyond_start_mb": round(peak - floor), "weights_mb": round(size / 1e6)}))


if __name__ == "__main__":
    main()
