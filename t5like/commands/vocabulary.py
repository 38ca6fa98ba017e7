"""Commands that learn a vocabulary or show what it does to a text."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from t5like.commands import Command
from t5like.commands.data import has_config
from t5like.config import Filter, Source, Vocabulary, presets
from t5like.config.checks import FLAGS, require, require_fields
from t5like.config.marks import applies_to, repeatable
from t5like.config.sources import FILES, PLAIN, SAVED, kind_of
from t5like.config.vocabulary import COVERING
from t5like.errors import UserError
from t5like.storage import etils_path, path_of

if TYPE_CHECKING:
    import etils.epath

    import t5like.data.vocabulary

NAMED = tuple(kind for kind in FILES if kind not in ("text", "parallel"))
"""Kinds of files that have fields, as far as a name or content tells the kind."""
HELD_OUT = 0.05
"""Share of the documents that a new vocabulary is not learned from, but reported on."""
HELD_OUT_CHARACTERS = 1_000_000
"""Text that a new vocabulary is reported on, at most."""


@dataclass(frozen=True, kw_only=True)
class VocabularyOptions:
    """Options of `t5like vocabulary train`."""

    output: str
    """Folder that the vocabulary is written to."""
    kind: Literal["unigram", "bpe", "wordpiece", "byte_bpe"] = "unigram"
    """SentencePiece unigram or BPE as in T5, WordPiece as in BERT, byte-level BPE as in GPT-2."""
    size: int = 32_000
    """Learned pieces."""
    coverage: Annotated[float, applies_to("kind", *COVERING)] = 0.9995
    """Share of the characters that get pieces of their own; the rest is spelt in bytes, and unknown in wordpiece."""
    lowercase: Annotated[bool, applies_to("kind", "wordpiece")] = False
    """Puts text in lower case and strips accents."""
    characters: int = 10_000_000
    """Characters that the pieces are learned from."""
    field: str = "text"
    """Field or column that holds the text, in files that have some; a number for a column without a name."""
    document: Literal["line", "file", "paragraph"] = "line"
    """The unit of text files that is a document. Pieces that hold line feeds, which code needs, are learned from
    files."""
    encoding: str = "utf-8"
    """Encoding of the files by its name in Python, such as gb18030."""
    on_error: Literal["stop", "skip"] = "stop"
    """A record that cannot be read is an error, or is left out."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require(bool(self.output), "--output is empty: name a folder.")
        require(bool(self.field), "--field is empty: name the field that holds the text.")


def train(paths: list[str], options: VocabularyOptions) -> None:
    try:
        _train(paths, options)
    except UserError as error:
        # The settings are flags here, and files have no place in `data.sources`.
        raise UserError(_in_flags(str(error), any(map(has_config, paths)))) from None


def _train(paths: list[str], options: VocabularyOptions) -> None:
    settings = Vocabulary(
        kind=options.kind,
        size=options.size,
        coverage=options.coverage,
        lowercase=options.lowercase,
        train_characters=options.characters,
        sentinels=100 if options.kind in ("unigram", "bpe") else 0,
    )
    output = etils_path(options.output)
    _check_output(options.output, output)
    sources, filters = _given(paths, options)

    from t5like.data.prepare.sampling import sample
    from t5like.data.splits import Shares
    from t5like.data.vocabulary.report import as_text, learn

    texts, shares = functools.partial(sample, sources, filters), Shares(HELD_OUT)
    held_out = list(texts(shares, "validation", HELD_OUT_CHARACTERS))
    training = texts(shares, "train", options.characters)
    first = next(training, None)
    if first is None:  # too few documents to hold one out
        first, held_out, training = "", [], texts(Shares(0.0), "train", options.characters)
    print(f"Learning {settings.size:,} {settings.kind} pieces ...", file=sys.stderr, flush=True)
    print(as_text(learn(settings, itertools.chain([first], training), held_out, output)), end="")
    sentinels = f", sentinels={settings.sentinels}"
    print(f"For a preset: Vocabulary(kind='file', path={str(output)!r}, size={settings.size}{sentinels})")
    print(f"To try it: t5like vocabulary show {output} --text 'Some text.'")


def _check_output(given: str, output: etils.epath.Path) -> None:
    """Check, before anything is learned, that a new folder can be written there."""
    there = next((path for path in (output, *output.parents) if path.exists()), None)
    if there is not None and not there.is_dir():
        raise UserError(f"--output {given} cannot be written: {there} is not a folder.")
    if there == output and any(output.iterdir()):
        raise UserError(f"--output {given} is not empty: choose another folder, or delete it.")


