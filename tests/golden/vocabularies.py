"""Tiny tokenizers of each kind, trained on `text.txt` and saved in the files that the published models have.

T5's own normalisation rules (nmt_nfkc) take 240 kB in a spiece.model, so only one folder has them (`t5`), and the
others of its kind those about white space alone (`t5_plain`), without which transformers and SentencePiece cut
differently. Numbers are the published schemes in small: T5's sentinels descend from the
last row in use and a few rows after them belong to nothing; mT5 has its sentinels in the file, as "▁<extra_id_0>".
"""

import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEXT = Path(__file__).with_name("text.txt")
PIECES, SENTINELS = 200, 100
SPACES = ("9", "A", "D", "A0", "2000", "2009", "202F", "3000")
WIDTHLESS = ("1", "7F", "AD", "200B", "200D", "FEFF")
T5_ENDS = dict(pad_token="<pad>", eos_token="</s>", unk_token="<unk>")

TEXTS = [
    "The river rises in the hills above the town.",
    "河水从山上流下来，经过小城。",
    "a 水b 二〇二四年！ 鑫 龘",
    "emoji 🙂👩‍👩‍👧‍👦🏳️‍🌈 end",
    "two  spaces   three    four",
    " leading and trailing ",
    "   ",
    "",
    "line one\nline two\n\n\tindented\r\nlast",
    "ＦＵＬＬ ｗｉｄｔｈ ﬁ ligature ① ² ½ Å A\u030a",
    "Naïve CAFÉ crème brûlée ÜBER straße İstanbul",
    "no\u00a0break\u3000ideographic\u2009thin\u200bzero\ufeffbom\u00adsoft",
    "control \x01\x7f and \ufffd replaced",
    "def f(x):\n    return x[0] ** 2  # 3.14e-10",
    "don't we'll I'M it's 1234567 12,345.67",
    "▁already▁marked ## [MASK] [CLS] <s> </s> <pad> <unk> <0x0A>",
    "<|endoftext|> text <|begin_of_text|>text<|end_of_text|>",
    "العربية हिन्दी ไทย 한국어 日本語 Ελληνικά кириллица",
    "x" * 120,
]
SENTINEL_TEXTS = [
    "<extra_id_0>",
    "The river <extra_id_0> in the <extra_id_1> above.",
    "The river<extra_id_0>in the<extra_id_1>above.",
    "<extra_id_0> rises <extra_id_1>",
    "two  <extra_id_5>  spaces<extra_id_6><extra_id_7>",
    "<extra_id_99> last <extra_id_100> none <extra_id_",
]


def write_vocabulary(kind: str, rows: int, folder: Path) -> None:
    """Writes the tokenizer's files, and tokens.json with what AutoTokenizer makes of the texts above."""
    WRITERS[kind](folder, rows)
    kept: dict[str, Any] = dict(texts=TEXTS + (SENTINEL_TEXTS if "t5" in kind else []))
    kept["ids"] = auto_ids(folder, kept["texts"])
    model = next(folder.glob("*.model"), None)
    if model is not None:
        raw = sentencepiece_ids(model, kept["texts"])
        if raw != kept["ids"]:
            kept["sentencepiece_ids"] = raw
    lines = ",\n".join(f"{json.dumps(name)}: [\n{listed(values)}\n]" for name, values in kept.items())
    (folder / "tokens.json").write_text(f"{{\n{lines}\n}}\n")


def listed(values: list[Any]) -> str:
    return ",\n".join(json.dumps(value) for value in values)


def auto_ids(folder: Path, texts: list[str]) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [tokenizer.encode(text, add_special_tokens=False) for text in texts]


def sentencepiece_ids(model: Path, texts: list[str]) -> list[list[int]]:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(model)).encode(texts)


def write_config(folder: Path, kind: str, **fields: Any) -> None:
    config = dict(tokenizer_class=kind, model_max_length=512) | fields
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def trained_pieces(**options: Any) -> bytes:
    """A serialized SentencePiece model; the options are the trainer's."""
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(few_characters()),
        character_coverage=0.98,  # the least that the trainer takes
        model_writer=written,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return written.getvalue()


def few_characters(limit: int = 400) -> list[str]:
    """The lines of the text with only every fifth Chinese one, and of the characters the most frequent.

    Each character costs a piece, and some shall stay unknown. The trainers of `tokenizers` can limit the alphabet
    too, but choose between equally frequent characters by chance.
    """
    lines = TEXT.read_text().splitlines()
    chinese = [line for line in lines if "\u4e00" <= line[0] <= "\u9fff"]
    lines = [line for line in lines if line not in chinese or line in chinese[::5]]
    counts = Counter("".join(lines).lower())
    kept = sorted(counts, key=lambda character: (-counts[character], character))[:limit]
    return ["".join(c if c.lower() in kept else " " for c in line) for line in lines]


def t5_pieces(**rules: Any) -> bytes:
    return trained_pieces(
        model_type="unigram",
        vocab_size=PIECES,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        **rules,
    )


def plain_pieces() -> bytes:
    """T5's pieces with the part of its rules that turns every white space into a space and drops what has no width."""
    with tempfile.TemporaryDirectory() as place:
        table = Path(place) / "rules.tsv"
        rules = [f"{code}\t20" for code in SPACES] + [f"{code}\t" for code in WIDTHLESS]
        table.write_text("\n".join(rules) + "\n")
        proto = parsed(t5_pieces(normalization_rule_tsv=str(table)))
    proto.normalizer_spec.ClearField("normalization_rule_tsv")  # the temporary path
    return proto.SerializeToString(deterministic=True)


