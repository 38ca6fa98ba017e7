"""Programs that decode, for benchmarks/decode.py: ours, transformers and CTranslate2, on the same weights.

Weights are drawn by ours and written as a folder of Hugging Face, which the others read. Neither end nor padding is
ever chosen: their scores are 0, far below the best of a vocabulary.
"""

import importlib.util
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from turns import require_package

from t5like.config import Config, Data, Eval, Model, Objective, Optimizer, Train, Vocabulary
from t5like.config.beams import BeamSearch
from t5like.config.decoding import Decoding
from t5like.convert.exporting import write_weights
from t5like.convert.families import FAMILIES, NamedTensors
from t5like.convert.files import open_weights
from t5like.convert.importing import read_params
from t5like.convert.layout import leaves_of
from t5like.convert.settings import present
from t5like.data.vocabulary import Bytes, Frame
from t5like.data.vocabulary import Vocabulary as Pieces
from t5like.infer.generate import Generator
from t5like.model.architectures import architecture
from t5like.model.network import Network, make_network
from t5like.model.sharding import Params, make_mesh
from t5like.xla import set_flags

PAD, EOS, TENSORS = 0, 1, "float32"
THREADS = 2
TINY_T5 = Model(
    encoder_layers=2,
    decoder_layers=2,
    embed=128,
    heads=4,
    kv=32,
    mlp=256,
    vocab=4096,
    dtype="float32",
)
MODELS = {
    "t5_tiny": TINY_T5,
    "gpt2_small": architecture("gpt2_small", dtype="float32"),
    "t5_base": architecture("t5_1_1_base", dtype="float32"),
}
KINDS = {"encoder-decoder": ("t5", "T5ForConditionalGeneration"), "decoder": ("gpt2", "GPT2LMHeadModel")}
"""Model type and class of transformers by our family."""


class Case(NamedTuple):
    """A batch: `rows` prompts of `prompt` tokens, answered by `tokens` tokens, greedily or by a beam search."""

    model: str
    rows: int
    prompt: int
    tokens: int
    beams: int = 1

    @property
    def name(self) -> str:
        """As `t5_tiny 8x512+64 beam 4`."""
        way = f"beam {self.beams}" if self.beams > 1 else "greedy"
        return f"{self.model} {self.rows}x{self.prompt}+{self.tokens} {way}"

    def prompts(self) -> np.ndarray:
        """Random prompts, [rows, prompt], without padding and end."""
        return np.random.default_rng(0).integers(3, MODELS[self.model].vocab, (self.rows, self.prompt))


Decoder = Callable[[int], np.ndarray]
"""A number of tokens to the answers of a case, [rows, tokens]."""


def write_folder(name: str, folder: pathlib.Path) -> None:
    """Draws the weights of a model and writes config.json and model.safetensors."""
    network = network_of(name)
    model, (kind, _) = network.config.model, KINDS[network.config.model.family]
    with jax.set_mesh(network.mesh):
        leaves = {path: np.array(leaf) for path, leaf in leaves_of(network.initial_params()).items()}
    draw = np.random.default_rng(0)
    for path, leaf in leaves.items():
        if path.endswith("/scale"):  # of either sign: a tied head would find the token that it was given
            leaf *= draw.choice([-1, 1], leaf.shape).astype(leaf.dtype)
    if model.tied:
        leaves["embedding"][[PAD, EOS]] = 0
    else:
        leaves["output"][:, [PAD, EOS]] = 0
    family = FAMILIES[kind]
    write_weights(unflatten_dict(leaves, sep="/"), family.tensor_mappings(model), folder, TENSORS)
    ids = {"pad_token_id": PAD, "eos_token_id": EOS, "decoder_start_token_id": PAD, "bos_token_id": PAD}
    fields = {"model_type": kind, "dtype": TENSORS} | family.settings_of(model, kind) | ids
    (folder / "config.json").write_text(json.dumps(present(fields)), "utf-8")


def ours(case: Case, folder: pathlib.Path, checkout: str) -> Decoder:
    """Ours."""
    network, prompts = network_of(case.model), case.prompts().tolist()
    params, beams = params_of(network, folder), BeamSearch(num_beams=case.beams)

    def decode(tokens: int) -> np.ndarray:
        decoding = Decoding(tokens=tokens, beams=beams)
        with jax.set_mesh(network.mesh):
            return Generator(network, Pieces(Bytes()), Frame(), decoding, any_row=True).tokens(params, prompts)

    return decode


