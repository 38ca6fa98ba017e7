"""Results of a run's methods: lists that a notebook shows as a table, and a terminal as blocks of lines."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, overload, runtime_checkable

from t5like.data.vocabulary import Vocabulary
from t5like.infer.fill import Candidate
from t5like.infer.score import Asked, TokenScores
from t5like.tasks.prediction import Value

MOST = 20
"""Results that are shown of a list, and scores of a result."""


@runtime_checkable
class Shown(Protocol):
    """A result that can be shown."""

    def cells(self) -> dict[str, str]:
        """Its fields as texts, by the names of their columns."""
        ...


Item = TypeVar("Item", bound=Shown)


@dataclass(frozen=True)
class Results(Generic[Item]):
    """Results in the order of what was asked: with a length, indices, slices and iteration, as a list has them."""

    items: Sequence[Item]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    @overload
    def __getitem__(self, number: int) -> Item: ...
    @overload
    def __getitem__(self, number: slice) -> "Results[Item]": ...
    def __getitem__(self, number: int | slice) -> "Item | Results[Item]":
        return Results(self.items[number]) if isinstance(number, slice) else self.items[number]

    def __repr__(self) -> str:
        """The first results, a line for each of their fields."""
        shown = [item.cells() for item in self.items[:MOST]]
        width = max((len(name) for cells in shown for name in cells), default=0)
        blocks = ["\n".join(f"{name:<{width}}  {text}" for name, text in cells.items()) for cells in shown]
        return "\n\n".join([*blocks, *self._more()]) or "no results"

    def _repr_html_(self) -> str:
        """The first results as a table, for notebooks."""
        shown = [item.cells() for item in self.items[:MOST]]
        columns = list(dict.fromkeys(name for cells in shown for name in cells))
        rows = [_row("th", ["", *columns])]
        rows += [_row("td", [str(n), *(cells.get(name, "") for name in columns)]) for n, cells in enumerate(shown)]
        return f"<table>{''.join(rows)}</table>{''.join(f'<p>{more}</p>' for more in self._more())}"

    def _more(self) -> list[str]:
        hidden = len(self.items) - MOST
        return [f"... and {hidden:,} more"] if hidden > 0 else []


def _row(tag: str, texts: Sequence[str]) -> str:
    style = ' style="text-align: left; white-space: pre-wrap"'
    return f"<tr>{''.join(f'<{tag}{style}>{html.escape(text)}</{tag}>' for text in texts)}</tr>"


class TokenScore(NamedTuple):
    """A token as the vocabulary writes it, and its log-probability in nats; None of one that nothing predicts."""

    token: str
    score: float | None


class Answer(NamedTuple):
    """An answer to a prompt. `filled` is the prompt with its sentinels replaced by their spans of the answer, in
    brackets; None where it has none. `score` and `token_scores` are what `Scored` has, where they were asked for."""

    prompt: str
    text: str
    filled: str | None = None
    score: float | None = None
    token_scores: Sequence[TokenScore] = ()
    others: tuple["Answer", ...] = ()
    """The next best, where several answers were asked for."""

    def __str__(self) -> str:
        return "\n".join([self.filled or self.text, *map(str, self.others)])

    def cells(self) -> dict[str, str]:
        """Its fields as texts."""
        found = {"prompt": self.prompt, "answer": self.text} | ({"filled": self.filled} if self.filled else {})
        found |= {} if self.score is None else {"score": f"{self.score:.4f}"}
        return found | {f"answer {number}": str(other) for number, other in enumerate(self.others, 2)}

    def record(self) -> dict[str, Any]:
        """Its fields as values of JSON: what `t5like generate --json` prints."""
        return (
            {"prompt": self.prompt} | self._own() | ({"others": [o._own() for o in self.others]} if self.others else {})
        )

    def _own(self) -> dict[str, Any]:
        found: dict[str, Any] = {"answer": self.text} | ({"filled": self.filled} if self.filled else {})
        if self.score is not None:
            found |= {"score": self.score, "token_scores": [list(each) for each in self.token_scores]}
        return found


class Filled(NamedTuple):
    """A text with masks, and the likeliest tokens for each, best first."""

    text: str
    masks: list[list[Candidate]]

    def cells(self) -> dict[str, str]:
        """Its fields as texts."""
        lines = {
            f"mask {number}": _scores({c.text: c.probability for c in m}) for number, m in enumerate(self.masks, 1)
        }
        return {"text": self.text} | lines


class Scored(NamedTuple):
    """A text, what it stands behind, and the log-probabilities of its tokens."""

    text: str
    input: str | None
    token_scores: Sequence[TokenScore]
    size: tuple[int, int]
    """Characters, and bytes in UTF-8, of what has a score."""

    @property
    def tokens(self) -> int:
        """The tokens that have a score."""
        return sum(each.score is not None for each in self.token_scores)

    @property
    def score(self) -> float | None:
        """Their log-likelihood, or pseudo-log-likelihood, in nats; None where there are none."""
        return math.fsum(each.score for each in self.token_scores if each.score is not None) if self.tokens else None

    @property
    def figures(self) -> dict[str, float | int | None]:
        """The score, the tokens that have one, and the score a token, a character and a byte: what `t5like score`
        writes."""
        score, (characters, bytes_) = self.score, self.size
        each = {"token": self.tokens, "character": characters, "byte": bytes_}
        means = {
            f"score_per_{name}": None if score is None or not count else score / count for name, count in each.items()
        }
        return {"score": score, "tokens": self.tokens, **means}

    def cells(self) -> dict[str, str]:
        """Its fields as texts."""
        listed = "  ".join(
            f"{t.token} {'' if t.score is None else f'{t.score:.3f}'}".rstrip() for t in self.token_scores
        )
        figures = {name: f"{value:.4f}" for name, value in self.figures.items() if isinstance(value, float)}
        given = {} if self.input is None else {"input": self.input}
        return {**given, "text": self.text, **figures, "token scores": listed}


def scored_of(asked: Asked, found: TokenScores, vocabulary: Vocabulary) -> Scored:
    """The score of a text with its tokens by their names."""
    text = asked.text
    if None in found.scores:
        text = vocabulary.decode(t for t, score in zip(*found, strict=True) if score is not None)
    pairs = [TokenScore(vocabulary.name(token), score) for token, score in zip(*found, strict=True)]
    return Scored(asked.text, asked.input, pairs, (len(text), len(text.encode())))


class Predicted(NamedTuple):
    """A prediction for an example, as `t5like.tasks.prediction.Prediction` has it, beside the example's first text."""

    input: str
    value: Value
    scores: dict[str, float]
    """Probabilities of the labels or candidates; empty where there are none."""
    text: str | None
    """The text that was written, of models that write."""

    def __str__(self) -> str:
        return ", ".join(self.value) if isinstance(self.value, tuple) else str(self.value)

    def cells(self) -> dict[str, str]:
        """Its fields as texts."""
        scores = {"scores": _scores(self.scores)} if self.scores else {}
        return {"input": self.input, "prediction": str(self)} | scores


def _scores(scores: Mapping[str, float]) -> str:
    """The largest scores, descending: `good 0.910  bad 0.090`."""
    ordered = sorted(scores.items(), key=lambda item: -item[1])
    return "  ".join(f"{name} {score:.3f}" for name, score in ordered[:MOST])
