"""Tokenizers of every kind with options from a seed: transformers, our reading and our export give the same numbers.

Each folder is read, written and read again; all of them are compared with what transformers makes of the folder, with
and without the pieces that frame a text.
"""

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from golden_runs import quiet_transformers
from random_tokenizers import KINDS, TEMPLATE, drawing

from t5like import config
from t5like.convert.kept import keep_files
from t5like.convert.original import has_transformers, original_tokenizer
from t5like.convert.texts import NASTY_TEXTS, SENTINELS
from t5like.convert.tokenizer import read_tokenizer
from t5like.convert.tokenizer_files import write_tokenizer
from t5like.data.vocabulary import Vocabulary

pytestmark = [
    pytest.mark.originals,
    pytest.mark.skipif(
        not has_transformers(), reason="runs transformers' tokenizers, and torch or transformers is missing"
    ),
    pytest.mark.filterwarnings("ignore"),
]
SIZES: dict[str, Any] = dict(embed=8, heads=2, kv=4, mlp=8, vocab=1000)
MODELS = {
    "t5": config.Model(encoder_layers=1, decoder_layers=1, **SIZES),
    "bert": config.Model(encoder_layers=1, positions="learned", max_positions=512, token_types=2, **SIZES),
    "gpt2": config.Model(decoder_layers=1, positions="learned", max_positions=1024, **SIZES),
    "llama": config.Model(decoder_layers=1, positions="rotary", **SIZES),
}
TEXTS = (*NASTY_TEXTS[:-1], "<|turn|> hi <|turn|>x", "a <think> b</tool>c </tool> d", "[MASK] a [MASK]b", "a {b} c{")
CONTROL = ("</s> x <s>y", "<|endoftext|>a <|eot_id|> b", "[SEP]a [CLS]")
"""Names of control pieces, which SentencePiece takes for text and so do we."""
SEEDS = range(4)


@pytest.fixture(scope="module", autouse=True)
def offline() -> Iterator[None]:
    with quiet_transformers():
        yield


def made(kind: str, seed: int, folder: pathlib.Path) -> dict[str, Any]:
    """The folder of a random tokenizer, and what its config.json holds."""
    folder.mkdir()
    fields = {"model_type": KINDS[kind](folder, drawing(seed)), "vocab_size": 1000}
    (folder / "config.json").write_text(json.dumps(fields))
    return fields


def export(vocabulary: Vocabulary, source: pathlib.Path, fields: dict[str, Any]) -> pathlib.Path:
    kept, target = source / "kept", source / "export"
    target.mkdir()
    keep_files(source, kept, fields, generates=fields["model_type"] != "bert")
    assert vocabulary.frame is not None
    write_tokenizer(vocabulary, MODELS[fields["model_type"]], vocabulary.frame, target, kept)
    (target / "config.json").write_text(json.dumps(fields))
    return target


def ours(vocabulary: Vocabulary) -> Callable[[str, bool], list[int]]:
    assert vocabulary.frame is not None
    around = vocabulary.frame.around
    return lambda text, framed: around(vocabulary.encode(text)) if framed else vocabulary.encode(text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_are_those_of_transformers_after_import_and_after_export(kind, seed, tmp_path):
    fields = made(kind, seed, tmp_path / "folder")
    original = original_tokenizer(tmp_path / "folder")
    vocabulary = read_tokenizer(tmp_path / "folder", fields)
    exported = export(vocabulary, tmp_path / "folder", fields)
    again = ours(read_tokenizer(exported, fields))
    found = {"read": ours(vocabulary), "exported": original_tokenizer(exported), "read again": again}
    texts = TEXTS + (() if vocabulary.pieces.file == "spiece.model" else CONTROL)
    for text in texts + (SENTINELS if len(vocabulary.sentinels) >= 3 else ()):
        for framed in (False, True):
            expected = original(text, framed)
            for name, encode in found.items():
                assert encode(text, framed) == expected, (name, text[:60], framed)


@pytest.mark.parametrize("kind", KINDS)
def test_what_transformers_reads_of_a_tokenizer_s_config_survives(kind, tmp_path):
    import transformers

    for seed, template in enumerate((TEMPLATE, "{{ messages }}")):
        folder = tmp_path / str(seed)
        fields = made(kind, seed, folder)
        if template != TEMPLATE:  # a file of its own, as transformers 5 saves it, comes before the config's
            (folder / "chat_template.jinja").write_text(template)
        exported = export(read_tokenizer(folder, fields), folder, fields)
        before, after = (transformers.AutoTokenizer.from_pretrained(place) for place in (folder, exported))
        names = ("padding_side", "truncation_side", "model_max_length", "chat_template")
        for name in (*names, "eos_token", "bos_token", "pad_token", "mask_token", "model_input_names"):
            assert getattr(after, name) == getattr(before, name), name
        assert after.backend_tokenizer.truncation == before.backend_tokenizer.truncation
        assert after.chat_template == template