def transformers(case: Case, folder: pathlib.Path, checkout: str) -> Decoder:
    """transformers' generate, with its cache, in float32."""
    torch, model = _original(case, folder)
    prompts = torch.from_numpy(case.prompts())
    start = 0 if MODELS[case.model].family == "decoder" else 1 - case.prompt

    def decode(tokens: int) -> np.ndarray:
        given = dict(attention_mask=torch.ones_like(prompts), max_new_tokens=tokens, num_beams=case.beams)
        with torch.inference_mode():
            return model.generate(prompts, do_sample=False, **given)[:, case.prompt + start :].numpy()

    return decode


def ctranslate2(case: Case, folder: pathlib.Path, checkout: str) -> Decoder:
    """CTranslate2 in float32, from its own converter."""
    require_package("ctranslate2")
    import ctranslate2  # pyright: ignore[reportMissingImports]

    decodes, names = MODELS[case.model].family == "decoder", [str(n) for n in range(MODELS[case.model].vocab)]
    kind = ctranslate2.Generator if decodes else ctranslate2.Translator
    runs = kind(str(folder / "ctranslate2"), compute_type=TENSORS, inter_threads=1, intra_threads=THREADS)
    prompts = [[names[token] for token in row] for row in case.prompts()]

    def decode(tokens: int) -> np.ndarray:
        if decodes:
            most = dict(max_length=tokens, include_prompt_in_result=False)
            found = [one.sequences_ids[0] for one in runs.generate_batch(prompts, beam_size=case.beams, **most)]
        else:
            asked = runs.translate_batch(prompts, beam_size=case.beams, max_decoding_length=tokens)
            found = [[int(name) for name in one.hypotheses[0]] for one in asked]
        return np.array(found)

    return decode


def convert_folder(name: str, folder: pathlib.Path) -> None:
    """Writes the folder's model for CTranslate2 beside it, where that and transformers are installed.

    Its command-line converter needs a tokenizer; the names of pieces are their numbers here.
    """
    if not all(map(importlib.util.find_spec, ("ctranslate2", "transformers", "torch"))):
        return
    from ctranslate2.converters import transformers as converters  # pyright: ignore[reportMissingImports]
    from ctranslate2.specs import model_spec  # pyright: ignore[reportMissingImports]

    torch, model = _original(Case(name, 1, 1, 1), folder)
    loader = {"t5": converters.T5Loader, "gpt2": converters.GPT2Loader}[model.config.model_type]()
    with torch.no_grad():
        spec = loader.get_model_spec(model)
    if not MODELS[name].scale_logits:  # it asks tie_word_embeddings, which transformers 5 always sets
        spec.decoder.scale_outputs = model_spec.OPTIONAL
    names = [str(number) for number in range(MODELS[name].vocab)]
    loader.set_vocabulary(spec, names)
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = str(PAD), str(EOS), "2"
    if MODELS[name].encoder_layers:
        spec.config.decoder_start_token = str(PAD)
    spec.validate()
    spec.optimize(quantization=TENSORS)
    (folder / "ctranslate2").mkdir()
    spec.save(str(folder / "ctranslate2"))


def _original(case: Case, folder: pathlib.Path) -> tuple[Any, Any]:
    """torch and the model of a folder as transformers has it."""
    for package in ("torch", "transformers"):
        require_package(package)
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(THREADS)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    kind = getattr(transformers, KINDS[MODELS[case.model].family][1])
    return torch, kind.from_pretrained(str(folder), dtype=torch.float32).eval()


def network_of(name: str) -> Network:
    """The network of a model; what its config says of data has no effect here."""
    set_flags()
    model = MODELS[name]
    kind = "causal" if model.family == "decoder" else "span_corruption"
    vocabulary = Vocabulary(kind="bytes", size=Bytes.size, sentinels=11)
    config = Config(
        model=model,
        data=Data(store="none", vocabulary=vocabulary, objective=Objective(kind=kind), length=128),
        optimizer=Optimizer(learning_rate=1e-3, schedule="constant"),
        train=Train(directory="none", steps=1, batch=1),
        eval=Eval(batch=1),
    )
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        return make_network(config, mesh)


def params_of(network: Network, folder: pathlib.Path) -> Params:
    """The parameters in a folder."""
    model = network.config.model
    family = FAMILIES[KINDS[model.family][0]]
    with jax.set_mesh(network.mesh):
        tensors = NamedTensors(open_weights(folder), family, model)
        return read_params(tensors, family.tensor_mappings(model), network.params, [])
