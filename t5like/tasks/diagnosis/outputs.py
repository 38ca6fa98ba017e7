"""The shape of texts that a model wrote: empty, repeating, copied, too long, all the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

LONGEST_LOOP, TIMES = 8, 4
"""A text repeats if up to so many words stand so many times in a row."""


@dataclass(frozen=True)
class Outputs:
    """Counts over all outputs."""

    examples: int
    empty: int
    distinct: int
    distinct_targets: int
    repeated: int
    """Outputs in which some words stand four times in a row, and in no reference."""
    length_ratio: float | None
    """Length of all outputs over that of all first references; None if these are empty."""
    unit: str
    """Lengths are in words, or of Chinese in characters."""
    equal_to_input: int | None
    """Outputs that are the input; None where inputs are not known."""
    found_in_input: int | None
    """Outputs that stand in the input word for word; not those that are empty."""

    def as_text(self) -> Iterator[str]:
        """A line for each count."""
        yield f"distinct outputs       {self.distinct:,} (distinct targets: {self.distinct_targets:,})"
        yield f"empty                  {self._share(self.empty)}"
        yield f"repeating themselves   {self._share(self.repeated)}"
        if self.equal_to_input is not None and self.found_in_input is not None:
            yield f"equal to the input     {self._share(self.equal_to_input)}"
            yield f"found in the input     {self._share(self.found_in_input)}"
        if self.length_ratio is not None:
            yield f"length over target's   {self.length_ratio:.2f}, in {self.unit}"

    def _share(self, count: int) -> str:
        return f"{count:,} ({count / self.examples:.1%})"


def words(text: str, chinese: bool) -> list[str]:
    """Words by white space, or the characters that are none."""
    return list("".join(text.split())) if chinese else text.split()


def outputs(
    predictions: Sequence[str], targets: Sequence[tuple[str, ...]], inputs: Sequence[str], chinese: bool
) -> Outputs:
    """The counts of `predictions` beside the references of each, and their inputs where these are given."""
    tokens = [words(text, chinese) for text in predictions]
    wanted = [[words(reference, chinese) for reference in target] for target in targets]
    loops = sum(repeats(said) and not any(map(repeats, right)) for said, right in zip(tokens, wanted, strict=True))
    length = sum(len(right[0]) for right in wanted if right)
    pairs = [(said.strip(), given.strip()) for said, given in zip(predictions, inputs, strict=False)]
    return Outputs(
        examples=len(predictions),
        empty=sum(not said for said in tokens),
        distinct=len(set(predictions)),
        distinct_targets=len(set(targets)),
        repeated=loops,
        length_ratio=sum(map(len, tokens)) / length if length else None,
        unit="characters" if chinese else "words",
        equal_to_input=sum(said == given for said, given in pairs) if inputs else None,
        found_in_input=sum(bool(said) and said in given for said, given in pairs) if inputs else None,
    )


def repeats(tokens: Sequence[str]) -> bool:
    """True if some n-gram of up to eight tokens stands four times in a row: "a b a b a b a b"."""
    if len(tokens) < TIMES:
        return False
    numbers = np.unique(np.array(tokens, object), return_inverse=True)[1]
    for size in range(1, min(LONGEST_LOOP, len(tokens) // TIMES) + 1):
        equal = np.concatenate([[0], np.cumsum(numbers[size:] == numbers[:-size])])
        run = (TIMES - 1) * size
        if np.any(equal[run:] - equal[:-run] == run):
            return True
    return False
