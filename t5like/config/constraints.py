"""Constraints of an answer's text and length: for commands that generate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from t5like.config.checks import FLAGS, require, require_fields
from t5like.config.marks import applies_to, repeatable

GRAMMARS = ("regex", "json_schema")
WITHOUT_GRAMMAR = ("stop", "bad_words", "allowed_words", "min_new_tokens")


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Constraints of an answer's text and length."""

    stop: Annotated[tuple[str, ...], repeatable()] = ()
    """A string that ends the answer, which is cut before it; may be given several times. A line feed is $'\\n' in
    bash."""
    include_stop_str_in_output: Annotated[bool, applies_to("stop")] = False
    """Leave the stop string at the end of the answer."""
    bad_words: tuple[str, ...] = ()
    """Strings that no answer contains, in whatever pieces, nor within longer words: `art` forbids `party` too."""
    allowed_words: tuple[str, ...] = ()
    """The only words of an answer, which is one or more of them with a space between two, or none between Chinese
    ones; behind the prefix where there is one."""
    prefix: str = ""
    """Text that the answer begins with."""
    min_new_tokens: int = 0
    """Tokens before the end token may come; those of the prefix do not count."""
    regex: str = ""
    """A regular expression (of Rust's regex) that the whole answer matches; needs the extra `grammar`."""
    json_schema: str = ""
    """File with a JSON schema that the answer follows, or `any` for any JSON; needs the extra `grammar`."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        for name in ("stop", "bad_words", "allowed_words"):
            for string in getattr(self, name):
                require(bool(string), f"--{name} has an empty string, which every text contains: leave it out.")
                require(_is_utf8(string), f"--{name} {string!a} is no valid UTF-8.")
        for word in self.allowed_words:
            require(
                word == word.strip(" "),
                f"--allowed_words {word!r} begins or ends with a space: leave that out, since spaces stand between "
                "words anyway.",
            )
        require(_is_utf8(self.prefix), f"--prefix {self.prefix!a} is no valid UTF-8.")
        require(self.min_new_tokens >= 0, f"--min_new_tokens {self.min_new_tokens} must not be negative.")
        self._require_possible()

    def _require_possible(self) -> None:
        """Raises `UserError` for options that contradict each other."""
        for bad in self.bad_words:
            within = [word for word in self.allowed_words if bad not in word]
            require(
                bool(within) or not self.allowed_words,
                f"--bad_words {bad!r} is in every one of --allowed_words: leave one of the two out.",
            )
            require(bad not in self.prefix, f"--prefix {self.prefix!r} has {bad!r} of --bad_words in it.")
        for stop in self.stop:
            require(
                stop not in self.prefix,
                f"--prefix {self.prefix!r} has the stop string {stop!r} in it, so no answer would go on behind it.",
            )
        require(not (self.regex and self.json_schema), "--regex and --json_schema exclude each other: give one.")
        if self.grammar:
            for name in WITHOUT_GRAMMAR:
                require(
                    not getattr(self, name),
                    f"--{name} cannot be joined with --{self.grammar}: leave one out, since the grammar alone says how "
                    "an answer goes on and ends.",
                )

    @property
    def grammar(self) -> str:
        """The option that gives a grammar, empty where none does."""
        return next((name for name in GRAMMARS if getattr(self, name)), "")

    def require_alone(self, most: int, num_beams: int = 1) -> None:
        """Raises `UserError` if answers of up to `most` tokens, found with so many beams, cannot keep to these."""
        require(
            self.min_new_tokens <= most,
            f"--min_new_tokens {self.min_new_tokens} is more than --tokens {most}: lower it or raise --tokens.",
        )
        require(
            num_beams == 1 or not self.grammar,
            f"--{self.grammar} cannot be joined with --num_beams {num_beams}, since a grammar follows one answer: "
            "leave --num_beams at 1.",
        )


def _is_utf8(text: str) -> bool:
    """False for halves of surrogate pairs, which stand for bytes of the command line that are no UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