def _in_flags(sentence: str, presets: bool) -> str:
    """Rewrite a sentence on a config's settings for flags and files."""
    sentence = sentence.replace("data.vocabulary.train_characters", "--characters").replace("data.vocabulary.", "--")
    if not presets:
        sentence = sentence.replace("give data.sources.N.path an existing file", "give an existing file")
        sentence = sentence.replace("data.sources.N.path a glob", "a glob").replace("N.fields", "N.field")
        sentence = re.sub(r"data\.sources\.N\.(field|encoding|document|on_error)\b=?", r"--\1 ", sentence)
        sentence = re.sub(r"data\.sources\.N\.(\w+)", r"in a preset `\1`", sentence.replace("--field :", "--field:"))
        sentence = sentence.replace("data.sources", "the files")
    return sentence


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """Options of `t5like vocabulary show`."""

    text: Annotated[tuple[str, ...], repeatable()] = ()
    """A text to encode and decode; may be given several times. Without any, standard input is read."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)


def show(paths: list[str], options: ShowOptions) -> None:
    from t5like.data.vocabulary.report import shown

    vocabularies = list(map(_vocabulary, paths))
    if not options.text and sys.stdin.isatty():
        print("Type a text and end it with Ctrl-D.", file=sys.stderr)
    texts = options.text or [sys.stdin.buffer.read().decode("utf-8", "surrogateescape")]
    pages = [shown(vocabulary, text) for vocabulary in vocabularies for text in texts]
    print("\n".join(pages), end="")


def _vocabulary(path: str) -> t5like.data.vocabulary.Vocabulary:
    """The vocabulary of a folder, store, run, preset or published file."""
    from t5like.data.vocabulary import Vocabulary as Pieces
    from t5like.data.vocabulary import load_pieces, make_vocabulary, open_vocabulary

    if presets.find(path).suffix == ".py":
        settings = presets.load(path).data
        folder = etils_path(settings.store) / "vocabulary"
        if not (folder / "vocabulary.json").exists():
            raise UserError(f"{folder} holds no vocabulary yet: run `t5like prepare {path}`.")
        return make_vocabulary(open_vocabulary(folder).pieces, settings.vocabulary)
    given = etils_path(path)
    folder = next((f for f in (given, given / "vocabulary") if (f / "vocabulary.json").exists()), None)
    return open_vocabulary(folder) if folder else Pieces(load_pieces(given))


def _given(paths: list[str], options: VocabularyOptions) -> tuple[tuple[Source, ...], tuple[Filter, ...]]:
    """The sources and filters that all paths stand for."""
    found = [_sources(path, options) for path in paths]
    kinds = {sources[0].kind for path, (sources, _) in zip(paths, found, strict=True) if not has_config(path)}
    for name, readers in (("field", NAMED), ("document", ("text", "files")), ("encoding", PLAIN)):
        if getattr(options, name) != getattr(VocabularyOptions, name) and kinds.isdisjoint(readers):
            named = ", ".join(kind for kind in readers if kind != "files")
            raise UserError(f"--{name} is for files of kind {named}, and none is given: leave it out.")
    filters = found[0][1]
    if any(others != filters for _, others in found):
        raise UserError(
            f"{paths[0]} and others have different data.filters, but one vocabulary is learned through one list of "
            "filters: give paths that agree in them."
        )
    sources = itertools.chain.from_iterable(sources for sources, _ in found)
    named = (dataclasses.replace(source, name=str(number), rate=None) for number, source in enumerate(sources))
    return tuple(named), filters


def _sources(path: str, options: VocabularyOptions) -> tuple[tuple[Source, ...], tuple[Filter, ...]]:
    """The sources and filters that a path stands for."""
    if has_config(path):
        data = presets.load(path).data
        return data.sources, data.filters
    folder = path_of(path)
    kind = "arrow" if any((folder / name).is_file() for name in SAVED) else kind_of(path) or "files"
    if folder.is_dir() and kind != "arrow":
        raise UserError(f"{path} is a folder without a config.json: give files in it, such as '{path}/**/*.txt'.")
    fields: dict[str, Any] = {"kind": kind, "path": path, "on_error": options.on_error}
    fields |= {"fields": (options.field,)} if kind in NAMED else {}
    fields |= {"document": options.document} if kind in ("text", "files") else {}
    fields |= {"encoding": options.encoding} if kind in PLAIN else {}
    return (Source(**fields),), ()


COMMANDS = (
    Command(
        "vocabulary train",
        "paths",
        "learn a vocabulary from files or from a preset's sources",
        train,
        VocabularyOptions,
    ),
    Command("vocabulary show", "paths", "print a text in pieces, their ids, and back", show, ShowOptions),
)
