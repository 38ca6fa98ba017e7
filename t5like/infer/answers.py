"""Texts for the prompts of a list or a file of any size: in few shapes, numbered, and in memory that is bounded."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

from t5like.infer.batches import Batches, in_parts
from t5like.infer.generate import Generator, Text
from t5like.model.sharding import Params

NOTHING = Text("", 0.0, ())


def numbered_texts(
    generator: Generator,
    params: Params,
    prompts: Iterable[str],
    batch: int,
    within: Callable[[], AbstractContextManager[None]],
    known: Callable[[int], bool] = lambda number: False,
) -> Iterator[tuple[int, str, list[Text]]]:
    """Number, prompt and texts of each prompt, the best first; those of prompts of one length come together.

    An empty prompt has an empty text. The prompts are read in parts, and numbered from 0.

    Args:
      within: what each batch is computed in; nothing of it is left while the iterator waits.
      known: True for numbers whose texts are not asked for. Batches of these alone are left out.

    Raises:
      UserError: a prompt is longer than the model allows, or the model has no decoder.
    """
    batches = Batches(batch)
    for first, part in in_parts(prompts, batches.part):
        if first and all(map(known, range(first, first + len(part)))):
            continue  # but the first part, which chooses the lengths of all
        filled = [n for n, prompt in enumerate(part) if prompt.strip()]
        yield from ((first + n, prompt, [NOTHING]) for n, prompt in enumerate(part) if not prompt.strip())
        framed, numbers = generator.framed([part[n] for n in filled]), [first + n for n in filled]
        for together in batches(list(map(len, framed))):
            if all(known(numbers[n]) for n in together.members):
                continue
            count = batches.rows(together)
            rows, own = together.full(framed, count), together.full(numbers, count)
            with within():
                texts = generator.texts(params, rows, own, together.length)
            yield from (
                (n, part[n - first], text) for n, text in zip(own[: len(together.members)], texts, strict=False)
            )
