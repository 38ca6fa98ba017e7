"""Spans in the answers of models that fill sentinels."""

import re

SENTINEL = re.compile(r"(<extra_id_\d+>)")


def spans_of(answer: str) -> dict[str, str]:
    """Sentinel -> the text that follows it in a T5's answer; the first counts where one comes twice."""
    _, *parts = SENTINEL.split(answer)
    spans: dict[str, str] = {}
    for name, span in zip(parts[::2], parts[1::2], strict=True):
        spans.setdefault(name, span.removeprefix(" ").removesuffix(" "))
    return spans


def fill_sentinels(prompt: str, answer: str) -> str:
    """The prompt with each sentinel replaced by the span that a T5 answered, in brackets; `[?]` where there is none."""
    spans = spans_of(answer)
    return SENTINEL.sub(lambda name: f"[{spans.get(name[0], '?')}]", prompt)
