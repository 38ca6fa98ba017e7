"""The task that columns suggest, by their types, their names, and the lengths of their texts."""

import dataclasses
import itertools
import re
import string
from collections.abc import Callable, Sequence

from t5like.config.tasks import TEXTS
from t5like.errors import UserError, did_you_mean
from t5like.tasks.asked import Asked
from t5like.tasks.survey import Column, Survey

LABELS = ("label", "labels", "gold_label", "class", "category", "target", "intent", "sentiment", "is_duplicate")
LABELS += ("quality", "label_text", "coarse_label", "stars", "rating", "topic", "y")
"""Usual names of the label, the likelier ones first."""
SCORES = ("score", "similarity", "similarity_score", "rating", "value", "relatedness_score", "label")
PAIRS = (
    *(("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence")),
    *(("text_a", "text_b"), ("text1", "text2"), ("#1 string", "#2 string"), ("s1", "s2"), ("query", "passage")),
    *(("query", "document"), ("first", "second"), ("claim", "evidence")),
)
"""Usual names of two texts."""
INPUTS = ("text", "sentence", "content", "review", "document", "body", "tweet", "comment", "question", "title")
INPUTS += ("utterance",)
WRITTEN = {
    "summarise": (("document", "article", "text", "source", "dialogue"), ("summary", "highlights", "tldr")),
    "title": (("abstract", "text", "content", "body"), ("title", "headline")),
    "code": (("nl", "docstring", "anno", "intent", "java"), ("code", "snippet", "cs", "python")),
    "answer": (("question", "query", "prompt"), ("answer", "answers", "response", "completion")),
}
"""Usual names of a text and of the one that is written, by kind."""
LONGEST_WORD = 20
"""Characters of a word at most, in the mean; longer ones are sentences."""
SUMMARY = 3.0
"""Times that a text is longer than its summary."""


def guess(survey: Survey, asked: Asked) -> Asked:
    """The task that a user asks for, with what is left open as the columns suggest it.

    Raises:
      UserError: there is no column of a name that is given, or nothing suggests what is left open.
    """
    _check_names(survey, asked)
    finders = FINDERS if not asked.task else [find for find in FINDERS if asked.task in KINDS[find]]
    for find in finders:
        if (found := find(survey, asked)) is not None:
            return found
    there = ", ".join(f"{c.name} ({c.type})" for c in survey.columns.values())
    said = f"--task {asked.task} with" if asked.task else "a task with"
    raise UserError(
        f"{survey.source.path} has the columns {there}: choose {said} --input and --target among them, such as "
        f"--task {asked.task or 'classify'} --input COLUMN --target COLUMN."
    )


def _check_names(survey: Survey, asked: Asked) -> None:
    for flag in ("input", "second", "context", "target"):
        for name in filter(None, [getattr(asked, flag)]):
            _require(survey, name, f"--{flag} {name}")
    for name in asked.candidates:
        _require(survey, name, f"--candidates {name}")


def _require(survey: Survey, name: str, given: str) -> None:
    there = list(survey.columns)
    inside = any(name.startswith(f"{column}.") or column.startswith(f"{name}.") for column in there)
    if name not in there and not inside:
        hint = did_you_mean(name, there).rstrip(".")
        listed = "" if "there are" in hint else f" There are {', '.join(there)}."
        raise UserError(f"{given}: {survey.source.path} has no such column{hint}.{listed}".replace("?.", "?"))


def _filled(asked: Asked, kind: str, **columns: str | tuple[str, ...]) -> Asked:
    """The task with columns where none are given."""
    new = {name: value for name, value in columns.items() if value and not getattr(asked, name)}
    return dataclasses.replace(asked, task=asked.task or kind, **new)  # pyright: ignore[reportArgumentType]