def parsed(serialized: bytes) -> Any:
    from transformers.convert_slow_tokenizer import import_protobuf

    return import_protobuf().ModelProto.FromString(serialized)


def write_t5(folder: Path, pieces: bytes) -> None:
    (folder / "spiece.model").write_bytes(pieces)
    names = [f"<extra_id_{number}>" for number in range(SENTINELS)]
    write_config(folder, "T5Tokenizer", extra_ids=SENTINELS, additional_special_tokens=names, **T5_ENDS)


def write_t5_both(folder: Path) -> None:
    """With the tokenizer.json of transformers beside the pieces, as google-t5/t5-small and google/umt5-small have."""
    from transformers import T5Tokenizer

    write_t5(folder, plain_pieces())
    tokenizer = T5Tokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


def write_mt5(folder: Path) -> None:
    """The sentinels are pieces of the file, which the trainer can only put first: they are appended afterwards."""
    proto = parsed(plain_pieces())
    for number in reversed(range(SENTINELS)):
        proto.pieces.add(piece=f"▁<extra_id_{number}>", score=0.0, type=4)  # user-defined
    proto.trainer_spec.vocab_size = len(proto.pieces)
    (folder / "spiece.model").write_bytes(proto.SerializeToString(deterministic=True))
    write_config(folder, "T5Tokenizer", extra_ids=0, **T5_ENDS)


def write_llama_pieces(folder: Path, rows: int) -> None:
    model = trained_pieces(
        model_type="bpe",
        vocab_size=rows,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
    )
    (folder / "tokenizer.model").write_bytes(model)
    write_config(folder, "LlamaTokenizer", bos_token="<s>", eos_token="</s>", unk_token="<unk>", legacy=False)


def trained_bpe(pre_tokenizer: Any, alphabet: list[str], special: list[str], rows: int) -> Any:
    from tokenizers import Tokenizer, models, trainers

    made = Tokenizer(models.BPE(unk_token="<unk>" if "<unk>" in special else None))
    made.pre_tokenizer = pre_tokenizer
    alphabet = sorted(alphabet)  # the library gives it in any order
    trainer = trainers.BpeTrainer(
        vocab_size=rows, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    made.train_from_iterator(few_characters(), trainer)
    return made


def write_gpt2(folder: Path, rows: int) -> None:
    """<|endoftext|> has the last number, as in the published vocabulary."""
    from tokenizers import pre_tokenizers

    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made = trained_bpe(cut, cut.alphabet(), [], rows - 1)
    made.model.save(str(folder))
    path = folder / "vocab.json"
    vocab = json.loads(path.read_text()) | {"<|endoftext|>": rows - 1}
    path.write_text(json.dumps(dict(sorted(vocab.items(), key=lambda item: item[1])), ensure_ascii=False))
    write_config(folder, "GPT2Tokenizer")


LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""Pattern by which Llama 3's published tokenizer.json cuts words."""


def write_llama(folder: Path, rows: int) -> None:
    """The two special pieces have the last numbers; the start is put before a text as Llama 3's file does."""
    from tokenizers import AddedToken, Regex, decoders, pre_tokenizers, processors

    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    cut = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3_WORDS), "isolated"), as_bytes])
    made = trained_bpe(cut, as_bytes.alphabet(), [], rows - 2)
    made.model.ignore_merges = True
    made.decoder = decoders.ByteLevel()
    start, stop = "<|begin_of_text|>", "<|end_of_text|>"
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (start, stop)])
    made.post_processor = processors.TemplateProcessing(f"{start} $A", f"{start} $A {start} $B", [(start, rows - 2)])
    made.save(str(folder / "tokenizer.json"), pretty=False)
    write_config(folder, "PreTrainedTokenizerFast", bos_token=start, eos_token=stop)


def write_marian(folder: Path, rows: int) -> None:
    """A tokenizer.json with Marian's numbers (</s> 0, <unk> 1, <pad> last), not its two SentencePiece models."""
    from tokenizers import decoders, pre_tokenizers

    made = trained_bpe(pre_tokenizers.Metaspace(), [], ["</s>", "<unk>"], rows - 1)
    made.add_special_tokens(["<pad>"])
    made.decoder = decoders.Metaspace()
    made.save(str(folder / "tokenizer.json"), pretty=False)
    write_config(folder, "PreTrainedTokenizerFast", **T5_ENDS)


def write_bert(folder: Path, rows: int) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    lines = few_characters(80)
    characters = sorted(set("".join(lines).lower()) - {" "})
    # All single characters are named, since the trainer numbers those inside of words by chance, and ties by number.
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    trainer = trainers.WordPieceTrainer(vocab_size=rows, special_tokens=special, show_progress=False)
    made.train_from_iterator(lines, trainer)
    made.model.save(str(folder))
    write_config(folder, "BertTokenizer", do_lower_case=True)


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "t5": lambda folder, rows: write_t5(folder, t5_pieces(normalization_rule_name="nmt_nfkc")),
    "t5_plain": lambda folder, rows: write_t5(folder, plain_pieces()),
    "t5_both": lambda folder, rows: write_t5_both(folder),
    "mt5": lambda folder, rows: write_mt5(folder),
    "byt5": lambda folder, rows: write_config(folder, "ByT5Tokenizer", extra_ids=125),
    "bert": write_bert,
    "gpt2": write_gpt2,
    "llama": write_llama,
    "llama_pieces": write_llama_pieces,
    "marian": write_marian,
}
