"""Folders with the tokenizers that transformers and its library make, their options drawn from a seed."""

import io
import json
import pathlib
import pydoc_data.topics
from collections.abc import Callable
from typing import Any

import numpy as np
import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

LINES = [line for name in ("class", "strings") for line in pydoc_data.topics.topics[name].split("\n")]
LINES += ["床前明月光，疑是地上霜。", "河水从山上流下来，经过小城。"] * 5
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"

Draw = Callable[..., Any]
"""Chooses one of its arguments."""


def drawing(seed: int) -> Draw:
    """Choices that a seed makes."""
    random = np.random.default_rng(seed)
    return lambda *choices: choices[random.integers(len(choices))]


def write(folder: pathlib.Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def sentencepiece_model(**options: Any) -> bytes:
    model = io.BytesIO()
    options = {"vocab_size": 400, "minloglevel": 2, "character_coverage": 0.98} | options
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=model, **options)
    return model.getvalue()


def common(draw: Draw) -> dict[str, Any]:
    """Fields of any tokenizer_config.json."""
    fields: dict[str, Any] = {"model_max_length": draw(512, 1000000), "chat_template": TEMPLATE}
    return fields | draw({}, {"padding_side": "left"}, {"padding_side": "right", "truncation_side": "left"})


def t5(folder: pathlib.Path, draw: Draw) -> str:
    """A spiece.model with extra ids, perhaps with pieces that were added behind them."""
    model = sentencepiece_model(model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    (folder / "spiece.model").write_bytes(model)
    ids = draw(0, 10, 100)
    fields = common(draw) | {"tokenizer_class": "T5Tokenizer", "extra_ids": ids, "eos_token": "</s>"}
    fields |= {"additional_special_tokens": [f"<extra_id_{n}>" for n in range(ids)]} if ids else {}
    added = draw([], ["<sep>", "{", "}"]) if ids else []
    if added:
        write(folder, "added_tokens.json", {name: 400 + ids + n for n, name in enumerate(added)})
    write(folder, "tokenizer_config.json", fields)
    return "t5"


def gpt2(folder: pathlib.Path, draw: Draw) -> str:
    """vocab.json and merges.txt, or a tokenizer.json, with or without a start and a space before each text."""
    space = draw(False, True)
    cut = pre_tokenizers.ByteLevel(add_prefix_space=space)
    made = _bpe(cut, cut.alphabet())
    fields = common(draw) | {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": space}
    if draw("files", "json") == "files":
        made.model.save(str(folder))
        vocab = json.loads((folder / "vocab.json").read_text("utf-8"))
        write(folder, "vocab.json", vocab | {"<|endoftext|>": len(vocab)})
        fields |= draw({}, {"add_bos_token": True}, {"add_bos_token": False})
    else:
        made.add_special_tokens([AddedToken("<|endoftext|>", normalized=draw(False, True))])
        made.decoder = decoders.ByteLevel()
        made.post_processor = draw(processors.ByteLevel(trim_offsets=False), _template(made, "<|endoftext|>", ""))
        made.save(str(folder / "tokenizer.json"))
    write(folder, "tokenizer_config.json", fields)
    return "gpt2"


def llama_pieces(folder: pathlib.Path, draw: Draw) -> str:
    """A tokenizer.model whose config says what frames a text and how the space before it is put."""
    options = dict(normalization_rule_name="identity", remove_extra_whitespaces=False, byte_fallback=True)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model(model_type="bpe", split_digits=True, **options))
    fields = common(draw) | {"tokenizer_class": "LlamaTokenizer", "legacy": draw(True, False)}
    fields |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    fields |= draw({}, {"add_bos_token": True, "add_eos_token": draw(True, False)}, {"add_bos_token": False})
    write(folder, "tokenizer_config.json", fields)
    return "llama"


def llama_json(folder: pathlib.Path, draw: Draw) -> str:
    """A tokenizer.json with pieces of SentencePiece, in the older and the newer way to put the first space."""
    made = _metaspace_bpe()
    if draw("legacy", "new") == "legacy":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace("▁", draw("first", "always"), split=False)
    made.add_special_tokens([AddedToken(name, normalized=False) for name in ("<unk>", "<s>", "</s>", "<|turn|>")])
    made.post_processor = draw(None, *(_template(made, *ends) for ends in (("<s>", ""), ("<s>", "</s>"), ("", "</s>"))))
    made.save(str(folder / "tokenizer.json"))
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    write(folder, "tokenizer_config.json", common(draw) | fields | {"unk_token": "<unk>"})
    return "llama"


def llama3(folder: pathlib.Path, draw: Draw) -> str:
    """A byte-level tokenizer.json as Llama 3's, whose end and padding are named by the config."""
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    cut = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), as_bytes])
    made = _bpe(cut, as_bytes.alphabet())
    made.decoder = decoders.ByteLevel()
    names = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<think>")
    made.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    made.add_tokens([AddedToken("</tool>", normalized=False)])  # text, not special
    own = _template(made, names[0], "")
    both = processors.Sequence([processors.ByteLevel(trim_offsets=False), own])
    made.post_processor = draw(None, own, both)
    if draw(True, False):
        made.enable_truncation(draw(64, 10000))
    made.save(str(folder / "tokenizer.json"))
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": names[0], "eos_token": draw(*names[1:3])}
    write(folder, "tokenizer_config.json", common(draw) | fields)
    return "llama"


def wordpiece(folder: pathlib.Path, draw: Draw) -> str:
    """vocab.txt, or a tokenizer.json, in lower case or not, with accents and Chinese characters treated either way."""
    lower = draw(True, False)
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lower)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=list(SPECIALS), show_progress=False)
    made.train_from_iterator(LINES, trainer)
    fields = common(draw) | {"tokenizer_class": draw("BertTokenizer", "BertTokenizerFast"), "do_lower_case": lower}
    if draw("txt", "json") == "txt":
        fields |= draw({}, {"strip_accents": True}, {"strip_accents": False}, {"tokenize_chinese_chars": False})
        made.model.save(str(folder))
    else:
        made.post_processor = _template(made, "[CLS]", "[SEP]")
        made.save(str(folder / "tokenizer.json"))
    write(folder, "tokenizer_config.json", fields)
    return "bert"


KINDS = {
    "t5": t5,
    "gpt2": gpt2,
    "llama_pieces": llama_pieces,
    "llama_json": llama_json,
    "llama3": llama3,
    "wordpiece": wordpiece,
}


def _bpe(cut: Any, alphabet: list[str]) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = cut
    made.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(alphabet), show_progress=False)
    )
    return made


def _metaspace_bpe() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always", split=True)
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=700, special_tokens=names, limit_alphabet=90, show_progress=False)
    )
    described = json.loads(made.to_str()) | {"added_tokens": [], "pre_tokenizer": None}
    made = tokenizers.Tokenizer.from_str(json.dumps(described))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    return made


def _template(made: tokenizers.Tokenizer, before: str, behind: str) -> Any:
    names = [name for name in dict.fromkeys((before, behind)) if name]
    parts = [*([before] if before else []), "$A", *([behind] if behind else [])]
    return processors.TemplateProcessing(
        single=parts, pair=[*parts, "$B"], special_tokens=[(name, made.token_to_id(name)) for name in names]
    )
