"""The frame of a text: the special tokens before and behind it, as a tokenizer's post-processor puts them there."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, SupportsInt


class Frame(NamedTuple):
    """Ids of the special tokens before and behind a text."""

    before: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()

    def around(self, ids: Iterable[SupportsInt]) -> list[int]:
        """The text in its frame."""
        return [*self.before, *map(int, ids), *self.behind]


def frame_of_post_processor(described: Mapping[str, Any] | None) -> Frame:
    """The frame of a single text by the `post_processor` of a tokenizer.json.

    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", …}}, {"Sequence": {"id": "A", …}}],
     "special_tokens": {"<s>": {"ids": [1], …}}}  gives  Frame(before=(1,), behind=())
    """
    match (described or {}).get("type"):
        case "Sequence":
            frame = Frame()
            for one in (described or {})["processors"]:  # each takes what the one before it made
                outer = frame_of_post_processor(one)
                frame = Frame(outer.before + frame.before, frame.behind + outer.behind)
            return frame
        case "BertProcessing" | "RobertaProcessing":
            return Frame(*(((described or {})[side][1],) for side in ("cls", "sep")))
        case "TemplateProcessing":
            return _of_template(described or {})
    return Frame()  # ByteLevel changes offsets alone


def _of_template(described: Mapping[str, Any]) -> Frame:
    numbers = {name: tuple(token["ids"]) for name, token in described["special_tokens"].items()}
    sides: tuple[list[int], list[int]] = [], []
    passed = False
    for part in described["single"]:
        if "Sequence" in part:
            passed = True
        else:
            sides[passed].extend(numbers[part["SpecialToken"]["id"]])
    return Frame(tuple(sides[0]), tuple(sides[1]))
