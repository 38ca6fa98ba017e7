"""Makes the golden folders: tiny random originals of transformers, with what they answer.

`python tests/golden/make.py` writes every folder again, `--only NAME` one of them, and `--check` makes them in a
temporary place and compares: weights bit by bit, outputs within 1e-5, configurations and token ids by meaning. The
tests read the folders and need neither torch nor transformers; this script was last run with transformers 5.24.
"""

import argparse
import os
import shutil
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import outputs
from architectures import ORIGINALS, Original
from comparison import compare
from safetensors.numpy import save_file
from vocabularies import write_vocabulary
from weights import build

HERE = Path(__file__).parent
GENERATIVE = ("ForConditionalGeneration", "LMHeadModel", "ForCausalLM", "MarianMTModel")
# What google/t5-v1_1-* on the Hub does not say, because transformers 4 wrote it.
NEWER_KEYS = ("scale_decoder_outputs", "dense_act_fn", "is_gated_act", "relative_attention_max_distance")


def make(original: Original, folder: Path) -> None:
    """Writes one golden folder, replacing what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # The sharded copy has the weights of the folder that it is named after.
    seed = zlib.crc32(original.name.removesuffix("_bfloat16").encode()) + original.salt
    save_model(original, seed, folder)
    write_vocabulary(original.tokens, original.config["vocab_size"], folder)
    save_file(answers(original, seed, folder), folder / "golden.safetensors")


def save_model(original: Original, seed: int, folder: Path) -> None:
    import torch

    model = build(original.model, original.config | original.heads, original.untied, seed)
    if not original.bfloat16:
        model.save_pretrained(folder)
        return
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="40KB")
    as_on_the_hub(folder / "config.json")


def as_on_the_hub(path: Path) -> None:
    """Rewrites the configuration of T5 1.1 as the published ones are, which say that the embeddings are not tied."""
    import json

    config = json.loads(path.read_text())
    kept = {name: value for name, value in config.items() if name not in NEWER_KEYS} | {"tie_word_embeddings": False}
    path.write_text(json.dumps(kept, indent=2) + "\n")


def answers(original: Original, seed: int, folder: Path) -> dict[str, np.ndarray]:
    """The inputs and outputs of the model as it is loaded from its folder, in float32."""
    model = load(original, folder)
    draw = np.random.default_rng(seed + 1)
    batch = outputs.inputs(original, model.config, draw)
    kept = batch | outputs.outputs(model, batch, original.gradients)
    if original.model.endswith(GENERATIVE):
        kept |= outputs.greedy(model, batch)
    if original.long:
        batch = outputs.long_inputs(original, model.config, draw)
        kept |= {f"long_{name}": array for name, array in (batch | outputs.long_outputs(model, batch)).items()}
    return {name: narrow(array) for name, array in kept.items()}


def load(original: Original, folder: Path) -> Any:
    import torch
    import transformers

    kind = getattr(transformers, original.model)
    model = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    head = model.get_output_embeddings()
    if head is not None and (head.weight is model.get_input_embeddings().weight) == original.untied:
        raise ValueError(f"{original.name}: the head of the loaded model is not tied as it should be")
    return model


def narrow(array: np.ndarray) -> np.ndarray:
    kind = np.float32 if np.issubdtype(array.dtype, np.floating) else np.int32
    return np.asarray(array, kind, order="C")


def quiet() -> None:
    """One thread, for the same sums on every machine, and no progress bars."""
    # transformers reads spiece.model by sentencepiece's classes, made for a newer protobuf than TensorFlow takes.
    os.environ["TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK"] = "true"
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[original.name for original in ORIGINALS])
    parser.add_argument("--check", action="store_true", help="compare with the folders here instead of writing them")
    wanted = parser.parse_args()
    quiet()
    drifted = False
    for original in ORIGINALS:
        if wanted.only not in (None, original.name):
            continue
        if wanted.check:
            with tempfile.TemporaryDirectory() as place:
                make(original, Path(place) / original.name)
                drifted |= compare(HERE / original.name, Path(place) / original.name)
            continue
        make(original, HERE / original.name)
        size = sum(path.stat().st_size for path in (HERE / original.name).iterdir())
        print(f"{original.name:18} {size / 1000:7.1f} kB", flush=True)
    return int(drifted)


if __name__ == "__main__":
    sys.exit(main())