def _named(columns: Sequence[Column], names: Sequence[str]) -> Column | None:
    """The column of the first of some names that there is, by the end of a name with dots."""
    by_name = {column.name.lower().rpartition(".")[2]: column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def _chat(survey: Survey, asked: Asked) -> Asked | None:
    messages = survey.of_type("messages")
    if not messages and not (asked.task == "chat" and asked.input):
        return None
    return _filled(asked, "chat", input=messages[0].name if messages else "")


def _span(survey: Survey, asked: Asked) -> Asked | None:
    texts = survey.of_type("text", "label", "constant", "words")
    context = asked.context or _name(_named(texts, ("context", "passage", "paragraph", "document")))
    question = asked.input or _name(_named(texts, ("question", "query", "input")))
    answers = survey.of_type("answers")
    target = asked.target or (answers[0].name if answers else _name(_named(texts, ("answers", "answer", "target"))))
    if not (context and question and target):
        return None
    return _filled(asked, "span", input=question, context=context, target=target)


def _alpaca(survey: Survey, asked: Asked) -> Asked | None:
    """Instructions with an input, which is empty in some rows, and an output."""
    there = survey.columns.keys()
    if not {"instruction", "output"} <= there or asked.input or asked.target:
        return None
    more = {"context": "input", "prompt": "{input}\n{context}\n"} if "input" in there else {}
    return _filled(asked, "text", input="instruction", target="output", **more)


def _tag(survey: Survey, asked: Asked) -> Asked | None:
    words, tags = survey.of_type("words", "tags"), survey.of_type("tags", "list")
    target = asked.target or _name(_named(tags, ("tags", "ner_tags", "labels", "pos_tags", "label")) or _first(tags))
    words = [c for c in words if c.name != target and sum(map(len, c.within)) < LONGEST_WORD * len(c.within)]
    usual = ("words", "tokens", "sentence", "text")
    source = asked.input or _name(_named(words, usual) or _first(words))
    if asked.task == "tag" and not (source and target):
        texts = survey.of_type("text", "label")
        source = source or _name(_named(texts, usual) or _first(texts))
        target = target or _name(_named(texts, ("tags", "labels", "label")))
    alike = (
        survey.columns[source].filled == survey.columns[target].filled
        if {source, target} <= survey.columns.keys()
        else True
    )
    return _filled(asked, "tag", input=source, target=target) if source and target and alike else None


def _choice(survey: Survey, asked: Asked) -> Asked | None:
    lists = survey.of_type("words", "tags", "list")
    listed = _named(lists, ("choices", "options", "candidates", "endings", "answers"))
    numbered = [
        c.name
        for c in survey.columns.values()
        if re.search(r"(ending|choice|option|answer|sol|candidate)[ _]?(\d|[a-e])$", c.name.lower())
    ]
    named = tuple(numbered) if len(numbered) > 1 else _lettered(survey)
    candidates = asked.candidates or ((listed.name,) if listed else named)
    if not candidates and asked.task != "choice":
        return None
    rest = [c for c in survey.columns.values() if c.name not in candidates]
    right = ("label", "answer", "target", "gold", "answer_key", "answerkey", "correct")
    target = asked.target or _name(_named(rest, right))
    texts = [c for c in rest if c.type in ("text", "label", "constant") and c.name != target]
    question = asked.input or _name(
        _named(texts, ("question", "query", "sent2", "goal", "sentence", "input", "text")) or _longest(texts)
    )
    context = _name(_named([c for c in texts if c.name != question], ("context", "passage", "article", "paragraph")))
    if not (candidates and target and question):
        return None
    return _filled(asked, "choice", input=question, context=context, candidates=candidates, target=target)


def _lettered(survey: Survey) -> tuple[str, ...]:
    """The columns A, B, C and so on, three or more, if another one has their letters alone."""
    names = {c.name.upper(): c.name for c in survey.columns.values() if len(c.name) == 1}
    letters = list(itertools.takewhile(names.__contains__, string.ascii_uppercase))
    others = (c for c in survey.columns.values() if c.name not in names.values())
    right = any({*map(str.upper, c.values)} <= {*letters} for c in others if c.values)
    return tuple(names[letter] for letter in letters) if len(letters) > 2 and right else ()


def _regress(survey: Survey, asked: Asked) -> Asked | None:
    numbers = [c for c in survey.columns.values() if c.is_numeric and c.distinct > 2]
    fractions = [c for c in numbers if c.has_fractions]
    if asked.task == "regress":
        target = asked.target or _name(_named(numbers, SCORES) or _first(fractions) or _first(numbers))
    elif asked.target:
        return None
    else:
        alone = len(fractions) == 1 and (_bare(survey) or not _label(survey))
        target = _name(_named(fractions, SCORES) or (fractions[0] if alone else None))
    first, second = _texts(survey, asked, target)
    return _filled(asked, "regress", input=first, second=second, target=target) if target and first else None


def _pair(survey: Survey, asked: Asked) -> Asked | None:
    target = asked.target or _name(_label(survey))
    first, second = _texts(survey, asked, target)
    return _filled(asked, "pair", input=first, second=second, target=target) if target and first and second else None


def _classify(survey: Survey, asked: Asked) -> Asked | None:
    target = asked.target or _name(_label(survey))
    multi = asked.multi_label
    if not target and asked.task in ("", "classify"):
        lists = [
            c for c in survey.of_type("tags", "words") if c.name.lower() in (*LABELS, "tags", "genres", "emotions")
        ]
        target, multi = _name(_first(lists)), bool(lists)
    elif target in survey.columns and survey.columns[target].type in ("tags", "words"):
        multi = True
    texts = [c for c in survey.of_type("text", "label") if c.name != target]
    source = asked.input or _name(_named([c for c in texts if c.type == "text"], INPUTS) or _longest(texts))
    asked = dataclasses.replace(asked, multi_label=multi)
    return _filled(asked, "classify", input=source, target=target) if target and source else None


def _written(survey: Survey, asked: Asked) -> Asked | None:
    texts = survey.of_type("text") or survey.of_type("text", "label")
    if len(texts) < 2 and asked.task:
        texts = survey.of_type("text", "label")
    kind, source, target = "", asked.input, asked.target
    for name, (inputs, outputs) in WRITTEN.items():
        one, other = _named(texts, inputs), _named(texts, outputs)
        if one and other and one is not other and not kind and not (source or target):
            kind, source, target = name, one.name, other.name
    rest = [c for c in texts if c.name not in (source, target)]
    rest = sorted(sorted(rest, key=lambda c: -c.mean)[: 2 - bool(source) - bool(target)], key=texts.index)
    source = source or _name(rest.pop(0) if rest else None)
    target = target or _name(rest.pop(0) if rest else None)
    if not (source and target):
        return None
    return _filled(asked, kind or _kind_of_text(survey, source, target), input=source, target=target)


def _kind_of_text(survey: Survey, source: str, target: str) -> str:
    """translate, summarise or text, by the names, scripts and lengths of two columns."""
    if not {source, target} <= survey.columns.keys():
        return "text"
    one, other = survey.columns[source], survey.columns[target]
    languages = all(
        re.fullmatch(r"(.*\.)?[a-z]{2,3}([-_][a-z]{2,4})?", name, re.IGNORECASE) for name in (source, target)
    )
    scripts = abs(one.chinese / max(one.filled, 1) - other.chinese / max(other.filled, 1)) > 0.5
    if languages or scripts:
        return "translate"
    return "summarise" if one.mean > SUMMARY * max(other.mean, 1) else "text"


def _label(survey: Survey) -> Column | None:
    """The column of the labels: by its name, or the one of the fewest values without gaps."""
    labels = survey.of_type("label")
    if named := _named(labels, LABELS):
        return named
    whole = [column for column in labels if column.missing == 0 or len(survey.rows) > 1]
    return min(whole, key=lambda column: (column.distinct, -list(survey.columns).index(column.name)), default=None)


def _texts(survey: Survey, asked: Asked, target: str) -> tuple[str, str]:
    """The columns of one text or of two: by their names, or where there are two without names."""
    texts = [c for c in survey.of_type("text", "label") if c.name != target]
    first, second = asked.input, asked.second
    for one, other in PAIRS:
        pair = _named(texts, (one,)), _named(texts, (other,))
        if all(pair) and not (first or second):
            first, second = map(_name, pair)
    texts = [c for c in texts if c.type == "text" and c.name not in (first, second)]
    alike = len(texts) == 2 and 0.5 < texts[0].mean / max(texts[1].mean, 1) < 2
    if not first and not second and ((alike and _bare(survey)) or (asked.task == "pair" and len(texts) > 1)):
        chosen = sorted(sorted(texts, key=lambda c: -c.mean)[:2], key=texts.index)
        return chosen[0].name, chosen[1].name
    if first and not second and asked.task == "pair" and texts:
        second = _name(_longest(texts))
    return first or _name(_longest(texts)), second


def _bare(survey: Survey) -> bool:
    """True if columns have numbers and no names."""
    return all(name.isdecimal() for name in survey.columns)


def _first(columns: Sequence[Column]) -> Column | None:
    return columns[0] if columns else None


def _longest(columns: Sequence[Column]) -> Column | None:
    return max(columns, key=lambda column: column.mean, default=None)


def _name(column: Column | None) -> str:
    return column.name if column else ""


FINDERS: list[Callable[[Survey, Asked], Asked | None]] = [
    *(_chat, _span, _alpaca, _tag, _choice, _regress, _pair, _classify, _written)
]
"""Each finds one task; the first that does has it."""
KINDS: dict[Callable[[Survey, Asked], Asked | None], tuple[str, ...]] = {
    _chat: ("chat",),
    _span: ("span",),
    _alpaca: ("text",),
    _tag: ("tag",),
    _choice: ("choice",),
    _regress: ("regress",),
    _pair: ("pair",),
    _classify: ("classify",),
    _written: TEXTS,
}
"""The kinds of tasks that each finds."""
