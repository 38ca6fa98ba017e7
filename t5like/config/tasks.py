"""Tasks: what the rows of a source ask and answer, for models of all three families.

A T5 is given a prompt and learns the text of the target, a GPT the same behind the prompt, and a model with a head
learns the target itself: which of these is `data.objective.kind`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.config.checks import require, require_fields
from t5like.config.marks import applies_to

Kind = Literal[
    "classify",
    "pair",
    "regress",
    "tag",
    "span",
    "text",
    "translate",
    "summarise",
    "answer",
    "code",
    "title",
    "chat",
    "choice",
]
"""The kinds of tasks."""
TEXTS = ("text", "translate", "summarise", "answer", "code", "title")
"""Kinds whose target is any text."""
LABELLED = ("classify", "pair", "tag")
"""Kinds whose targets are of a fixed set of labels."""
ANY_TEXT = ("sequence_to_sequence", "prompt_target")
"""Objectives that learn every kind as text."""
OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    "classify": (*ANY_TEXT, "classification", "multi_label_classification"),
    "pair": (*ANY_TEXT, "classification"),
    "regress": (*ANY_TEXT, "regression"),
    "tag": (*ANY_TEXT, "token_classification"),
    "span": (*ANY_TEXT, "span"),
    "chat": ANY_TEXT,
    "choice": (*ANY_TEXT, "multiple_choice"),
} | dict.fromkeys(TEXTS, ANY_TEXT)
"""The objectives that learn a kind of task."""
METRICS: Mapping[str, str] = {
    "classify": "accuracy",
    "pair": "accuracy",
    "regress": "pearson",
    "tag": "entities",
    "span": "squad",
    "choice": "accuracy",
    "text": "exact_match",
    "translate": "bleu",
    "summarise": "rouge",
    "answer": "squad",
    "code": "bleu",
    "title": "rouge",
    "chat": "rouge",
}
"""The metric of a kind, where the task names none."""
PROMPTS: Mapping[str, str] = {
    "classify": "{input}",
    "pair": "first: {input} second: {second}",
    "regress": "{input}",
    "tag": "{input}",
    "span": "question: {input} context: {context}",
    "choice": "{input}",
    "chat": "",
} | dict.fromkeys(TEXTS, "{input}")
"""The prompt of a kind, where the task names none."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task: the fields of a source's rows, and how they become what a model reads, writes and is judged by."""

    kind: Kind = "classify"
    """A label of a text, or of two; a number for a text or two; a label of each word; an answer that stands in a
    context, or none; a text from a text (translate, summarise, answer, code and title are names of it with a metric of
    their own); the assistant's turns of a dialogue; one of several candidates."""
    input: str = "text"
    """Field of the text; a dot enters a field within a field, or a list by a number. Of tag, a list of words, or words
    with spaces between; of span and choice, the question; of chat, a list of messages with role and content."""
    second: Annotated[str, applies_to("kind", "pair", "regress")] = ""
    """Field of the second text of two."""
    context: Annotated[str, applies_to("kind", "span", "choice", *TEXTS)] = ""
    """Field of the text that is asked about; of a text from a text, one that may be empty."""
    target: Annotated[str, applies_to("has_target", words="all kinds but chat")] = "label"
    """Field of the label, number, labels, answers, text (a list of them are several references), or of the number or
    text of the right candidate. Rows without it can be predicted."""
    candidates: Annotated[tuple[str, ...], applies_to("kind", "choice")] = ()
    """Fields of the candidates, or one field with a list of them."""
    prompt: Annotated[str, applies_to("has_target", words="all kinds but chat")] = ""
    """The text that a T5 or GPT reads: {input}, {second}, {context}, or any field of the row by its name. Empty: the
    kind's own, such as "question: {input} context: {context}"."""
    labels: Annotated[tuple[str, ...], applies_to("kind", *LABELLED)] = ()
    """All labels; their order is that of a head's scores."""
    words: Annotated[tuple[str, ...], applies_to("labels")] = ()
    """Text that a T5 or GPT writes for each label; empty: the labels themselves."""
    multi_label: Annotated[bool, applies_to("kind", "classify")] = False
    """A text has any number of labels: a list, or labels with commas between."""
    unanswerable: Annotated[bool, applies_to("kind", "span")] = False
    """Some questions have no answer in their context, as in SQuAD 2.0."""
    overlap: Annotated[int, applies_to("kind", "span")] = 64
    """Tokens that the windows of a long context share, for models with a head."""
    system: Annotated[str, applies_to("kind", "chat")] = "{content}\n"
    """Template of the system's message."""
    user: Annotated[str, applies_to("kind", "chat")] = "User: {content}\n"
    """Template of the user's messages."""
    assistant: Annotated[str, applies_to("kind", "chat")] = "Assistant: {content}\n"
    """Template of the assistant's messages; what stands before {content} ends the prompt."""
    few: int | None = None
    """Training examples of each label, or in all where there are no labels, chosen by `few_seed`; None: all."""
    few_seed: Annotated[int, applies_to("few")] = 0
    """Seed of the choice of a few examples."""
    metric: str = ""
    """Metric by which the task is judged; empty: the kind's own, such as accuracy, bleu or rouge."""
    chinese: bool = False
    """Scores of text count Chinese characters: BLEU's tokeniser `zh`, ROUGE of characters, CMRC's F1."""
    tokens: int = 0
    """Most tokens of a text that is written; 0: those of a row of targets, or half of a decoder's row."""

    def __post_init__(self) -> None:
        require_fields("data.sources.N.task", self)
        kind = self.kind
        require(bool(self.input), "data.sources.N.task.input is empty: name the field of the text.")
        require(
            kind != "pair" or bool(self.second), "data.sources.N.task.kind='pair' needs data.sources.N.task.second."
        )
        require(
            kind != "span" or bool(self.context),
            "data.sources.N.task.kind='span' needs data.sources.N.task.context, the field of the text.",
        )
        require(
            kind != "choice" or bool(self.candidates),
            "data.sources.N.task.kind='choice' needs data.sources.N.task.candidates, the fields of the candidates.",
        )
        require(
            kind not in LABELLED or len(self.labels) > 1,
            f"data.sources.N.task.kind={kind!r} needs data.sources.N.task.labels, two or more: `t5like finetune` finds "
            "them in the training data.",
        )
        twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
        require(not twice, f"data.sources.N.task.labels has {', '.join(map(repr, twice))} twice.")
        require(
            not self.words or (len(set(self.words)) == len(self.words) == len(self.labels)),
            f"data.sources.N.task.words has {len(self.words)} texts for {len(self.labels)} labels: give each its own.",
        )
        require(self.few is None or self.few > 0, f"data.sources.N.task.few={self.few} must be above 0.")
        require(self.tokens >= 0, f"data.sources.N.task.tokens={self.tokens} must not be negative.")
        require(self.overlap >= 0, f"data.sources.N.task.overlap={self.overlap} must not be negative.")
        for name in ("system", "user", "assistant"):
            template: str = getattr(self, name)
            require(
                template.count("{content}") == 1,
                f"data.sources.N.task.{name}={template!r} must hold {{content}} once.",
            )

    @property
    def has_target(self) -> bool:
        """True if the target is a field of its own."""
        return self.kind != "chat"

    @property
    def is_text(self) -> bool:
        """True if the target is any text."""
        return self.kind in (*TEXTS, "chat")

    @property
    def is_paired(self) -> bool:
        """True if a second text stands beside the first."""
        return bool(self.second or self.context)

    @property
    def judged_by(self) -> str:
        """The name of its metric."""
        if self.metric:
            return self.metric
        if self.multi_label:
            return "multi_label_f1"
        return "cmrc" if self.kind in ("span", "answer") and self.chinese else METRICS[self.kind]

    @property
    def template(self) -> str:
        """The prompt of a T5 or GPT."""
        if not self.prompt and self.kind == "regress" and self.second:
            return PROMPTS["pair"]
        if not self.prompt and self.context:
            return PROMPTS["span"]
        return self.prompt or PROMPTS[self.kind]

    @property
    def written(self) -> tuple[str, ...]:
        """The text of each label."""
        return self.words or self.labels

    @property
    def prompt_fields(self) -> tuple[str, ...]:
        """Fields of rows that the prompt names besides those of the task."""
        own = ("input", "second", "context")
        return tuple(name for name in re.findall(r"\{([^{}]+)\}", self.template) if name not in own)

    @property
    def asked(self) -> tuple[str, ...]:
        """Fields of rows that a question is made of."""
        named = (self.input, self.second, self.context, *self.candidates, *self.prompt_fields)
        return tuple(dict.fromkeys(name for name in named if name))

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields of rows that are read."""
        return tuple(dict.fromkeys((*self.asked, self.target))) if self.has_target else self.asked
