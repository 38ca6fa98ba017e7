"""Commands to try with a run, on text like its own."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import t5like.data.vocabulary
    import t5like.infer.passages
    import t5like.runs.opened

CODE = {
    "encoder-decoder": "generate {run} --prompt 'Return the <extra_id_0> of the list.'",
    "decoder": "generate {run} --prompt 'def main():' --temperature 0.8 --top_p 0.9",
    "encoder": "fill {run} --text 'for i in {mask}(10):'",
}
"""By family, for runs on Python's library, as the tiny presets are."""
OWN = {
    "encoder-decoder": "generate {run} --prompt {text}",
    "decoder": "generate {run} --prompt {text} --temperature 0.8 --top_p 0.9",
    "encoder": "fill {run} --text {text}",
}
"""The same for runs on other text, of which a piece is the prompt."""
IMPORTED = {
    "sentinels": "generate {run} --prompt 'The <extra_id_0> of the list.'",
    "encoder-decoder": "generate {run} --prompt 'The cat sat on the mat.'",
    "decoder": "generate {run} --prompt 'Once upon a time'",
    "encoder": "fill {run} --text 'The {mask} sat on the mat.'",
}
CHINESE = {
    "sentinels": "generate {run} --prompt '今天<extra_id_0>很好。'",
    "encoder-decoder": "generate {run} --prompt '今天天气很好。'",
    "decoder": "generate {run} --prompt '从前有座山，'",
    "encoder": "fill {run} --text '今天天气{mask}好。'",
}
"""For imported runs, whose text nobody knows, by the language of their vocabularies."""
AROUND = 32
"""Characters on either side of the gap of a prompt."""


def trained(restored: t5like.runs.opened.Restored, passages: list[t5like.infer.passages.Passage]) -> str:
    """A command that asks a run for something of the kind of its text, with {run} in it; {mask} is filled in."""
    family, mask = restored.config.model.family, restored.vocabulary.written("mask")
    if not passages or any(source.kind == "python_library" for source in restored.config.data.sources):
        return CODE[family].format(run="{run}", mask=mask)
    text = excerpt(passages[0].shown, mask if family == "encoder" else "<extra_id_0>")
    return OWN[family].format(run="{run}", text=shlex.quote(text))


def excerpt(text: str, gap: str) -> str:
    """A few words of a text on one line, around its first gap, or else its beginning.

    "This is a rather long text with <extra_id_0> in it and <extra_id_1>." becomes, where the reach is 24 characters,
    "a rather long text with <extra_id_0> in it and".
    """
    before, found, after = " ".join(text.split()).partition(gap)
    if not found:
        return _begin(before, 2 * AROUND).strip("- ")
    after = re.split(r"<extra_id_\d+>", after.partition(gap)[0])[0]
    return f"{_begin(before[::-1], AROUND)[::-1]}{found}{_begin(after, AROUND)}".strip("- ")


def _begin(text: str, most: int) -> str:
    """The first characters of a text, without a part of a word at their end where there are words."""
    cut = text[:most]
    through = len(text) > most and text[most] != " " and " " in cut.strip()
    return cut.rpartition(" ")[0] if through else cut


def imported(family: str, vocabulary: t5like.data.vocabulary.Vocabulary) -> str:
    """A command to try with an imported run, with {run} in it; {mask} is filled in."""
    chinese = sum(bool(re.search("[\u4e00-\u9fff]", name)) for name in map(vocabulary.name, range(vocabulary.size)))
    examples = CHINESE if chinese > vocabulary.size // 3 else IMPORTED
    kind = "sentinels" if family == "encoder-decoder" and len(vocabulary.sentinels) else family
    return examples[kind].format(run="{run}", mask=vocabulary.written("mask"))
