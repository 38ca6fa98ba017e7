"""Answers that follow a regular expression or a JSON schema, by the token masks of llguidance.

llguidance follows bytes, and its masks are of strings of bytes: here of the texts of a spelling (`spelling.py`), so
that an answer follows the grammar in every kind of vocabulary, its first token and its special ones included. The masks
come from the host, one token at a time:

    matches = grammar.begin(rows)
    mask = matches.mask()          # [rows, vocab], True for the tokens that may come
    matches.accept(tokens)         # [rows]
"""

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from t5like.config.constraints import Constraints
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.infer.constrained import prefix_tokens
from t5like.infer.spelling import Spelling, spelling_of
from t5like.json_files import loads
from t5like.storage import path_of

if TYPE_CHECKING:
    import llguidance

SPACES = r"[ \n\t]{1,20}"
"""Spaces between parts of JSON: as many as anybody writes, but not without end."""


class _Texts(NamedTuple):
    """The strings that llguidance knows as tokens: the texts of a spelling, then single bytes, then the end. It takes
    those that begin with the byte FF, which no text in UTF-8 has, for special ones."""

    eos_token_id: int
    tokens: list[bytes]
    byte: dict[int, int]
    """The token of each single byte."""
    bos_token_id: None = None
    special_token_ids: tuple[int, ...] = ()

    def __call__(self, text: bytes) -> list[int]:
        return [self.byte[byte] for byte in text]


class Grammar:
    """A grammar for a vocabulary.

    Args:
      options: with `regex` or `json_schema`, and perhaps a prefix, which is the beginning of what the grammar follows.
      allowed: tokens that may be chosen at all, ends among them.
      ends: tokens that end an answer.

    Raises:
      UserError: llguidance is missing, the grammar is none, or no text of it begins with the prefix.
    """

    def __init__(
        self,
        options: Constraints,
        vocabulary: Vocabulary,
        allowed: Bool[np.ndarray, " vocab"],
        ends: Bool[np.ndarray, " vocab"],
    ):
        self.spelling = spelling_of(vocabulary, len(allowed))
        tokenizer, self._texts = _tokenizer(self.spelling)
        self.allowed, self.ends = allowed, ends
        self._matcher = _matcher(options, tokenizer)
        written, self._context = self.spelling.read(prefix_tokens(options, vocabulary))
        if not self._matcher.consume_tokens(self._texts(written)):
            raise UserError(
                f"--prefix {options.prefix!r} is no beginning of what --{options.grammar} allows: change one of them."
            )

    def begin(self, rows: int) -> "Matches":
        """So many answers, all behind the prefix."""
        return Matches(self, [self._matcher.deep_copy() for _ in range(rows)], [self._context] * rows)

    def row_mask(self, matcher: "llguidance.LLMatcher", context: int) -> Bool[np.ndarray, " vocab"]:
        """The tokens that may follow in one answer: [texts] -> [vocab]."""
        texts = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little").astype(bool)
        adds, then = self.spelling.adds[context], self.spelling.then[context]
        mask = np.where(adds == 0, then != context, texts[adds])
        mask = np.where(self.ends, texts[self._texts.eos_token_id], mask) & self.allowed
        if not mask.any():
            raise UserError(
                "No token of this vocabulary goes on with the text that the grammar asks for: change --regex or "
                "--json_schema, or use a vocabulary that spells every byte."
            )
        return mask


class Matches:
    """Answers that follow a grammar, a row each."""

    def __init__(self, grammar: Grammar, matchers: "list[llguidance.LLMatcher]", contexts: list[int]):
        self._grammar, self._matchers, self._contexts = grammar, matchers, contexts
        self.ended = np.zeros(len(matchers), bool)
        """Rows whose end token has been accepted."""

    def mask(self) -> Bool[np.ndarray, "rows vocab"]:
        """The tokens that may come next in each row; all of them in one that has ended.

        Raises:
          UserError: the vocabulary has none.
        """
        rows = zip(self._matchers, self._contexts, self.ended, strict=True)
        grammar = self._grammar
        return np.stack([grammar.allowed if end else grammar.row_mask(matcher, at) for matcher, at, end in rows])

    def accept(self, tokens: Int[np.ndarray, " rows"]) -> None:
        """Go on with a token for each row, one that its mask has."""
        spelling = self._grammar.spelling
        for row in np.flatnonzero(~self.ended).tolist():
            token, context = int(tokens[row]), self._contexts[row]
            if self._grammar.ends[token]:
                self.ended[row] = True
                continue
            text = int(spelling.adds[context, token])
            accepted = not text or self._matchers[row].consume_token(text)
            assert accepted, f"token {token} is not in the mask of row {row}"
            self._contexts[row] = int(spelling.then[context, token])


def _matcher(options: Constraints, tokenizer: "llguidance.LLTokenizer") -> "llguidance.LLMatcher":
    """The matcher of the grammar that the options name."""
    import llguidance

    if options.regex:
        source, grammar = f"--regex {options.regex!r}", llguidance.LLMatcher.grammar_from_regex(options.regex)
    else:
        source = f"--json_schema {options.json_schema}"
        try:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(
                _schema(options.json_schema), overrides={"whitespace_pattern": SPACES}
            )
        except ValueError as error:
            raise UserError(f"{source} is no JSON schema: {_short(str(error))}.") from None
    if error := llguidance.LLMatcher.validate_grammar(grammar, tokenizer):
        raise UserError(f"{source} cannot be followed: {_short(error)}.")
    return llguidance.LLMatcher(tokenizer, grammar, log_level=0)


def _schema(name: str) -> str:
    """The JSON schema in a file; `any` is that of any JSON."""
    if name == "any":
        return "{}"
    try:
        text = path_of(name).read_text("utf-8")
        loads(text)
    except OSError as error:
        raise UserError(f"--json_schema {name} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise UserError(f"--json_schema {name} is not JSON: {error}.") from None
    return text


def _short(error: str) -> str:
    """The line of an error that says what is wrong: that which begins with "error:", else the first."""
    lines = [line.strip() for line in error.strip().split("\n")]
    return next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0]).rstrip(".:")


@functools.lru_cache(maxsize=2)
def _tokenizer_of(texts: tuple[bytes, ...]) -> "tuple[llguidance.LLTokenizer, _Texts]":
    import llguidance

    special = lambda name: b"\xff[" + name + b"]"  # noqa: E731
    tokens = [text if text and text[0] < 0xFF else special(b"%d" % n) for n, text in enumerate(texts)]
    byte = {text[0]: number for number, text in enumerate(tokens) if len(text) == 1}
    for missing in sorted(set(range(0xFF)) - byte.keys()):
        byte[missing] = len(tokens)
        tokens.append(bytes([missing]))
    found = _Texts(len(tokens), [*tokens, special(b"end")], byte)
    wrapper = llguidance.TokenizerWrapper(found)
    return llguidance.LLTokenizer(wrapper, slices=[]), found


def _tokenizer(spelling: Spelling) -> "tuple[llguidance.LLTokenizer, _Texts]":
    """The texts of a spelling as a tokenizer of llguidance.

    Raises:
      UserError: it is not installed.
    """
    try:
        import llguidance  # noqa: F401
    except ImportError:
        raise UserError(
            "--regex and --json_schema need llguidance: pip install llguidance, or t5like with the extra `grammar`."
        ) from None
    return _tokenizer_of(spelling.texts)
