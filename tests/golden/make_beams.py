"""Makes beams.json: what transformers' beam search answers, in cases in which `early_stopping` makes a difference.

`python tests/golden/make_beams.py` writes it again. Models are random Markov chains (`tests/chains.py`, remade from a
seed) and the folders t5_1_1 and gpt2; tokens that the model likes are the ends of its answers. A case is kept if the
three values of `early_stopping` do not all answer the same, and if noise of 1e-4 in each score changes no answer.
"""

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from architectures import ORIGINALS
from make import load, quiet
from safetensors.numpy import load_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from chains import random_chains  # noqa: E402

CHAINS = dict(seed=7, chains=400, most=10, vocab=12)
MOST = {"chain": 10, "t5_1_1": 12, "gpt2": 12}
WIDTHS = {"chain": (2, 3, 4, 5), "t5_1_1": (4,), "gpt2": (3,)}
WANTED = {"chain": 120, "t5_1_1": 60, "gpt2": 60}
"""Cases: each value of early_stopping is one."""
PENALTIES = (1.0, 2.0, 0.5, 0.0, -0.5)
EARLY = {"false": False, "true": True, "never": "never"}


class ChainModel(transformers.PreTrainedModel, transformers.GenerationMixin):
    """A chain as a model of transformers: the prompt is token 0."""

    config_class = transformers.PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, table: np.ndarray):
        super().__init__(transformers.PretrainedConfig(vocab_size=table.shape[-1], is_encoder_decoder=False))
        self.table = torch.nn.Parameter(torch.from_numpy(table))
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        pass

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **kwargs: Any) -> dict[str, torch.Tensor]:
        return dict(input_ids=input_ids)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any) -> Any:
        logits = self.table[input_ids.shape[1] - 1, input_ids[:, -1]]
        return transformers.modeling_outputs.CausalLMOutput(logits=logits[:, None])


class Noise(transformers.LogitsProcessor):
    def __init__(self, seed: int):
        self.draw = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores + 1e-4 * torch.rand(scores.shape, generator=self.draw)


def answered(model: Any, prompt: list[int], case: dict[str, Any], noise: int | None = None) -> dict[str, Any]:
    """The answers without the prompt and what follows the end, and their scores."""
    tokens = torch.tensor([prompt])
    made = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=False,
        use_cache=False,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=case["ends"],
        output_scores=True,
        return_dict_in_generate=True,
        logits_processor=None if noise is None else transformers.LogitsProcessorList([Noise(noise)]),
        num_beams=case["num_beams"],
        length_penalty=case["length_penalty"],
        early_stopping=EARLY[case["early_stopping"]],
        min_new_tokens=case["min_new_tokens"],
        max_new_tokens=case["max_new_tokens"],
        num_return_sequences=case["num_return_sequences"],
    )
    given = 1 if model.config.is_encoder_decoder else len(prompt)
    answers = []
    for row in made.sequences[:, given:].tolist():
        end = next((n for n, token in enumerate(row) if token in case["ends"]), len(row) - 1)
        answers.append(row[: end + 1])
    return dict(tokens=answers, scores=[round(score, 6) for score in made.sequences_scores.tolist()])


def cases(name: str, model: Any, prompt: list[int], ends: list[int], draw: np.random.Generator) -> Iterator[dict]:
    """The three cases of some settings, if they differ and are stable."""
    width = int(draw.choice(WIDTHS[name]))
    least = int(draw.choice((0, 0, 3)))
    settings = dict(
        num_beams=width,
        length_penalty=float(draw.choice(PENALTIES, p=(0.35, 0.35, 0.1, 0.1, 0.1))),
        min_new_tokens=least,
        max_new_tokens=MOST[name],
        num_return_sequences=int(draw.integers(1, width + 1)),
        ends=ends,
    )
    found = [settings | dict(early_stopping=early) for early in EARLY]
    kept = [case | answered(model, prompt, case) for case in found]
    if all(case["tokens"] == kept[0]["tokens"] for case in kept):
        return
    noisy = (answered(model, prompt, case, noise)["tokens"] for noise in (1, 2) for case in found)
    if all(one == other["tokens"] for one, other in zip(noisy, kept * 2, strict=True)):
        yield from kept


def of_chains() -> Iterator[dict[str, Any]]:
    draw = np.random.default_rng(11)
    for number, table in enumerate(random_chains(**CHAINS)):
        ends = [[1], [1], [1, 4]][draw.integers(3)]
        for case in cases("chain", ChainModel(table), [0], ends, draw):
            yield dict(model="chain", chain=number) | case


def of_folder(name: str) -> Iterator[dict[str, Any]]:
    draw = np.random.default_rng(13)
    model = load(next(original for original in ORIGINALS if original.name == name), HERE / name)
    kept = load_file(HERE / name / "golden.safetensors")
    for _ in range(1000):
        row = draw.integers(len(kept["input_ids"]))
        length = int(draw.integers(5, kept["attention_mask"][row].sum() + 1))
        prompt = kept["input_ids"][row, :length].tolist()
        # Tokens that the likeliest answer has at some place end answers here.
        plain = dict(num_beams=2, length_penalty=1.0, early_stopping="true", num_return_sequences=2)
        open_end = plain | dict(min_new_tokens=0, max_new_tokens=8, ends=[model.config.vocab_size])
        liked = answered(model, prompt, open_end)["tokens"]
        liked = sorted({token for ids in liked for token in ids[2:]})
        if len(liked) < 2:
            continue
        ends = sorted(map(int, draw.choice(liked, {"t5_1_1": 1, "gpt2": 2}[name], replace=False)))
        for case in cases(name, model, prompt, ends, draw):
            yield dict(model=name, prompt=prompt) | case


def main() -> None:
    quiet()
    warnings.simplefilter("ignore")
    made = []
    for name, found in (("chain", of_chains()), ("t5_1_1", of_folder("t5_1_1")), ("gpt2", of_folder("gpt2"))):
        taken = [case for case, _ in zip(found, range(WANTED[name]), strict=False)]
        print(name, len(taken), flush=True)
        made += taken
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in made)
    (HERE / "beams.json").write_text(f'{{"chains":{json.dumps(CHAINS)},"cases":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
