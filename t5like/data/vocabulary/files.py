"""Tokenizers from the files in which they are published, and the tokenizer.json of those that we learn."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from t5like.config.vocabulary import CLS, OWN_SPECIALS, ROLES, SEP
from t5like.data.vocabulary.forms import Beside, Settings, Vocab
from t5like.data.vocabulary.hugging_face import HuggingFace, byte_of_character
from t5like.data.vocabulary.pieces import Control, Pieces, SentencePiece
from t5like.errors import UserError
from t5like.json_files import json_object, mismatch

if TYPE_CHECKING:
    import tokenizers

Path = epath.Path | pathlib.Path
FILES = ("spiece.model", "tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json")
"""Files of a folder, in the order in which they are looked for."""
END_OF_TEXT = OWN_SPECIALS["byte_bpe"][0]
CALLED = {"pad": ("pad",), "eos": ("eos", "sep"), "unk": ("unk",), "start": ("bos", "cls")}
CALLED |= {role: (role,) for role in ROLES}
"""Control piece or role -> the names under which transformers has it, which come first."""
NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def load_pieces(path: Path, lowercase: bool = False) -> Pieces:
    """The tokenizer at `path`: a SentencePiece *.model, tokenizer.json, vocab.txt, vocab.json with merges.txt beside
    it, or a folder with one of these.

    `lowercase` is for vocab.txt, which does not say it, unless a tokenizer_config.json beside it does.

    Raises:
      UserError: no such file, or one that is broken.
    """
    if not path.exists():
        raise UserError(f"There is no file or folder {path} to take a vocabulary from.")
    path = _file_in(path) if path.is_dir() else path
    try:
        return _load(path, lowercase)
    except UserError:
        raise
    except BaseException as error:  # whatever the libraries raise of a damaged file: tokenizers' panics too, by name
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        told = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        raise UserError(f"{path} is damaged ({type(error).__name__}: {told[:80]}): fetch it again.") from None


def _load(path: Path, lowercase: bool) -> Pieces:
    if path.name == "merges.txt":
        path = path.parent / "vocab.json"
    if path.name == "vocab.json":
        return _byte_bpe_of(path, path.parent / "merges.txt")
    if path.suffix == ".txt":
        return _wordpiece_of(path, lowercase)
    if path.suffix == ".json":
        return _tokenizer_of(path)
    if path.suffix == ".model":
        return _sentencepiece_of(path)
    raise UserError(f"{path} is none of the files that a vocabulary can come from: {', '.join(FILES)}.")


def _file_in(folder: Path) -> Path:
    for name in FILES:
        if (folder / name).exists():
            return folder / name
    models = sorted(folder.glob("*.model"))
    if len(models) == 1:
        return models[0]
    raise UserError(f"{folder} holds no vocabulary: {', '.join(FILES)} are what is looked for.")


def _sentencepiece_of(path: Path) -> SentencePiece:
    control = _saved(path.parent).get("control")
    try:
        return SentencePiece(path.read_bytes(), Control(**control) if control else None, _called(path.parent))
    except RuntimeError:
        raise UserError(f"{path} is not a SentencePiece model.") from None


def _tokenizer_of(path: Path) -> HuggingFace:
    content = path.read_bytes()
    control = _saved(path.parent).get("control")
    try:
        return HuggingFace(content, Control(**control) if control else None, _called(path.parent))
    except UserError:
        raise
    except Exception as error:  # the library raises no other
        raise UserError(f"{path} is not a tokenizer.json of Hugging Face's tokenizers: {error}.") from None


def _wordpiece_of(path: Path, lowercase: bool) -> HuggingFace:
    names = _lines(path)
    missing = [name for name in ("[UNK]", CLS, SEP) if name not in names]
    if missing:
        raise UserError(f"{path} is no vocabulary of WordPiece: {' '.join(missing)} must be lines of it.")
    if len(set(names)) < len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise UserError(f"{path} has the piece {twice!r} twice: the numbers of its pieces are not certain.")
    told = _checked(path.parent / "tokenizer_config.json", Settings).get("do_lower_case")
    lowercase = lowercase if told is None else told
    tokenizer = wordpiece({name: number for number, name in enumerate(names)}, lowercase)
    return HuggingFace(tokenizer.to_str().encode(), called=_called(path.parent))


def _byte_bpe_of(path: Path, merges: Path) -> HuggingFace:
    if not (path.exists() and merges.exists()):
        raise UserError(f"{path.parent} needs both vocab.json and merges.txt.")
    vocab = _checked(path, Vocab)
    lines = (line.partition(" ") for line in _lines(merges) if line and not line.startswith("#version"))
    pairs = [(left, right) for left, _, right in lines]
    missing = [character for character in byte_of_character() if character not in vocab]
    if missing:
        raise UserError(
            f"{path} and {merges} are no byte-level BPE as GPT-2 has it: pieces of single bytes are missing."
        )
    try:
        tokenizer = byte_level(vocab, pairs)
    except Exception as error:  # the library raises no other
        raise UserError(f"{path} and {merges} do not belong together: {error}.") from None
    return HuggingFace(tokenizer.to_str().encode(), called=_called(path.parent))


def wordpiece(vocab: dict[str, int], lowercase: bool) -> "tokenizers.Tokenizer":
    """BERT's tokenizer (Devlin et al. 2019) of these pieces, as `transformers` reads it."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing((SEP, vocab[SEP]), (CLS, vocab[CLS]))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([name for name in OWN_SPECIALS["wordpiece"] if name in vocab])
    return tokenizer


def byte_level(vocab: dict[str, int], merges: Sequence[tuple[str, str]]) -> "tokenizers.Tokenizer":
    """GPT-2's tokenizer (Radford et al. 2019) of these pieces; <|endoftext|> is added where it is missing."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, processors

    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [name for name in ("<s>", "<pad>", "</s>", "<unk>", "<mask>") if name in vocab]
    special += [name for name in vocab if name.startswith("<|") and name.endswith("|>")]
    tokenizer.add_special_tokens(special or [END_OF_TEXT])
    return tokenizer


def _called(folder: Path) -> dict[str, str]:
    """The control pieces and roles that the configs of a folder name, or a vocabulary.json of ours."""
    names = special_names(folder) | _saved(folder).get("roles", {})
    found = {key: [names[name] for name in keys if name in names] for key, keys in CALLED.items()}
    return {key: listed[0] for key, listed in found.items() if listed}


def special_names(folder: Path) -> dict[str, str]:
    """Role, such as "eos", -> name of its piece, as tokenizer_config.json and the older special_tokens_map.json say."""
    settings = _checked(folder / "tokenizer_config.json", Settings)
    if "added_tokens_decoder" not in settings:
        settings = settings | json_object(folder / "special_tokens_map.json")
    tokens = {role: settings.get(f"{role}_token") for role in NAMED}
    contents = {role: token.get("content") if isinstance(token, dict) else token for role, token in tokens.items()}
    return {role: content for role, content in contents.items() if isinstance(content, str)}


def _saved(folder: Path) -> dict[str, Any]:
    return _checked(folder / "vocabulary.json", Beside)


def _checked(file: Path, form: Any) -> dict[str, Any]:
    """The JSON object of a file, empty where there is no file.

    Raises:
      UserError: it is damaged, or not of the form.
    """
    content = json_object(file)
    if wrong := mismatch(content, form):
        raise UserError(f"{file} is damaged ({wrong}): fetch it again.")
    return content


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid UTF-8 at byte {error.start}.") from None
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")
